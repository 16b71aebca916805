"""Logs of helexa's processes: key=value lines on stderr, one event a line."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


def _without_expected_traceback(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where a line already says the error in words, its traceback is for debugging only."""
    if "error" in event and not logging.getLogger("helexa").isEnabledFor(logging.DEBUG):
        event.pop("exc_info", None)
    return event


def configure() -> None:
    """Set up structlog and the standard library's logging, once per process. ``HELEXA_LOG`` sets the level."""
    level = logging.getLevelNamesMapping().get(os.environ.get("HELEXA_LOG", "info").upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S"),
            _without_expected_traceback,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
            if sys.stderr.isatty()
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("helexa").setLevel(level)

"""Logs of helexa's processes: key=value lines on stderr, one event a line."""

import logging
import os
import sys

import structlog


def configure() -> None:
    """Set up structlog and the standard library's logging, once per process. ``HELEXA_LOG`` sets the level."""
    level = logging.getLevelNamesMapping().get(os.environ.get("HELEXA_LOG", "info").upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S"),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
            if sys.stderr.isatty()
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

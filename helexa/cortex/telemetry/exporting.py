"""Which tracing the environment asks for: ``otlp`` and OpenTelemetry are imported only where it asks for spans.

Source: OpenTelemetry specification, "OpenTelemetry Environment Variable Specification" and "OpenTelemetry Protocol
Exporter".
"""

import os
from collections.abc import Mapping
from typing import Final

import structlog

from helexa.cortex.telemetry.tracing import ENDPOINTS, Passing, Tracing

_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN: Final = "http/protobuf"
_log = structlog.get_logger()


def make_tracing() -> Tracing:
    """The tracing that this process's environment asks for.

    Never raises: a fleet serves without its traces, and a line in the log says so.
    """
    if not wanted(os.environ):
        return Passing()
    try:
        if (problem := unusable(os.environ)) is not None:
            raise ValueError(problem)  # noqa: TRY301 - there is one end to all that can be wrong
        from helexa.cortex.telemetry.otlp import Exporting

        return Exporting.from_environment()
    except ImportError as error:
        _log.warning("tracing.off", reason=f"OpenTelemetry is not installed: pip install 'helexa[otel]' ({error})")
    except Exception as error:  # noqa: BLE001 - what a library makes of settings that are not ours to check
        _log.warning("tracing.off", reason=str(error) or type(error).__name__)
    return Passing()


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether an environment asks for spans."""
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    named = any(environment.get(name, "").strip() for name in ENDPOINTS)
    return named and not off and environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() in ("", "otlp")


def unusable(environment: Mapping[str, str]) -> str | None:
    """Why spans cannot be exported although they are asked for, in a sentence."""
    name, value = next(((each, environment[each]) for each in _PROTOCOLS if environment.get(each)), ("", _SPOKEN))
    if value.strip() != _SPOKEN:
        return f"${name} is '{value}'; helexa exports spans by {_SPOKEN} only"
    return None

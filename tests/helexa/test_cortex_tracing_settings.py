"""What the environment asks for, and a collector that is not as it should be."""

import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
import trio
from collectors import ROUTE, Collector, End, collecting, one, scope, unset
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from helexa.cortex.telemetry import otlp
from helexa.cortex.telemetry.exporting import make_tracing
from helexa.cortex.telemetry.otlp import Exporting, TellingExporter
from helexa.cortex.telemetry.tracing import Passing


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


async def test_settings_of_the_exporter_are_the_environments(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/here")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=ours")
    await one(make_tracing())
    ((path, headers),) = collector.requests
    assert path == "/here"
    assert headers["x-team"] == "ours"


async def test_spans_that_get_lost_are_told_once_and_without_what_is_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:marked@127.0.0.1:9/marked?key=marked")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20marked,marked")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.01")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    with capture_logs() as lines:
        tracing = make_tracing()
        for _ in range(3):
            tracing.begin(scope(), ROUTE, "r").end(End())
        await tracing.aclose()
    (line,) = lines
    assert (line["event"], line["collector"]) == ("tracing.spans_lost", "127.0.0.1:9")
    assert "marked" not in str(lines) + "".join(capfd.readouterr())


def test_a_collector_that_comes_back_is_told_too() -> None:
    fails, works = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    results = iter([works, fails, fails, works, works, fails])

    class Scripted(SpanExporter):
        def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
            return next(results)

    exporter = TellingExporter(Scripted(), "host:1")
    with capture_logs() as lines:
        found = [exporter.export([]) for _ in range(6)]
    assert found == [works, fails, fails, works, works, fails]
    assert [line["event"] for line in lines] == ["tracing.spans_lost", "tracing.works_again", "tracing.spans_lost"]


@pytest.mark.parametrize("status", [400, 503])
async def test_a_collector_that_refuses_harms_nobody(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", 0.2)
    with collecting(status) as refusing:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refusing.url)
        with trio.fail_after(5):
            await one(make_tracing())
        assert refusing.bodies


async def test_a_stop_does_not_wait_for_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = make_tracing()
    assert isinstance(tracing, Exporting)
    with trio.fail_after(5):
        await one(tracing)


async def test_a_stop_that_is_itself_cancelled_still_exports(collector: Collector) -> None:
    with trio.CancelScope() as cancelled:
        cancelled.cancel()
        await one(make_tracing())
    assert len(collector.spans()) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_unasked(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as lines:
        assert isinstance(make_tracing(), Passing)
    assert lines == []


def test_another_protocol_is_refused_in_a_sentence_and_nothing_is_exported(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with capture_logs() as lines:
        assert isinstance(make_tracing(), Passing)
    (line,) = lines
    assert line["event"] == "tracing.off"
    assert line["reason"] == "$OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; helexa exports spans by http/protobuf only"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    with capture_logs() as lines:
        found = make_tracing()
    assert isinstance(found, Exporting)
    assert lines == []


def test_a_missing_library_is_said_in_a_sentence_and_the_fleet_serves_on(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "helexa.cortex.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with capture_logs() as lines:
        assert isinstance(make_tracing(), Passing)
    (line,) = lines
    assert "pip install 'helexa[otel]'" in line["reason"]


def test_nothing_of_opentelemetry_is_imported_unasked() -> None:
    program = (
        "import sys; import helexa.cortex.exchange.proxy; from helexa.cortex.telemetry.exporting import make_tracing;"
        "make_tracing(); print(sorted(name for name in sys.modules if name.partition('.')[0] == 'opentelemetry'))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"

"""The neuron API's shapes: written and read back, newer fields passed over, other shapes refused."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire import fleet
from helexa.wire.fleet import (
    Activation,
    ActivationFailure,
    ActorReport,
    DeviceHealth,
    DeviceInfo,
    DeviceLink,
    Discovery,
    Health,
    KvCache,
    Limit,
    LoadRequest,
    ModelList,
    ModelReport,
    Processor,
    Steps,
    Version,
)

KV, STEPS = KvCache(64, 10, 30, 900, 512, 3), Steps(12, 0.75, 900, 60)
REPORT = ModelReport("m", "loaded", "cpu", 90, Limit(512, 500, 256), ("chat", "tool_call"), 1, 2, None, KV, steps=STEPS)
HEALTH = Health(
    "ok",
    1.5,
    (DeviceHealth("cpu", 1024, 10, 3.5),),
    (REPORT, ModelReport("n", "failed", error="no file")),
    Activation("ready", ("a",), "b", ("c",), (ActivationFailure("d", "why"),)),
)
GPU = DeviceInfo(1, "cuda:0", "RTX 4090", 24564, "8.9", "GPU-1", "00000000:01:00.0", 4, 16, 1008.1)
HOST = Discovery(
    "box",
    "Linux 6",
    "560.35",
    (GPU, DeviceInfo(0, "cuda:1", "RTX 3060", 12288, "8.6")),
    "cuda:2 is lost",
    "12.8",
    (DeviceLink("cuda:0", "cuda:1", "host_bridge", 0, peer_access=False),),
    Processor("EPYC", 16, 32, ("avx2", "avx512f")),
)
SHAPES: list[Any] = [
    HEALTH,
    HOST,
    DeviceHealth("cuda:0", 24564, 10, 3.5, 61.0, 120.5, 450.0, 2520.0, 10501.0, ("power_cap",), "lost"),
    Discovery("box", "Linux 6", None, (DeviceInfo(0, "cuda:0", "RTX 3060", 12288, "8.6"),), None),
    Version("0.1", "abc", True, None, "3.11", "2.13", "5.0", None, 1.7e9),
    ModelList((REPORT,)),
    ActorReport("router", "running", 0, 3, None, 12.5),
    LoadRequest("m", "path:/x", "cpu"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_a_shape_reads_back_as_written(shape: Any) -> None:
    assert fleet.from_json(fleet.to_json(shape), type(shape)) == shape
    assert orjson.loads(fleet.to_json(shape)) == orjson.loads(orjson.dumps(fleet.to_dict(shape)))


def test_a_tuple_of_shapes_reads_back_as_written() -> None:
    reports = (ActorReport("a", "running", 0, 0, None, 1.0), ActorReport("b", "down", 5, 0, "boom", 2.0))
    assert fleet.from_json(fleet.to_json(reports), tuple[ActorReport, ...]) == reports


def with_more(value: Any) -> Any:
    """The same JSON as a newer build might write it: every object has one key more."""
    if isinstance(value, dict):
        return {**{key: with_more(each) for key, each in value.items()}, "newer": {"x": 1}}
    return [with_more(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
def test_what_a_newer_build_adds_is_passed_over(shape: Any) -> None:
    newer = orjson.dumps(with_more(orjson.loads(fleet.to_json(shape))))
    assert fleet.from_json(newer, type(shape)) == shape


def test_what_has_a_default_may_be_left_out() -> None:
    assert fleet.from_json(b'{"status":"ok","uptime_seconds":1}', Health) == Health("ok", 1.0)
    assert fleet.from_json(b'{"id":"m","status":"loading"}', ModelReport) == ModelReport("m", "loading")
    device = b'{"index":0,"name":"cpu","kind":"x86","memory_total_mb":8}'
    host = b'{"hostname":"box","os":"Linux","driver":null,"devices":[' + device + b"]}"
    assert fleet.from_json(host, Discovery) == Discovery("box", "Linux", None, (DeviceInfo(0, "cpu", "x86", 8),))
    older = b'{"blocks_total":3,"blocks_free":1,"blocks_cached":1}'
    assert fleet.from_json(older, KvCache) == KvCache(3, 1, 1)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"null", b"[]", b"3", b"{}", b'{"status":"ok"}', b'{"status":"ok","uptime_seconds":"x"}']
)
def test_another_shape_is_refused_and_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a Health: "):
        fleet.from_json(data, Health)


KEYS = st.sampled_from(["status", "uptime_seconds", "devices", "models", "activation", "id", "name"])
JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
)


@given(JSON)
def test_any_json_is_the_shape_or_a_value_error(value: Any) -> None:
    try:
        found = fleet.from_json(orjson.dumps(value), Health)
    except ValueError as error:
        assert str(error).startswith("not a Health: ")  # noqa: PT017 - either outcome is right, each in its form
    else:
        assert isinstance(found, Health)

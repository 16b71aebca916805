"""What targets say of themselves: neurons, gateways, and servers of others."""

from typing import Any

import pytest
import trio
from attrs import evolve
from bench_targets import DISCOVERY, MODEL, REPORT, VERSION, Canned, Reply, always, as_json, refused
from fleets import model, neuron

from config import Topology
from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring import builds
from helexa.bench.measuring.facts import Facts, ModelFacts
from helexa.bench.measuring.targets import cortex_at, look, neurons_of, power, server_at
from helexa.wire import fleet
from helexa.wire.fleet import DeviceHealth, DeviceInfo


@pytest.fixture
async def server(nursery: trio.Nursery) -> Canned:
    return await Canned().start(nursery)


async def test_a_neuron_tells_its_build_and_its_models(server: Canned) -> None:
    server.report = evolve(REPORT, waiting=2)
    found = await look(evolve(server.access("neuron"), precisions={MODEL: "int8"}))
    assert found.build.name == "helexa 0.1.0 ac1aa60"
    assert found.build.details["devices"] == "2x NVIDIA RTX"
    assert found.build.details["processor"] == "EPYC, 16 threads"
    assert found.model(MODEL) == ModelFacts(
        MODEL, "loaded", 2048, ("chat", "tool_call"), 0, 2, ("cuda:0",), None, {"precision": "int8", "on": "NVIDIA RTX"}
    )
    assert (found.powered, found.idle, found.model("other")) == (False, False, None)
    assert found.build_of(MODEL).details["precision"] == "int8"
    assert found.build_of("other") == found.build


def test_a_build_does_not_change_with_a_restart() -> None:
    again = evolve(VERSION, started_at=99.0)
    assert builds.of_neuron(VERSION, DISCOVERY).id == builds.of_neuron(again, DISCOVERY).id


@pytest.mark.parametrize(
    "changes",
    [{"git_sha": "bbbbbbbbbb"}, {"dirty": True}, {"torch": "2.14.0"}, {"transformers": "6"}, {"cuda": "13.0"}],
)
def test_other_software_is_another_build(changes: dict[str, Any]) -> None:
    assert builds.of_neuron(VERSION, DISCOVERY).id != builds.of_neuron(evolve(VERSION, **changes), DISCOVERY).id


@pytest.mark.parametrize("changes", [{"driver": "580.2"}, {"devices": ()}, {"os": "Linux 7"}])
def test_other_hardware_is_another_build(changes: dict[str, Any]) -> None:
    assert builds.of_neuron(VERSION, DISCOVERY).id != builds.of_neuron(VERSION, evolve(DISCOVERY, **changes)).id


def test_a_model_that_moved_to_a_device_like_the_other_is_of_the_same_build() -> None:
    assert builds.of_model("cuda:0", DISCOVERY, None) == builds.of_model("cuda:1", DISCOVERY, None)
    assert builds.of_model("cuda:0+cuda:1", DISCOVERY, None) == {"on": "2x NVIDIA RTX"}
    other = evolve(DISCOVERY, devices=(DISCOVERY.devices[0], DeviceInfo(1, "cuda:1", "NVIDIA T4", 16_000)))
    assert builds.of_model("cuda:0", other, None) != builds.of_model("cuda:1", other, None)


def test_an_installed_package_is_told_by_when_it_was_built() -> None:
    packaged = evolve(VERSION, git_sha=None, dirty=None, build_time="2026-01-02T03:04:05Z")
    found = builds.of_neuron(packaged, DISCOVERY)
    assert (found.name, found.details["built"]) == ("helexa 0.1.0", "2026-01-02T03:04:05Z")
    assert builds.name_of(evolve(VERSION, dirty=True)) == "helexa 0.1.0 ac1aa60+"


def snapshot(*nodes: dict[str, Any], **more: Any) -> Reply:
    return as_json({"nodes": list(nodes), "aliases": {"small": MODEL}, **more})


def node(name: str, *, commit: str = "ac1aa60c2f", watts: float | None = None, loaded: bool = True) -> dict[str, Any]:
    report = evolve(REPORT, status="loaded" if loaded else "unloaded", running=1)
    return {
        "name": name,
        "up": True,
        "version": fleet.to_dict(evolve(VERSION, git_sha=commit)),
        "discovery": fleet.to_dict(DISCOVERY),
        "devices": [fleet.to_dict(DeviceHealth("cuda:0", 1, 0, power=watts))],
        "models": [{**fleet.to_dict(report), "in_flight": 3, "pinned": False}],
    }


LISTED = as_json(
    {
        "data": [
            {
                "id": MODEL,
                "status": "loaded",
                "limit": {"context": 2048, "input": 1, "output": 1},
                "capabilities": ["chat"],
            },
            {"id": "small", "status": "loaded", "limit": None, "capabilities": ["chat"]},
            {"id": "cold", "status": "unloaded", "limit": None, "capabilities": []},
        ]
    }
)


async def test_a_gateway_s_model_is_of_the_builds_of_the_nodes_that_have_it(server: Canned) -> None:
    server.routes["/v1/models"] = always(LISTED)
    nodes = [node("a"), node("b", commit="bbbbbbbb"), node("c", commit="cccccccc", loaded=False)]
    server.routes["/fleet"] = always(snapshot(*nodes))
    found = await look(server.access("cortex"))
    assert found.build.name == "helexa 0.1.0 ac1aa60 / helexa 0.1.0 bbbbbbb / helexa 0.1.0 ccccccc"
    assert found.build_of(MODEL).name == "helexa 0.1.0 ac1aa60 / helexa 0.1.0 bbbbbbb"
    assert found.build_of("small") == found.build_of(MODEL)
    served = found.model(MODEL)
    assert served is not None
    assert (served.context, served.running, served.devices) == (2048, 2, ("a/cuda:0", "b/cuda:0"))
    cold = found.model("cold")
    assert cold is not None
    assert (cold.status, cold.capabilities, cold.ready) == ("unloaded", None, False)


async def test_a_gateway_whose_fleet_is_not_for_the_key_tells_its_models(server: Canned) -> None:
    server.routes["/v1/models"] = always(LISTED)
    server.routes["/fleet"] = always(refused("This key has not the scope.", 403))
    found = await look(server.access("cortex"))
    assert ([each.id for each in found.models], found.build.name) == ([MODEL, "small", "cold"], "unknown")


async def test_a_node_that_was_never_seen_has_no_build(server: Canned) -> None:
    server.routes["/v1/models"] = always(LISTED)
    blank = {"name": "b", "up": False, "models": [], "version": None, "discovery": None, "devices": None}
    server.routes["/fleet"] = always(snapshot(node("a"), blank))
    assert (await look(server.access("cortex"))).build.name == "helexa 0.1.0 ac1aa60"


async def test_the_power_of_a_model_is_of_the_devices_that_have_it(server: Canned) -> None:
    server.power = 150.0
    for devices, watts in ((("cuda:0",), 150.0), (("cuda:0", "cuda:1"), 300.0), ((), None), (("cuda:7",), None)):
        async with server.access().client() as client:
            assert await power(server.access("neuron"), client, ModelFacts(MODEL, devices=devices)) == watts
    server.routes["/fleet"] = always(snapshot(node("a", watts=10.0), node("b", watts=20.0), node("c")))
    async with server.access().client() as client:
        both = ModelFacts(MODEL, devices=("a/cuda:0", "b/cuda:0"))
        assert await power(server.access("cortex"), client, both) == 30.0
        assert await power(server.access("cortex"), client, ModelFacts(MODEL, devices=("a/cuda:0", "c/cuda:0"))) is None


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"context_length": 8192}, 8192),
        ({"context_window": 131_072}, 131_072),
        ({"meta": {"n_ctx_train": 32_768}}, 32_768),
        ({"limit": {"context": 2048}}, 2048),
        ({"max_model_len": "many"}, None),
        ({"max_model_len": True}, None),
        ({"max_model_len": -1}, None),
        ({"meta": None, "limit": 3}, None),
        ({}, None),
    ],
)
async def test_servers_tell_the_context_in_their_own_ways(server: Canned, entry: dict[str, Any], context: int) -> None:
    server.routes["/v1/models"] = always(as_json({"data": [{"id": MODEL, **entry}]}))
    found = (await look(server.access())).model(MODEL)
    assert found is not None
    assert (found.context, found.capabilities, found.ready) == (context, None, True)


@pytest.mark.parametrize(
    ("version", "props", "headers", "name"),
    [
        ({"version": "0.9.1"}, None, {"server": "uvicorn"}, "uvicorn 0.9.1"),
        (None, {"build_info": "b5000-abc"}, {"server": "llama.cpp"}, "llama.cpp b5000-abc"),
        (None, None, {"server": "nginx/1.2"}, "nginx/1.2"),
        ({"version": ["odd"]}, {"build_info": {"a": 1}}, {}, "llama.cpp ['odd']"),
        (None, None, {}, "unknown"),
        ([3], "text", {}, "unknown"),
    ],
)
async def test_the_build_of_others_is_what_they_tell(
    server: Canned, version: Any, props: Any, headers: dict[str, str], name: str
) -> None:
    server.routes["/v1/models"] = always(Reply(b'{"data": []}', headers=headers))
    server.routes["/version"] = always(refused("none", 404) if version is None else as_json(version))
    server.routes["/props"] = always(refused("none", 404) if props is None else as_json(props))
    assert (await look(server.access())).build.name == name


async def test_what_is_listed_wrongly_is_passed_over(server: Canned) -> None:
    server.routes["/v1/models"] = always(as_json({"data": [3, {"id": 4}, {}, {"id": "a"}]}))
    assert [each.id for each in (await look(server.access())).models] == ["a"]


async def test_one_that_is_not_what_it_should_be_is_told_so(server: Canned) -> None:
    server.routes["/discovery"] = always(as_json({"hostname": 3}))
    with pytest.raises(TargetError, match="It does not answer as helexa does: not a Discovery") as caught:
        await look(server.access("neuron"))
    assert caught.value.code == "protocol"


def test_neurons_are_those_of_the_topology() -> None:
    topology = Topology(neurons=(neuron("a"), neuron("b")), models=(model("m", quant="int8"), model("n")))
    first, second = neurons_of(topology, "s3cret")
    assert (first.target.name, first.target.kind, first.target.url) == ("a", "neuron", "http://a:1")
    assert (second.headers, second.precisions) == ({"authorization": "Bearer s3cret"}, {"m": "int8"})
    assert "s3cret" not in repr(first)
    assert neurons_of(topology, None)[0].headers == {}


@pytest.mark.parametrize("secret", ["schlüssel", "a\udcffb"])
def test_a_secret_is_sent_as_its_bytes_whatever_they_are(secret: str) -> None:
    (access,) = neurons_of(Topology(neurons=(neuron("a"),)), secret)
    sent = access.headers["authorization"].encode("latin-1")
    assert sent == b"Bearer " + secret.encode(errors="surrogateescape")
    access.client()


@pytest.mark.parametrize(
    ("given", "kept", "headers"),
    [
        ("http://h:8000/v1", "http://h:8000", {}),
        ("http://h:8000/v1/", "http://h:8000", {}),
        ("https://h/api/v1", "https://h/api", {}),
        ("https://h", "https://h", {}),
        ("https://me:p%40ss@h/v1", "https://h", {"authorization": "Basic bWU6cEBzcw=="}),
    ],
)
def test_what_is_kept_of_a_url_has_no_secret(given: str, kept: str, headers: dict[str, str]) -> None:
    found = server_at("x", given)
    assert (found.target.url, dict(found.headers)) == (kept, headers)
    assert server_at("x", given, "key").headers == {"authorization": "Bearer key"}
    assert cortex_at(given).target.url == kept


async def test_a_url_that_cannot_be_asked_is_no_target() -> None:
    for url in ("nonsense", "", "http://", "http://[::1"):
        with pytest.raises(TargetError, match="cannot be asked"):
            await look(server_at("x", url))


def test_a_target_with_nothing_to_do_is_idle() -> None:
    def facts(**said: Any) -> Facts:
        return Facts(server_at("x", "http://h").target, builds.of_nodes({}), (ModelFacts("m", **said),))

    assert facts().idle
    assert not facts(running=1).idle
    assert not facts(waiting=1).idle
    assert not facts(status="loading").idle
    assert facts(status="unloaded").idle

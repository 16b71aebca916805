"""Models that move, load, evict and recover while fifty clients ask for all of them: each of them gets an answer."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import psutil
import pytest
import trio
from fleet_forks import SPARES
from harness import Fleet, free_port, sse_events, wait_until

from helexa.tiny import CHECKPOINT

pytestmark = pytest.mark.usefixtures("forked_fleets")
CLIENTS, REQUESTS = 50, 2
MODELS = ("house/a", "house/b", "house/c", "house/d")
EXPLAINED = {(502, "upstream_error"), (503, "service_unavailable")}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two neurons, each with room for one model of four."""
    tmp_path = tmp_path_factory.mktemp("crowded")
    ports = [free_port() for _ in range(4)]
    models = "".join(f'[[models]]\nid = "{name}"\nsource = "path:{CHECKPOINT}"\n' for name in MODELS)
    neurons = "".join(
        f'[[neurons]]\nname = "{name}"\nlisten = "127.0.0.1:{port}"\ndevices = ["cpu"]\nmemory = "20MiB"\n'
        for name, port in (("left", ports[2]), ("right", ports[3]))
    )
    topology = tmp_path / "topology.toml"
    topology.write_text(
        f'[cortex]\nlisten = "127.0.0.1:{ports[0]}"\nmetrics_listen = "127.0.0.1:{ports[1]}"\n'
        f'database = "sqlite:///{tmp_path}/helexa.db"\n'
        '[cortex.eviction]\nresidency = "200ms"\ndrain = "20s"\n'
        f'{neurons}{models}[actors.poller]\ninterval = "500ms"\n'
    )
    fleet = Fleet(topology, ports[0], ports[2], ports[1], tmp_path / "log")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SPARES, "1")
        fleet.start(ready="/health")
    wait_until(lambda: all(node["up"] for node in nodes_of(fleet)), 30, "both nodes up")
    family = fleet.family()
    yield fleet
    assert fleet.stop() == 0
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def nodes_of(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{fleet.url}/fleet").json()["nodes"]
    return found


async def ask(client: httpx.AsyncClient, random: Random) -> tuple[int, str | None]:
    """One request; its status, and the code of the error it ended with."""
    streamed = random.random() < 0.5
    body = {
        "model": random.choice(MODELS),
        "messages": [{"role": "user", "content": f"Count from {random.randrange(9)}."}],
        "max_tokens": random.choice([1, 12, 40]),
        "stream": streamed,
    }
    response = await client.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
        return response.status_code, response.json()["error"]["code"]
    return 200, _stream_error(response.text) if streamed else _whole(response.json())


def _whole(answer: dict[str, Any]) -> None:
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


def _stream_error(text: str) -> str | None:
    *events, done = sse_events(text)
    assert done == "[DONE]"
    last = events[-1]
    if "error" in last:
        return str(last["error"]["code"])
    assert last["choices"][0]["finish_reason"] in ("stop", "length")
    return None


async def crowd(url: str, seed: int, ends: Counter[tuple[int, str | None]]) -> None:
    """Fifty clients, each with a few requests one after the other."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one(random: Random) -> None:
            for _ in range(REQUESTS):
                ends[await ask(client, random)] += 1

        random = Random(seed)
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(one, Random(random.random()))


def logged(fleet: Fleet, kind: str) -> int:
    """How often something happened, by the fleet's own log."""
    return fleet.log.read_text().count(f"event={kind} ")


def at_rest(fleet: Fleet) -> bool:
    idle = (
        not node["in_flight"] and all(model["running"] == 0 for model in node["models"]) for node in nodes_of(fleet)
    )
    return all(idle)


def serves(fleet: Fleet, model: str) -> bool:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    return httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=60).is_success


def test_models_move_without_losing_a_request(crowded: Fleet) -> None:
    ends: Counter[tuple[int, str | None]] = Counter()
    trio.run(crowd, crowded.url, 1, ends)
    assert ends == {(200, None): CLIENTS * REQUESTS}
    assert logged(crowded, "model.evicted") > 0
    wait_until(lambda: at_rest(crowded), 10, "nothing in flight")


def test_models_recover_while_others_move(crowded: Fleet) -> None:
    ends: Counter[tuple[int, str | None]] = Counter()
    workers = [process for process in crowded.family() if "helexa.engine.worker" in " ".join(process.cmdline())]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd, crowded.url, 2, ends)
            while sum(ends.values()) < CLIENTS:  # noqa: ASYNC110 - whoever is answered tells nobody
                await trio.sleep(0.02)
            os.kill(workers[0].pid, signal.SIGKILL)

    trio.run(main)
    assert sum(ends.values()) == CLIENTS * REQUESTS
    lost = {(status if status != 200 else 502, code) for status, code in ends if code is not None}
    assert lost <= EXPLAINED
    assert ends[200, None] > CLIENTS
    for name in MODELS:  # whatever was broken is whole again
        wait_until(lambda name=name: serves(crowded, name), 60, f"{name} to be served again")
    wait_until(lambda: at_rest(crowded), 10, "nothing in flight")

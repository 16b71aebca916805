"""The commands that talk to a running fleet, against the gateway's own routes: what is printed where, exit codes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from attrs import define, field
from http_parts import start_app
from quart import Response
from typer.testing import CliRunner

from config import Topology, parse
from helexa.cli import operate
from helexa.cli.app import app
from helexa.cortex import admin
from helexa.cortex.events import EventLog
from helexa.cortex.routing import planning
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.web.front import Front
from helexa.web.quart_errors import json_app, json_response
from helexa.wire import errors

RUNNER = CliRunner()
TOPOLOGY = parse('[[neurons]]\nname = "a"\n[[models]]\nid = "m/x"\n[aliases]\nx = "m/x"\n')


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """What the fleet's owner would tell; that it does is tested beside it."""
    model = {
        "id": "m/x",
        "status": "loaded",
        "device": "cuda:0",
        "memory_mb": 2048,
        "kv_mb": 512,
        "kv": {"blocks_total": 8, "blocks_free": 2, "blocks_cached": 4},
        "running": 3,
        "waiting": 1,
        "in_flight": 0,
        "pinned": True,
        "draining": False,
        "idle_seconds": 61.2,
    }
    node = {"name": "a", "endpoint": "http://a", "up": True, "error": None, "devices": [], "models": [model]}
    problems = ["topology.toml:3: cortex.lisen: is not a known key"]
    aliases = dict(fleet.aliases)
    return {"nodes": [node], "aliases": aliases, "topology": {"applied_at": 0.0, "problems": problems}}


@define(eq=False)
class Gateway:
    """A gateway on a thread of its own, whose lifecycle does what the test says."""

    url: str = ""
    events: EventLog = field(factory=EventLog)
    topology: Topology = TOPOLOGY
    asked: list[tuple[Any, ...]] = field(factory=list)
    error: Exception | None = None
    heard: threading.Event = field(factory=threading.Event)
    waits: bool = False
    _stop: Any = None

    def fleet(self) -> Fleet:
        return Fleet(self.topology, {each.name: Node(each) for each in self.topology.neurons}, {})

    async def load(self, model: str, node: str | None) -> str:
        self.asked.append(("load", model, node))
        self.events.publish("model.loading", node="a", device="cuda:0", model="m/x", evicts=["m/old"])
        if self.waits:
            await trio.sleep_forever()
        await trio.to_thread.run_sync(self.heard.wait, 10)
        if self.error is not None:
            raise self.error
        return "a"

    async def unload(self, model: str, node: str | None) -> tuple[str, ...]:
        self.asked.append(("unload", model, node))
        if self.error is not None:
            raise self.error
        return ("a", "b")

    def pin(self, model: str, node: str | None, *, pinned: bool) -> tuple[str, ...]:
        self.asked.append(("pin", model, node, pinned))
        return ("a",)

    async def serve(self, ready: threading.Event) -> None:
        app = json_app("test")
        admin.add_routes(app, self, self, self.events, planning.plan)  # type: ignore[arg-type]

        @app.get("/fleet")
        async def fleet() -> Response:
            return json_response(orjson.dumps(snapshot(self.fleet())))

        @app.get("/fleet/actors")
        async def actors() -> Response:
            return json_response(b'{"actors":[]}')

        @app.get("/v1/models")
        async def models() -> Response:
            return json_response(b'{"data":[]}')

        async with trio.open_nursery() as nursery:
            token, scope = trio.lowlevel.current_trio_token(), nursery.cancel_scope
            self._stop = lambda: token.run_sync_soon(scope.cancel)
            self.url = f"http://127.0.0.1:{await start_app(nursery, Front(lambda each: each, {}, app))}"
            ready.set()

    def stop(self) -> None:
        self._stop()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    found, ready = Gateway(), threading.Event()
    monkeypatch.setattr(admin.listing, "snapshot", snapshot)
    thread = threading.Thread(target=trio.run, args=(found.serve, ready))
    thread.start()
    assert ready.wait(10)
    monkeypatch.setenv("HELEXA_URL", found.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(operate, "say", telling(found.heard))
    yield found
    found.stop()
    thread.join(10)
    assert not thread.is_alive()


def telling(heard: threading.Event) -> Any:
    """`say`, which lets a load end once its progress was shown."""
    from helexa.cli.output import say

    def say_and_tell(line: str) -> None:
        say(line)
        heard.set()

    return say_and_tell


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_load_tells_how_it_goes_and_where_it_ended(gateway: Gateway) -> None:
    assert run("load", "x") == (0, "x is loaded on a.\n", "a: loading m/x in place of m/old\n")
    assert gateway.asked == [("load", "x", None)]


def test_a_node_may_be_named(gateway: Gateway) -> None:
    run("load", "m/x", "--node", "a")
    run("unload", "m/x", "--node", "b")
    run("pin", "m/x", "--node", "c")
    assert gateway.asked == [("load", "m/x", "a"), ("unload", "m/x", "b"), ("pin", "m/x", "c", True)]


def test_a_load_that_fails_is_one_sentence(gateway: Gateway) -> None:
    gateway.error = errors.upstream_error("The model 'm/x' does not load on a: the disk is full.")
    code, out, err = run("load", "m/x")
    assert (code, out) == (1, "")
    assert err.endswith("helexa: The model 'm/x' does not load on a: the disk is full.\n")


def test_an_interrupt_gives_up_the_wait(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.waits = True
    from helexa.cli.output import say

    async def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def say_and_interrupt(line: str) -> None:
        say(line)
        # In a task that is no target of interrupts, so that it reaches the one that waits, as at a terminal.
        trio.lowlevel.spawn_system_task(interrupt)

    monkeypatch.setattr(operate, "say", say_and_interrupt)
    code, out, err = run("load", "m/x")
    assert (code, out) == (1, "")
    assert err.endswith("helexa: no longer waiting; 'helexa ps' shows what has come of it.\n")


def test_an_unload_names_every_node(gateway: Gateway) -> None:
    assert run("unload", "m/x")[:2] == (0, "m/x is unloaded from a, b.\n")
    gateway.error = errors.unavailable("m/x still has 2 request(s) after 60 s.", 5)
    assert run("unload", "m/x") == (1, "", "helexa: m/x still has 2 request(s) after 60 s.\n")


def test_a_pin_is_set_and_taken_off(gateway: Gateway) -> None:
    assert run("pin", "m/x") == (0, "m/x is pinned on a.\n", "")
    assert run("pin", "m/x", "--off") == (0, "m/x is no longer pinned on a.\n", "")
    assert [each[-1] for each in gateway.asked] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("load", "m/x"), {"model": "m/x", "node": "a"}),
        (("unload", "m/x"), {"model": "m/x", "nodes": ["a", "b"]}),
        (("pin", "m/x"), {"model": "m/x", "pinned": True, "nodes": ["a"]}),
    ],
)
def test_a_script_gets_json(gateway: Gateway, arguments: tuple[str, ...], answer: dict[str, Any]) -> None:
    code, out, _ = run(*arguments, "--json")
    assert (code, orjson.loads(out)) == (0, answer)


def test_what_is_loaded_is_a_table(gateway: Gateway) -> None:
    code, out, err = run("ps")
    assert (code, err) == (0, "")
    head, row = out.splitlines()
    assert " ".join(head.split()) == "MODEL NODE DEVICE STATUS MEMORY KV CACHE RUNNING WAITING IDLE"
    assert " ".join(row.split()) == "m/x a cuda:0 loaded, pinned 2,048 MiB 25% of 512 MiB 3 1 1m1s"
    (found,) = orjson.loads(run("ps", "--json")[1])
    assert (found["model"], found["node"], found["kv_mb"], found["idle_seconds"]) == ("m/x", "a", 512, 61.2)


def test_status_tells_of_an_edit_that_is_not_in_force(gateway: Gateway) -> None:
    code, out, _ = run("status")
    assert code == 0
    assert "The latest edit of the topology is not in force:\n  topology.toml:3: cortex.lisen: is not" in out
    assert orjson.loads(run("status", "--json")[1])["topology"]["problems"]


def test_a_plan_shows_changes_and_places(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "next.toml"
    file.write_text('[[neurons]]\nname = "a"\n[[models]]\nid = "m/x"\npriority = 2\n')
    code, out, err = run("plan", file)
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[:2] == ['~ models."m/x".priority: default → 2', '- aliases.x = "m/x"']
    assert lines[-1].split() == ["m/x", "a", "it", "is", "down:", "it", "was", "not", "seen", "yet"]
    assert orjson.loads(run("plan", file, "--json")[1])["models"][0]["fits"] is False


def test_a_plan_that_changes_nothing_says_so(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "same.toml"
    file.write_text('[[neurons]]\nname = "a"\n[[models]]\nid = "m/x"\n[aliases]\nx = "m/x"\n')
    assert run("plan", file)[1].startswith("Nothing would change.\n")


def test_a_broken_file_is_every_problem_at_once_and_exit_code_two(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[cortex]\nlisten = 5\nlisetn = "x"\n')
    code, out, err = run("plan", file)
    assert (code, out) == (2, "")
    first, second, last = err.splitlines()
    assert first.startswith(f"{file}:2: cortex.listen: ")
    assert second.startswith(f"{file}:3: cortex.lisetn: ")
    assert last == f"helexa: 2 problems in {file}; nothing was planned."


def test_a_file_that_cannot_be_read_is_exit_code_two(gateway: Gateway, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert run("plan", missing) == (2, "", f"helexa: {missing} cannot be read: no such file or directory.\n")


@pytest.mark.parametrize("arguments", [("load", "m"), ("unload", "m"), ("pin", "m"), ("ps",), ("status",)])
def test_no_fleet_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--url", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: no fleet answers at http://127.0.0.1:9 (")
    assert run(*arguments, "--url", "http://[::1")[2].startswith("helexa: cannot ask a fleet at 'http://[::1': ")


def test_what_is_no_fleet_is_named_as_that(gateway: Gateway) -> None:
    code, _, err = run("load", "m", "--url", f"{gateway.url}/nowhere")
    assert code == 1
    assert err.startswith("helexa: There is no route POST /nowhere/fleet/models/m/load.")

"""`helexa bench run` against small real servers: what is measured, shown, kept and compared, and the exit codes."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from bench_targets import Canned, Handler, Reply, always, as_json, refused
from operators import run_with
from own_thread import on_a_thread
from slow_proxy import slowed

from helexa.cli.app import app

CHAT = ("--scenario", "chat:prompt_tokens=16,output_tokens=4,requests=1")
PAUSE = 0.06
"""Seconds per token: a busy machine is late by a small part of it."""


def canned(pause: float = 0.0, **routes: Handler) -> AbstractContextManager[Canned]:
    """A server on a thread; `routes` by path, with underscores for slashes."""
    found = {f"/{path.replace('__', '/')}": handler for path, handler in routes.items()}
    return on_a_thread(Canned(pause=pause, routes=found).start)


@pytest.fixture
def server() -> Iterator[Canned]:
    with canned() as found:
        yield found


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HELEXA_BENCH_DATABASE", f"sqlite:///{tmp_path}/bench.db")
    monkeypatch.setenv("HELEXA_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "bench.db"


def bench(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    return run_with(app, "bench", *arguments)


def as_target(server: Canned, name: str = "box") -> tuple[str, str]:
    return "--target", f"{name}={server.url}"


def measured(*arguments: object) -> Any:
    """What a measurement prints as JSON, whatever it exits with."""
    return json.loads(bench("run", *CHAT, *arguments, "--json")[1])


def test_figures_go_to_stdout_and_progress_to_stderr(server: Canned) -> None:
    code, out, err = bench("run", *CHAT, *as_target(server), "--rounds", 2, "--label", "first")
    assert code == 0, err
    assert "time to first token" in out
    assert "round" not in err.splitlines()[-1]
    assert err.splitlines()[0].startswith("round 1 of 2 is done")
    assert err.splitlines()[-1].startswith("kept as batch ")
    assert err.splitlines()[-1].endswith(", 'first'.")


def test_json_is_all_that_stdout_gets(server: Canned) -> None:
    found = measured(*as_target(server), "--rounds", 2)
    [run] = found["runs"]
    assert (run["outcome"], len(run["samples"]), run["batch"]) == ("ok", 2, found["batch"])
    assert len(run["build"]["id"]) == 12
    assert (found["problems"], found["comparison"], found["exit_code"]) == ([], None, 0)


def test_nothing_is_kept_unless_it_is_to_be(server: Canned, database: Path) -> None:
    assert measured(*as_target(server), "--rounds", 1, "--no-save", "--against", "none")["exit_code"] == 0
    assert not database.exists()


def test_of_targets_that_are_measured_together_the_one_that_takes_half_as_long_again_is_worse() -> None:
    with canned(PAUSE) as server, slowed(int(server.url.rpartition(":")[2]), 1.5) as port:
        slow = ("--target", f"slow=http://127.0.0.1:{port}")
        found = measured(*as_target(server), *as_target(server, "again"), *slow, "--rounds", 5, "--against", "box")
    verdicts = {
        (each["cell"]["target"], each["metric"]["name"]): each["verdict"]
        for each in found["comparison"]["differences"]
        if each["metric"]["primary"]
    }
    assert "regression" in {verdicts["slow", "ttft"], verdicts["slow", "decode"]}, found["comparison"]["differences"]
    assert not {verdicts["again", "ttft"], verdicts["again", "decode"]} & {"regression", "improvement"}
    assert found["exit_code"] == 3


def test_a_build_that_is_slower_than_the_one_before_is_a_regression_and_a_quicker_one_is_none() -> None:
    with canned(0.002) as server, slowed(int(server.url.rpartition(":")[2]), 20) as port:
        slow = ("--target", f"box=http://127.0.0.1:{port}", "--rounds", 5)
        assert bench("run", *CHAT, *as_target(server), "--rounds", 5)[0] == 0
        code, out, err = bench("run", *CHAT, *slow)
        assert code == 3, out + err
        assert "regression" in out
        code, out, err = bench("run", *CHAT, *as_target(server), "--rounds", 5)
        assert code == 0, out + err
        assert "improvement" in out


def test_it_is_compared_with_what_was_asked_for(server: Canned, tmp_path: Path) -> None:
    for label in ("first", "second"):
        assert measured(*as_target(server), "--rounds", 1, "--label", label)["exit_code"] == 0
    found = measured(*as_target(server), "--rounds", 1, "--against", "first")
    assert found["comparison"]["before"]["labels"] == ["first"]
    file = tmp_path / "first.json"
    assert bench("export", file, "first")[0] == 0
    found = measured(*as_target(server), "--rounds", 1, "--against", file)
    assert found["comparison"]["before"]["labels"] == ["first"]
    assert measured(*as_target(server), "--rounds", 1, "--against", "none")["comparison"] is None


def test_where_rounds_are_too_few_to_tell_it_is_said(server: Canned) -> None:
    assert "rounds" not in bench("run", *CHAT, *as_target(server), "--rounds", 2)[2].splitlines()[-1]
    told = bench("run", *CHAT, *as_target(server), "--rounds", 2)[2].splitlines()[-1]
    assert re.fullmatch(r"2 rounds do not tell whether [12] of what counts has changed; --rounds 4 may\.", told)


def test_what_it_is_to_be_compared_with_is_looked_for_before_anything_is_measured(server: Canned) -> None:
    code, out, err = bench("run", *CHAT, *as_target(server), "--against", "never")
    assert (code, out) == (1, "")
    assert err.startswith("helexa: ")
    assert "'never'" in err
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("sqlite:////dev/null/x.db", 1, "helexa: the database of runs cannot be used: /dev/null/x.db: "),
        ("sqlite:////dev/full", 1, "helexa: the database of runs cannot be used: "),
        ("mysql://hunter2@somewhere", 2, "Usage: "),
    ],
)
def test_a_database_that_cannot_be_written_is_said_before_anything_is_measured(
    server: Canned, url: str, code: int, said: str
) -> None:
    found, out, err = bench("run", *CHAT, *as_target(server), "--database", url)
    assert (found, out) == (code, "")
    assert err.startswith(said)
    assert "hunter2" not in err
    assert server.asked == []


def losing(database: Path) -> Handler:
    """Lists models; before that all tables of the database are dropped."""

    async def models(_server: Canned, _body: dict[str, Any]) -> Reply:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL")
            for (name,) in [each for each in found if not each[0].startswith("sqlite_")]:
                connection.execute(f"DROP TABLE {name}")
        return as_json({"data": [{"id": "m"}]})

    return models


def test_what_cannot_be_kept_afterwards_is_shown_all_the_same(server: Canned, database: Path) -> None:
    server.routes["/v1/models"] = losing(database)
    code, out, err = bench("run", *CHAT, *as_target(server), "--rounds", 1, "--against", "none")
    assert code == 1
    assert "time to first token" in out, out + err
    assert "helexa: what was measured is not kept: " in err


def test_what_cannot_be_compared_is_kept_and_shown_all_the_same(server: Canned, database: Path) -> None:
    server.routes["/v1/models"] = losing(database)
    code, out, err = bench("run", *CHAT, *as_target(server), "--rounds", 1)
    assert code == 1
    assert "time to first token" in out, out + err
    assert "helexa: what was measured is not compared: " in err
    assert "kept as batch" in err


def test_a_target_that_fails_is_recorded_and_told(server: Canned) -> None:
    server.routes["/v1/chat/completions"] = always(refused("The model is on fire.", 503))
    code, out, err = bench("run", *CHAT, *as_target(server), "--rounds", 2)
    assert code == 1
    assert "on fire" in out
    assert "on fire" in err
    [run] = json.loads(bench("runs", "last", "--json")[1])
    assert run["outcome"] == "failed"


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (
            always(refused("Wrong key.", 401)),
            "'box' at {url}: It answered with status 401: Wrong key. Name the environment variable with its key",
        ),
        (always(as_json(b"<html>")), "'box' at {url}: "),
        (always(as_json({"data": []})), "'box' has no model loaded: name one with --model."),
    ],
    ids=["key", "page", "empty"],
)
def test_a_target_that_lists_no_models_is_a_sentence(handler: Handler, said: str) -> None:
    with canned(v1__models=handler) as server:
        code, out, err = bench("run", *CHAT, *as_target(server))
        assert (code, out) == (1, "")
        assert err.startswith("helexa: " + said.format(url=server.url)), err
        assert "Traceback" not in err


def test_a_target_that_is_silent_does_not_keep_others_from_being_measured(server: Canned) -> None:
    code, out, err = bench("run", *CHAT, *as_target(server), "--target", "gone=http://127.0.0.1:1", "--rounds", 1)
    assert code == 1
    assert err.startswith("helexa: 'gone' at http://127.0.0.1:1: ")
    assert "time to first token" in out


def test_where_no_fleet_answers_it_is_told_what_to_do() -> None:
    code, out, err = bench("run", *CHAT)
    assert (code, out) == (1, "")
    assert err.startswith("helexa: no fleet answers at http://127.0.0.1:1 (")
    assert err.endswith("Start one with 'helexa up', or name another with --url or HELEXA_URL.\n")


@pytest.mark.parametrize(
    ("status", "said"), [(401, "--key or HELEXA_API_KEY."), (403, "may read the fleet"), (404, "--target NAME=URL")]
)
def test_a_fleet_that_refuses_says_what_it_lacks(status: int, said: str) -> None:
    with canned(fleet=always(refused("No.", status)), v1__models=always(refused("No.", status))) as server:
        code, out, err = bench("run", *CHAT, "--url", server.url, "--key", "hunter2")
    assert (code, out) == (1, "")
    assert err.startswith(f"helexa: 'fleet' at {server.url}: It answered with status {status}: No. ")
    assert said in err
    assert "hunter2" not in err


def test_the_fleet_of_the_environment_is_not_measured_beside_named_targets(server: Canned) -> None:
    assert "no fleet answers" not in bench("run", *CHAT, *as_target(server), "--rounds", 1)[2]
    url = ("--url", "http://127.0.0.1:1")
    assert "no fleet answers" in bench("run", *CHAT, *as_target(server), "--rounds", 1, *url)[2]


def test_a_wrong_model_is_told_with_those_there_are(server: Canned) -> None:
    code, out, err = bench("run", *CHAT, *as_target(server), "--model", "other")
    assert (code, out, err) == (1, "", "helexa: no target has a model 'other'; there is m.\n")


def test_keys_come_from_the_environment_and_are_kept_nowhere(
    server: Canned, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_KEY", "hunter2")
    found = bench("run", *CHAT, *as_target(server), "--rounds", 1, "--target-key-env", "box=BOX_KEY")
    assert found[0] == 0
    assert not any("hunter2" in text for text in found[1:])
    assert b"hunter2" not in database.read_bytes()


def test_a_key_that_cannot_be_sent_is_a_sentence_and_not_shown(server: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", "hunter2\n")
    code, out, err = bench("run", *CHAT, *as_target(server), "--target-key-env", "box=BOX_KEY")
    assert (code, out) == (1, "")
    assert "the header 'authorization' has characters that it cannot have" in err
    assert "hunter2" not in err


def test_scenarios_and_suites_add_up(server: Canned) -> None:
    named = ("--scenario", "chat:output_tokens=4", "--scenario", "chat:output_tokens=4")
    found = json.loads(bench("run", *as_target(server), *named, "--rounds", 1, "--json")[1])
    assert [run["cell"]["scenario"] for run in found["runs"]] == ["chat"]
    found = json.loads(bench("run", *as_target(server), *named, "--suite", "quick", "--rounds", 1, "--json")[1])
    assert [run["cell"]["scenario"] for run in found["runs"]][:2] == ["chat", "chat"]
    assert len(found["runs"]) > 3

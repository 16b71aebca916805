"""Lines of logs and events as one list, and what of it is wanted."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from console_traffic import LINES, line, log
from consoles import NOW
from hypothesis import given
from hypothesis import strategies as st

from tui import shapes
from tui.shapes import Event, Line
from tui.views import logs
from tui.views.log_lines import drawn, page
from tui.views.logs import Entry, Journal, clock, copied, fresh, level_of, of_event, of_line
from tui.views.sieve import LEVELS, Sieve, parse
from tui.world import World


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are local ones."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def entry(told: dict[str, Any]) -> Entry:
    return of_line(shapes.read(Line, told))


ENTRIES = [entry(told) for told in LINES]


def found(text: str, level: str = "debug") -> list[int]:
    """The numbers of the lines that pass, from 1."""
    sieve = parse(text, level)
    return [number for number, each in enumerate(ENTRIES, start=1) if sieve.passes(each)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("level:warning", [2, 5, 6, 7]),
        ("level:w", [2, 5, 6, 7]),
        ("LEVEL:ERROR", [5, 7]),
        ("actor:device_worker", [2]),
        ("actor:ledger", [7]),
        ("request:req-41", [3]),
        ("request:req", [3, 6, 8]),
        ("event:ended", [3, 8]),
        ("-event:ended", [1, 2, 4, 5, 6, 7]),
        ("node:attic", [6]),
        ("key:BOB", [8]),
        ("status=429", [8]),
        ("cuda:0", [2]),
        ("-request.ended -topology level:info", [2, 5, 6, 7]),
        ("/fleet request:", [5]),
    ],
)
def test_words_and_conditions_find_their_lines(text: str, numbers: list[int]) -> None:
    assert found(text) == numbers


def test_a_level_in_words_goes_before_the_one_that_was_chosen() -> None:
    assert found("level:debug", "error") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found("", "error") == [5, 7]


def test_a_level_that_there_is_not_is_said_and_passed_over() -> None:
    sieve = parse("level:loud status=429", "info")
    assert sieve.problem == "level:loud is none; there are debug, info, warning, error, critical."
    assert sieve.passes(ENTRIES[7])
    assert parse("level:", "error") == Sieve("error")


@given(st.text(), st.sampled_from(LEVELS))
def test_whatever_is_typed_can_be_held_against_lines(text: str, level: str) -> None:
    sieve = parse(text, level)
    assert all(sieve.passes(each) in (True, False) for each in ENTRIES)


@given(st.text(alphabet=" -:abcx", max_size=20))
def test_more_words_never_find_more_lines(text: str) -> None:
    assert set(found(f"{text} x")) <= set(found(text))


@given(st.lists(st.integers(0, 3), max_size=12))
def test_what_is_new_stands_behind_what_was_seen(pieces: list[int]) -> None:
    ring: deque[object] = deque(maxlen=5)
    last, seen = None, list[object]()
    for count in pieces:
        more = [object() for _ in range(count)]
        ring.extend(more)
        found = fresh(ring, last)
        assert found == more
        seen += found
        last = found[-1] if found else last


@given(
    told=st.lists(
        st.tuples(st.sampled_from(["line", "other", "event"]), st.integers(0, 20), st.booleans()), max_size=30
    ),
    node=st.sampled_from(["", "a"]),
    text=st.sampled_from(["", "level:error", "x -y"]),
    with_events=st.booleans(),
)
def test_a_journal_that_reads_piece_by_piece_has_what_one_has_that_reads_all_at_once(
    told: list[tuple[str, int, bool]], node: str, text: str, *, with_events: bool
) -> None:
    world = World()
    piecewise = Journal(node, with_events, parse(text))
    for kind, at, look in told:
        if kind == "event":
            world.happened([Event(at, NOW + at, "node.down", {"node": "a" if at % 2 else "b"})])
        else:
            told_line = line(at, "error" if at % 3 else "info", "x" if at % 4 else "y")
            world.take("logs", log(told_line, node=node if kind == "line" else "other"), NOW)
        if look:
            piecewise.take(world)
    piecewise.take(world)
    whole = Journal()
    whole.look_at(node, world)
    whole.want(parse(text), with_events=with_events)
    facts = [(each.time, each.event, each.is_event) for each in piecewise.shown]
    assert sorted(facts) == sorted((each.time, each.event, each.is_event) for each in whole.shown)
    assert [each.time for each in piecewise.kept] == sorted(each.time for each in whole.kept)
    assert [fact[0] for fact in facts] == sorted(fact[0] for fact in facts)
    assert with_events or not any(each.is_event for each in piecewise.shown)


def test_a_journal_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST", 50)
    monkeypatch.setattr(logs, "_SLACK", 10)
    world, journal = World(), Journal()
    for number in range(400):
        world.take("logs", log(line(number, "info", "x")), NOW)
        journal.take(world)
        assert len(journal.kept) <= 60
        assert len(journal.shown) <= len(journal.kept)
        assert journal.shown[-1] is journal.kept[-1]


def test_a_nodes_log_has_the_events_that_are_about_it() -> None:
    world, journal = World(), Journal()
    world.happened([Event(1, NOW, "node.down", {"node": "a"}), Event(2, NOW, "node.up", {"node": "b"}), Event()])
    journal.take(world)
    assert [each.event for each in journal.kept] == ["node.down", "node.up"]
    journal.look_at("b", world)
    assert [each.event for each in journal.kept] == ["node.up"]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        *(("model.load_failed", "error"), ("model.failed", "error"), ("node.down", "warning"), ("node.up", "info")),
        *(("topology.rejected", "warning"), ("model.progress", "debug"), ("", "info")),
    ],
)
def test_an_events_name_tells_how_much_it_matters(event: str, level: str) -> None:
    assert level_of(event) == level


def test_a_line_tells_most_where_there_is_least_room() -> None:
    assert drawn(ENTRIES[7], 60, unicode=False).plain.startswith(" 14:13:28    request.ended         status=429")
    assert "status=429 key=bob route=" in drawn(ENTRIES[7], 200, unicode=False).plain
    assert drawn(ENTRIES[1], 200, unicode=False).plain.startswith(" 14:13:22.000 !  warning  actor crashed")


@given(each=st.sampled_from(ENTRIES), width=st.integers(1, 200), unicode=st.booleans())
def test_a_line_fits_and_obeys_no_terminal(each: Entry, width: int, *, unicode: bool) -> None:
    text = drawn(each, width, unicode=unicode)
    assert text.cell_len <= width
    assert text.plain.isprintable()


@pytest.mark.parametrize("level", LEVELS)
def test_levels_differ_in_shape(level: str) -> None:
    others = {drawn(entry(line(1, each, "x")), 40, unicode=False).plain for each in LEVELS if each != level}
    assert drawn(entry(line(1, level, "x")), 40, unicode=False).plain not in others


def test_a_level_that_nobody_knows_is_as_good_as_info() -> None:
    assert entry(line(1, "loud", "x")).level == "info"


def test_all_of_a_line_is_told() -> None:
    text = page(ENTRIES[4], 60, unicode=False).plain
    assert "2026-09-21 14:13:25.000+00:00" in text
    assert "log of the gateway" in text
    assert "exception        \n  Traceback:\n    in f\n  ValueError: no" in text
    event = page(of_event(Event(1, NOW, "node.down", {"node": "a", "x": [1, {"y": None}]})), 60, unicode=True).plain
    assert "event of the fleet" in event
    assert '[1,{"y":null}]' in event


def test_long_fields_are_broken_and_kept_whole() -> None:
    text = page(entry(line(1, "info", "x", what="z" * 200)), 60, unicode=True).plain
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("z") == 200


def test_a_copied_line_is_one_line() -> None:
    assert copied(ENTRIES[5]) == (
        "2026-09-21 14:13:26.000+00:00 warning node.failed_request node=attic request_id=req-42 reason=·[31mreset·[0m"
    )
    assert "\n" not in copied(ENTRIES[4])


@pytest.mark.parametrize("at", [1e300, -1e300, float("nan"), float("inf")])
def test_a_time_that_no_clock_shows_is_dashes(at: float) -> None:
    assert clock(at, fine=True) == "--:--:--"

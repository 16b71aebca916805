"""What requests set aside, what nodes are told of it, and what happens where it does not suffice."""

from typing import Any

import orjson
import pytest
import trio
from charges import STREAMED, TOLD, FakeLedger, booking, request
from fleets import fleet_of, loaded, model, sighting
from gateways import STREAM, Gateway, start
from http_parts import Peer, Play, plays, whole
from hypothesis import given
from hypothesis import strategies as st

from config import Cost, Provider, Route
from helexa.cortex.exchange.asks import ask_of, terms_of
from helexa.cortex.exchange.dialects import CHAT, COMPLETIONS, DIALECTS, MESSAGES, RESPONSES, Asked
from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.routing.fleet import Fleet
from helexa.wire import errors, meter
from helexa.wire.fleet import Limit


async def test_a_node_is_told_what_it_may_use(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    ledger = FakeLedger(
        (
            (900, 40, False),
            (700, 40, True),
            (None, None, True),
        )
    )
    script = await booking(nursery, gateways, ledger, STREAMED)
    for _ in range(3):
        assert (await request().run(gateways[-1].app)).status == 200
    told = [meter.BUDGET + b": 900 40" in script.requests[0][0], meter.BUDGET + b": 700 40" in script.requests[1][0]]
    assert told == [True, True]
    assert meter.BUDGET not in script.requests[2][0]


def exceeded(prompt: int) -> Play:
    error = meter.ExceededError.of(prompt, 5, 1)
    ((name, told),) = error.headers()
    extra = f"{name.decode()}: {told.decode()}\r\n"
    return plays(whole(error.body(), "429 Too Many Requests", extra=extra))


async def test_a_node_that_finds_too_little_left_makes_it_the_budgets_refusal(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger(((900, 40, False),))
    script = await booking(nursery, gateways, ledger, exceeded(5000))
    call = await request().run(gateways[-1].app)
    assert (call.status, call.error["code"]) == (429, "insufficient_quota")
    assert (ledger.only.delivered, len(script.requests)) == ((0, 0, 0), 1)


async def test_a_prompt_that_is_longer_than_was_thought_possible_is_reserved_anew_and_remembered(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger(((900, 40, True),))
    script = await booking(nursery, gateways, ledger, exceeded(2000), STREAMED)
    assert (await request().run(gateways[-1].app)).answer == STREAM
    first, second = ledger.charges
    assert (first.delivered, second.delivered) == ((0, 0, 0), TOLD[-1])
    assert (first.open, second.open, len(script.requests)) == (False, False, 2)
    assert (first.told[-1], second.ask.prompt) == (("abandoned",), 2000)
    await request().run(gateways[-1].app)
    assert ledger.charges[2].ask.prompt == 2000


@pytest.mark.parametrize("prompt", [0, 5, 10**9])
async def test_a_node_that_never_has_enough_is_asked_no_third_time(
    nursery: trio.Nursery, gateways: list[Gateway], prompt: int
) -> None:
    ledger = FakeLedger(((900, 40, True),))
    script = await booking(nursery, gateways, ledger, exceeded(prompt))
    call = await request().run(gateways[-1].app)
    assert (call.status, call.error["code"]) == (429, "insufficient_quota")
    assert len(script.requests) == (2 if prompt == 10**9 else 1)
    assert not any(each.open for each in ledger.charges)


async def test_what_does_not_fit_the_second_time_is_the_ledgers_refusal(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    ledger = FakeLedger(((900, 40, True),))

    async def play(peer: Peer) -> None:
        ledger.error = errors.rate_limited("Wait.", 9)
        await exceeded(2000)(peer)

    await booking(nursery, gateways, ledger, play)
    call = await request().run(gateways[-1].app)
    assert (call.status, call.headers[b"retry-after"]) == (429, b"9")
    assert not ledger.only.open


async def test_a_node_that_speaks_of_a_budget_where_there_is_none_is_at_fault(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, _ = await start(nursery, gateways, exceeded(5))
    call = await gateway.ask()
    assert (call.status, call.error["code"]) == (502, "upstream_error")


def small(**settings: Any) -> Fleet:
    """Two nodes with the model "m", of which the second one takes less."""
    reports = {"a": Limit(1000, 999, 900), "b": Limit(500, 499, 400)}
    return fleet_of({name: sighting(loaded(limit=limit)) for name, limit in reports.items()}, **settings)


def ask(path: str = CHAT, fleet: Fleet | None = None, **fields: Any) -> Ask:
    body = {"model": "m", **fields}
    asked = Asked(DIALECTS[path], orjson.dumps(body), body, body["model"], "r1")
    return ask_of(asked, terms_of(fleet or small(), asked.name))


@pytest.mark.parametrize(
    ("path", "fields", "output", "limited"),
    [
        (CHAT, {}, 400, False),
        (CHAT, {"max_tokens": 7}, 7, True),
        (CHAT, {"max_completion_tokens": 7, "max_tokens": 9}, 9, True),
        (CHAT, {"max_tokens": 7, "n": 3}, 21, True),
        (CHAT, {"n": 3}, 1200, False),
        (CHAT, {"max_output_tokens": 7}, 400, False),
        (CHAT, {"min_tokens": 450}, 450, False),
        (CHAT, {"max_tokens": 7, "prompt": ["a"] * 9}, 7, True),
        (CHAT, {"max_tokens": 10**9}, 1000, True),
        (COMPLETIONS, {"prompt": "a"}, 16, False),
        (COMPLETIONS, {"prompt": ["a", "b", "c"], "max_tokens": 5, "n": 2}, 30, True),
        (COMPLETIONS, {"prompt": [1, 2, 3], "max_tokens": 5}, 5, True),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "max_tokens": 5}, 10, True),
        (COMPLETIONS, {"prompt": [], "max_tokens": 5}, 5, True),
        (COMPLETIONS, {"prompt": "a", "max_tokens": 5, "n": 2, "best_of": 4}, 20, True),
        (RESPONSES, {"max_output_tokens": 7, "n": 3}, 7, True),
        (MESSAGES, {"max_tokens": 7}, 7, True),
    ],
    ids=str,
)
def test_what_is_set_aside_for_answers(
    path: str,
    fields: dict[str, Any],
    output: int,
    limited: bool,  # noqa: FBT001 - one of a table
) -> None:
    found = ask(path, **fields)
    assert (found.output, found.limited) == (output, limited)


@pytest.mark.parametrize("junk", [None, 0, -1, 1.5, "7", True, [], {}])
def test_a_number_that_is_none_says_nothing(junk: object) -> None:
    found = ask(max_tokens=junk, n=junk)
    assert (found.output, found.limited) == (400, False)


def test_a_prompt_has_no_more_tokens_than_its_body_has_bytes_and_a_template_adds() -> None:
    found = ask(messages=[{"role": "user", "content": "ü" * 100}])
    assert found.prompt == len(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "ü" * 100}]})) + 512


def test_a_model_that_no_node_has_may_say_as_much_as_is_usual() -> None:
    assert ask(model="other").output == 8192
    assert ask(fleet=fleet_of({"a": sighting(loaded())})).output == 8192
    assert ask(model="other", max_tokens=100_000).output == 100_000


def priced(**settings: Any) -> Fleet:
    """The model "m", also called "x", at a price, and a provider."""
    known = {"models": (model(cost=Cost(1.0, 4.0)),), "aliases": {"x": "m"}}
    return small(providers=(Provider("p", "openai", "http://p"),), **known, **settings)


def test_what_is_set_aside_is_what_the_dearest_place_costs() -> None:
    routes = (Route("m", ("p",), cost=Cost(2.0, 3.0)), Route("*", ("p",), cost=Cost(9.0, 9.0)))
    mine, dearest = Prices(10**6, 4 * 10**6), Prices(2 * 10**6, 4 * 10**6)
    assert ask(fleet=priced()).prices == mine
    assert ask(fleet=priced(routes=routes)).prices == dearest
    assert ask(fleet=priced(routes=routes), model="x").prices == dearest
    assert ask(fleet=priced(routes=routes), model="other").prices == Prices(9 * 10**6, 9 * 10**6)
    assert ask(fleet=priced(routes=(Route("m", ("p",), deny=("m",), cost=Cost(9.0, 9.0)),))).prices == mine


def test_who_may_be_sent_outside_is_not_held_to_the_fleets_contexts() -> None:
    assert ask(fleet=priced(routes=(Route("m", ("p",)),)), max_tokens=100_000).output == 100_000
    assert ask(fleet=priced(routes=(Route("m", ("p",)),))).output == 400


NAMES = ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "prompt", "stream_options"]
BODIES = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    ),
)


@given(st.sampled_from([CHAT, COMPLETIONS, RESPONSES, MESSAGES]), BODIES)
def test_whatever_a_client_asks_for_is_a_number_that_a_column_holds(path: str, fields: dict[str, Any]) -> None:
    body = {"model": "m", **fields}
    found = ask_of(Asked(DIALECTS[path], b"{}", body, "m", "r1"), terms_of(small(), "m"))
    assert 1 <= found.output <= 2**40

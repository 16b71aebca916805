"""When a failed request is sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.exchange.retry import LONGEST_ASKED_SECONDS, LONGEST_SECONDS, asked_wait, wait

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"3"}, 3),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after-ms": b"20", b"retry-after": b"7"}, 0.02),
        ({b"retry-after-ms": b"soon", b"retry-after": b"7"}, 7),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:25 GMT"}, 5),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:15 GMT"}, 0),
        ({b"retry-after": b"Tue, 14 Nov 99999 22:13:15 GMT"}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b"1e300"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"\xff"}, None),
    ],
)
def test_what_a_server_asks_for_is_read(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert asked_wait(headers.get, NOW) == seconds


@given(st.binary(max_size=40))
def test_no_header_is_too_odd_to_read(value: bytes) -> None:
    found = asked_wait({b"retry-after": value}.get, NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(("failed", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (10_000, 8)])
def test_the_wait_doubles_up_to_the_longest(failed: int, seconds: float) -> None:
    assert wait(failed, None, 0.5) == pytest.approx(seconds / 2)
    assert wait(failed, None, 0.0) == 0


def test_what_a_server_asks_for_is_the_least_and_too_much_is_not_waited_for() -> None:
    assert wait(1, 5.0, 0.9) == 5
    assert wait(9, 0.0, 0.5) == LONGEST_SECONDS / 2
    assert wait(1, LONGEST_ASKED_SECONDS, 0.9) == LONGEST_ASKED_SECONDS
    assert wait(1, LONGEST_ASKED_SECONDS + 0.1, 0.9) is None

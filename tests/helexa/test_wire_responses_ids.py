"""Identifiers that sort by time."""

from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.responses.ids import new_id, uuid7


def test_ids_sort_by_time_and_say_their_version() -> None:
    # RFC 9562, appendix A.6.
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert str(uuid7(0x017F22E279B0, random)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert uuid7(1, b"\xff" * 10) < uuid7(2, b"\x00" * 10)
    assert uuid7(2**48 + 7, bytes(10)) == uuid7(7, bytes(10))


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_every_id_is_of_the_standard(milliseconds: int, random: bytes) -> None:
    found = uuid7(milliseconds, random)
    assert (found.version, found.variant) == (7, "specified in RFC 4122")
    assert found.int >> 80 == milliseconds


def test_a_new_id_has_its_prefix() -> None:
    first, second = new_id("resp"), new_id("resp")
    assert first.startswith("resp_")
    assert len(first) == len("resp_") + 32
    assert first != second

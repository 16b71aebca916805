"""The heads of answers: what h11 would have written, in less time."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.web.http11 import written

Header = tuple[bytes, bytes]
NAMES = st.sampled_from([b"x-request-id", b"Warning", b"x-a", b"", b"a b", b"a:b", b"a\r\nb", b"\xe9"])
CUNNING = [b"1", b"a\r\nset-cookie: b", b"a\nb", b"caf\xe9", b"\0", b"a\tb", b""]
VALUES = st.binary(max_size=8) | st.sampled_from(CUNNING)


def by_h11(headers: list[Header]) -> bytes:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    connection.next_event()
    head = connection.send(h11.Response(status_code=200, headers=[*headers, (b"content-length", b"0")]))
    assert head is not None
    return (
        head.removeprefix(b"HTTP/1.1 200 \r\n")
        .removesuffix(b"Content-Length: 0\r\n\r\n")
        .removesuffix(b"content-length: 0\r\n\r\n")
    )


@given(st.lists(st.tuples(NAMES, VALUES.map(bytes.strip)), max_size=4))
def test_headers_are_written_as_h11_writes_them_or_refused_as_it_does(headers: list[Header]) -> None:
    try:
        expected = by_h11(headers)
    except h11.LocalProtocolError:
        with pytest.raises(ValueError, match="characters"):
            written(headers)
    else:
        assert written(headers) == expected


def test_what_a_value_smuggles_in_is_refused_whatever_else_is_missing() -> None:
    with pytest.raises(ValueError, match="characters"):
        written([(b"a", b"1\r\nb: 2")])

"""Which host names mean this machine."""

import pytest
from http_parts import scope_of

from helexa.web.hosts import is_local


def scope_with(host: bytes | None) -> dict:
    return {**scope_of("GET", "/"), "headers": [] if host is None else [(b"host", host)]}


@pytest.mark.parametrize(
    "host",
    [None, b"localhost", b"LOCALHOST:80", b"localhost.", b"app.localhost:5", b"127.0.0.1:1", b"127.8.9.1", b"[::1]:80"],
)
def test_loopback_names_are_local(host: bytes | None) -> None:
    assert is_local(scope_with(host))


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"evil.example",
        b"localhost.evil.example",
        b"evillocalhost",
        b"127.0.0.1.evil.example",
        b"0.0.0.0",
        b"10.0.0.1:31313",
        b"[::2]",
        b"[fe80::1]",
        b"evil.example#localhost",
        b"evil.example@localhost.x",
        b"\xff",
    ],
)
def test_other_names_are_not(host: bytes) -> None:
    assert not is_local(scope_with(host))


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        (b"http://localhost:3000", True),
        (b"http://127.0.0.1", True),
        (b"http://[::1]:8080", True),
        (b"https://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_a_page_may_call_only_from_this_machine(origin: bytes, *, local: bool) -> None:
    scope = {**scope_of("POST", "/models/unload"), "headers": [(b"host", b"localhost"), (b"origin", origin)]}
    assert is_local(scope) is local

"""Who may open the console's page, and who may not."""

import socket

import pytest

from tui.web import allowed, serve


@pytest.mark.parametrize(
    ("host", "origin", "served"),
    [
        ("127.0.0.1:31316", None, "127.0.0.1"),
        ("127.0.0.1:31316", "http://127.0.0.1:31316", "127.0.0.1"),
        ("localhost:9000", "http://localhost:9000", "127.0.0.1"),  # through a tunnel
        ("LocalHost:9000", "http://localhost:9000", "127.0.0.1"),
        ("[::1]:31316", "http://[::1]:31316", "::1"),
        ("10.0.0.5:31316", "http://10.0.0.5:31316", "0.0.0.0"),
        ("beast.lan:31316", "https://beast.lan:31316", "beast.lan"),
        (f"{socket.gethostname()}:1", f"http://{socket.gethostname()}:1", "0.0.0.0"),
    ],
)
def test_its_own_page_may(host: str, origin: str | None, served: str) -> None:
    assert allowed(host, origin, served)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:31316", "http://evil.example"),
        ("127.0.0.1:31316", "http://127.0.0.1:8080"),  # another server of this machine
        ("127.0.0.1:31316", "null"),
        ("127.0.0.1:31316", ""),
        ("evil.example:31316", "http://evil.example:31316"),  # a name that was made to mean this machine
        ("evil.example", None),
        ("", None),
        ("localhost.evil.example", None),
        ("127.0.0.1.evil.example", None),
    ],
)
def test_a_page_of_another_site_and_a_name_that_nobody_gave_may_not(host: str, origin: str | None) -> None:
    assert not allowed(host, origin, "0.0.0.0")


def test_a_port_that_is_taken_is_an_error_and_nothing_is_announced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve("true", "127.0.0.1", taken.getsockname()[1], lambda _url: pytest.fail("it was announced"))

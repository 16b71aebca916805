"""The terminal's client of a fleet that shows a certificate."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority

from helexa.web.tls import server_context
from tui.client import CA, FleetClient, FleetError


class Fleet(http.server.BaseHTTPRequestHandler):
    """Answers everything with an empty fleet."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"nodes":[]}')

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that go at the sight of the certificate are the point."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.in_(tmp_path)


@pytest.fixture
def url(authority: Authority) -> Iterator[str]:
    context = server_context(authority.files(), "cortex.tls")
    with Server(("127.0.0.1", 0), Fleet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_fleet_is_trusted_by_the_file_that_the_environment_names(
    url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CA, authority.ca)
    with FleetClient(url) as client:
        assert client.fleet() == {"nodes": []}


def test_a_fleet_that_is_not_trusted_is_not_asked_and_the_remedy_is_told(url: str) -> None:
    with FleetClient(url) as client, pytest.raises(FleetError) as raised:
        client.fleet()
    assert str(raised.value) == (
        f"{url} was not asked, as its certificate is not to be trusted: unable to get local issuer certificate. "
        "If it is your own, name its file, or that of who signed it, in HELEXA_CA."
    )


def test_a_file_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CA, "/nowhere")
    with pytest.raises(FleetError, match=r"^/nowhere, which \$HELEXA_CA names, cannot be read: No such file"):
        FleetClient("https://localhost:1")

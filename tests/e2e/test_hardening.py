"""A fleet as one that strangers can reach: certificates, keys and a secret. Nothing of those shows up anywhere."""

import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from attrs import define, field
from certificates import Authority
from harness import Fleet, free_port, wait_until

from config import Tls
from helexa.web.tls import client_context

pytestmark = pytest.mark.usefixtures("forked_fleets")
SECRET, KEY, PROVIDER_KEY = "marked-fleet-secret", "hx-marked-client-key-0123456789", "sk-marked-provider-key"
PROMPT, ANSWER = "marked prompt of a client", "marked answer of a provider"
CHAT = "/v1/chat/completions"


class Provider(BaseHTTPRequestHandler):
    """Tells whoever asks what he has asked with, as careless servers do; with the status that the model's name says."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = int(re.findall(rb"outside-(\d+)", body)[0])
        message = f"{self.headers['authorization']} asked for {body.decode()!r}; {ANSWER}".replace('"', "'")
        answer = f'{{"error":{{"message":"{message}","type":"x","code":"x","param":null}}}}'.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@define
class Guarded(Fleet):
    """One that shows certificates, and asks for keys."""

    trusted: ssl.SSLContext = field(kw_only=True)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def get(self, path: str) -> int:
        try:
            return self.ask("GET", path).status_code
        except httpx.TransportError:
            return 0

    def ask(self, method: str, path: str, key: str = KEY, **settings: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.request(method, self.url + path, headers=headers, verify=self.trusted, timeout=20, **settings)


def shown(tls: Tls) -> str:
    return f'{{ certificate = "{tls.certificate}", key = "{tls.key}" }}'


def text(directory: Path, tls: tuple[Tls, Tls], ca: str, ports: tuple[int, int, int], provider: str) -> str:
    return f"""
[cortex]
listen = "127.0.0.1:{ports[0]}"
metrics_listen = "127.0.0.1:{ports[2]}"
database = "sqlite:///{directory}/helexa.db"
tls = {shown(tls[0])}
ca = "{ca}"
[[neurons]]
name = "local"
listen = "127.0.0.1:{ports[1]}"
tls = {shown(tls[1])}
devices = ["cpu"]
preload = ["helexa/tiny"]
[[models]]
id = "helexa/tiny"
[[providers]]
name = "careless"
kind = "openai"
base_url = "{provider}"
api_key_env = "HARDENING_PROVIDER_KEY"
retries = 0
[[routes]]
pattern = "outside-*"
providers = ["careless"]
[entitlements]
require_auth = true
[[entitlements.keys]]
name = "client"
key_env = "HARDENING_KEY"
scopes = ["inference", "models:read", "fleet:read", "fleet:admin"]
[actors.poller]
interval = "500ms"
"""


def make(directory: Path, provider: str, expired: str = "") -> Guarded:
    """A fleet; `expired` names whose certificate is, if anyone's."""
    now = datetime.now(UTC).replace(tzinfo=None)
    dates = {"not_before": now - timedelta(days=2), "not_after": now - timedelta(days=1)}
    authority = Authority.in_(directory / "certificates")
    ports = (free_port(), free_port(), free_port())
    topology = directory / "topology.toml"
    cortex, neuron = (authority.files(who, **(dates if who == expired else {})) for who in ("cortex", "neuron"))
    topology.write_text(text(directory, (cortex, neuron), authority.ca, ports, provider))
    return Guarded(topology, *ports, directory / "log", trusted=client_context(authority.ca))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, provider: str) -> Iterator[Guarded]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HELEXA_SECRET", SECRET)
        environment.setenv("HARDENING_KEY", KEY)
        environment.setenv("HARDENING_PROVIDER_KEY", PROVIDER_KEY)
        running = make(tmp_path_factory.mktemp("guarded"), provider).start()
    yield running
    assert running.stop() == 0


def chat(model: str, **settings: object) -> dict[str, object]:
    return {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": PROMPT}], **settings}


def test_a_fleet_with_certificates_serves_whoever_trusts_them(fleet: Guarded) -> None:
    assert fleet.ask("POST", CHAT, json=chat("helexa/tiny")).json()["usage"]["completion_tokens"] > 0
    assert "data: [DONE]" in fleet.ask("POST", CHAT, json=chat("helexa/tiny", stream=True)).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(fleet.url + "/health")
    assert httpx.get(f"https://localhost:{fleet.metrics_port}/metrics", verify=fleet.trusted).status_code == 200
    banner = f"on https://127.0.0.1:{fleet.port}/v1"
    wait_until(lambda: banner in fleet.log.read_text(), 10, banner)


@pytest.mark.parametrize("port", ["port", "neuron_port", "metrics_port"])
def test_no_port_of_a_fleet_with_certificates_speaks_plain_http(fleet: Guarded, port: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{getattr(fleet, port)}/metrics")


@pytest.mark.parametrize("secret", [None, "wrong", SECRET[:-1], SECRET + "x"])
def test_a_neuron_answers_nobody_without_the_fleets_secret(fleet: Guarded, secret: str | None) -> None:
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    with httpx.Client(verify=fleet.trusted, base_url=f"https://localhost:{fleet.neuron_port}", headers=headers) as http:
        for path in ("/health", "/models", "/discovery", "/nothing"):
            assert http.get(path).status_code == 401, path
        for path in (CHAT, "/models/load", "/models/unload", "/tokenize"):
            assert http.post(path, json=chat("helexa/tiny")).status_code == 401, path


def test_nothing_secret_is_shown_anywhere(fleet: Guarded) -> None:
    made = fleet.ask("POST", "/fleet/keys", json={"name": "made"}).json()["key"]
    secrets = (SECRET, KEY, PROVIDER_KEY, made)
    failing = [f"outside-{status}" for status in (400, 401, 403, 404, 429, 500, 503)]
    seen = [fleet.ask("POST", path, json=chat(model)).text for model in failing for path in (CHAT, "/v1/messages")]
    fleet.ask("POST", CHAT, key=made, json=chat("helexa/tiny"))
    seen += [fleet.ask("POST", CHAT, key=key, json=chat("helexa/tiny")).text for key in (KEY[:-1], SECRET, "x")]
    seen += [fleet.ask("GET", path).text for path in ("/fleet", "/fleet/keys", "/fleet/actors", "/v1/models")]
    seen += [fleet.ask("POST", CHAT, content=b'{"model": ' + KEY.encode()).text]
    seen += [httpx.get(f"https://localhost:{fleet.metrics_port}/metrics", verify=fleet.trusted).text]
    seen += [argument for process in fleet.family() for argument in process.cmdline()]
    log = fleet.log.read_text()
    for secret in secrets:
        assert not [each for each in [*seen, log] if secret in each], secret
    assert PROMPT not in log
    assert ANSWER not in log


def test_no_file_of_a_fleet_holds_a_secret_in_the_clear(fleet: Guarded) -> None:
    made = fleet.ask("POST", "/fleet/keys", json={"name": "another"}).json()["key"]
    for path in fleet.topology.parent.rglob("*"):
        found = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in (SECRET, KEY, PROVIDER_KEY, made) if secret.encode() in found], path


@pytest.mark.parametrize(("expired", "named"), [("cortex", "cortex.tls"), ("neuron", "neurons.local.tls")])
def test_a_fleet_with_a_certificate_that_has_expired_does_not_start(
    tmp_path: Path, provider: str, expired: str, named: str
) -> None:
    fleet = make(tmp_path, provider, expired)
    environment = {"HARDENING_KEY": KEY, "HARDENING_PROVIDER_KEY": PROVIDER_KEY, "HELEXA_SECRET": SECRET}
    command = [sys.executable, "-m", "helexa", "up", str(fleet.topology)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert ended.returncode == 1
    file = f"{tmp_path}/certificates/{expired}.pem, which {named}.certificate names"
    assert ended.stderr.splitlines() == [f"helexa: {file}, holds a certificate that has expired."]


def test_killing_the_gateway_leaves_no_secret_behind(tmp_path: Path, provider: str) -> None:
    """The copy of the topology that neurons read lies in a directory of its own, which only its owner can enter."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", str(tmp_path))
        environment.setenv("HELEXA_SECRET", SECRET)
        environment.setenv("HARDENING_KEY", KEY)
        environment.setenv("HARDENING_PROVIDER_KEY", PROVIDER_KEY)
        fleet = make(tmp_path, provider).start("/health")
    (copy,) = tmp_path.glob("helexa-*")
    assert copy.stat().st_mode & 0o077 == 0
    family = fleet.family()
    fleet.process.send_signal(signal.SIGKILL)
    fleet.process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    for path in copy.rglob("*"):
        assert not [each for each in (SECRET, KEY, PROVIDER_KEY) if each.encode() in path.read_bytes()], path

"""Certificates: what is wrong with their files is told before anything is started; what is right is served."""

import shutil
import ssl
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio
from attrs import evolve
from certificates import Authority
from http_parts import RawClient, live, request_bytes, until

from config import Tls
from helexa.cortex.exchange.upstream import ConnectError, Pool, Upstream
from helexa.web import server
from helexa.web.asgi import Ending, EventStream, read_body, run_while_connected, send_body
from helexa.web.server import Drain, Receive, Scope, Send, bind, serve
from helexa.web.tls import CertificateError, client_context, distrust, server_context

DAY = timedelta(days=1)


async def scheme_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the scheme it was asked by."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await read_body(scope, receive)
    await send_body(send, 200, scope["scheme"].encode())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.in_(tmp_path / "certificates")


async def start(nursery: trio.Nursery, tls: Tls | None) -> int:
    sock = bind("127.0.0.1", 0, "test")
    port = int(sock.getsockname()[1])
    context = None if tls is None else server_context(tls, "cortex.tls")
    await nursery.start(serve, scheme_app, sock, Drain(), context)
    return port


async def ask(upstream: Upstream) -> bytes:
    response = await upstream.post("/x", [], b"{}")
    try:
        return await response.read_all(1000)
    finally:
        await response.aclose()


def refusal(tls: Tls) -> str:
    with pytest.raises(CertificateError) as raised:
        server_context(tls, "cortex.tls")
    return str(raised.value)


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


async def test_a_server_with_a_certificate_answers_who_trusts_it(nursery: trio.Nursery, authority: Authority) -> None:
    port = await start(nursery, authority.files())
    async with httpx.AsyncClient(verify=client_context(authority.ca)) as client:
        assert (await client.get(f"https://localhost:{port}/")).text == "https"
        assert (await client.get(f"https://127.0.0.1:{port}/")).text == "https"


async def test_who_does_not_trust_a_server_does_not_ask_it(nursery: trio.Nursery, authority: Authority) -> None:
    port = await start(nursery, authority.files())
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError) as raised:
            await client.get(f"https://localhost:{port}/")
    assert distrust(raised.value) == "its certificate is not to be trusted: unable to get local issuer certificate"
    assert distrust(ValueError("x")) is None


async def test_a_server_with_a_certificate_speaks_nothing_else(nursery: trio.Nursery, authority: Authority) -> None:
    port = await start(nursery, authority.files())
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("GET", "/"))
        with trio.fail_after(5):
            assert b"HTTP" not in await client.stream.receive_some()
    async with httpx.AsyncClient(verify=client_context(authority.ca)) as client:
        assert (await client.get(f"https://localhost:{port}/")).text == "https"


async def test_who_never_greets_is_cut_off_and_the_others_are_served(
    nursery: trio.Nursery, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.2)
    port = await start(nursery, authority.files())
    async with await RawClient.connect(port) as silent:
        async with httpx.AsyncClient(verify=client_context(authority.ca)) as client:
            assert (await client.get(f"https://localhost:{port}/")).text == "https"
        with trio.fail_after(5):
            assert await silent.stream.receive_some() == b""


def test_only_http_1_1_over_tls_1_2_and_later_is_offered(authority: Authority) -> None:
    serving = server_context(authority.files(), "cortex.tls")
    asking = client_context(authority.ca)
    asking.set_alpn_protocols(["h2", "http/1.1"])
    assert serving.minimum_version is ssl.TLSVersion.TLSv1_2
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, theirs, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.selected_alpn_protocol() == "http/1.1"


async def test_the_thin_client_trusts_what_it_is_told_to_and_greets_once(
    nursery: trio.Nursery, authority: Authority
) -> None:
    context = server_context(authority.files(), "cortex.tls")
    sock = bind("127.0.0.1", 0, "test")
    upstream = Upstream(f"https://localhost:{sock.getsockname()[1]}", client_context(authority.ca))
    await nursery.start(serve, scheme_app, sock, Drain(), context)
    before = context.session_stats()["accept"]
    assert [await ask(upstream) for _ in range(5)] == [b"https"] * 5
    assert context.session_stats()["accept"] - before == 1
    await upstream.aclose()


async def test_a_client_that_leaves_is_noticed_behind_tls(nursery: trio.Nursery, authority: Authority) -> None:
    endings: list[Ending] = []
    drain = Drain()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        await read_body(scope, receive)
        stream = EventStream(send)

        async def work() -> None:
            await stream.write(b"data: 1\n\n")
            await trio.sleep_forever()

        endings.append(await run_while_connected(work, receive, drain))

    sock = bind("127.0.0.1", 0, "test")
    upstream = Upstream(f"https://localhost:{sock.getsockname()[1]}", client_context(authority.ca))
    await nursery.start(serve, endless, sock, drain, server_context(authority.files(), "cortex.tls"))
    response = await upstream.post("/x", [], b"{}")
    assert await response.read() == b"data: 1\n\n"
    await response.aclose()
    await until(lambda: endings == [Ending.CLIENT_GONE])


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "greeting"])
async def test_a_server_with_certificates_stops_at_once(authority: Authority, *, idle: bool) -> None:
    """Neither who keeps a connection nor who is in the middle of a greeting holds it up."""
    drain = Drain()
    with trio.fail_after(server.DRAIN_SECONDS + server.CUT_SECONDS + 3):
        async with trio.open_nursery() as nursery:
            sock = bind("127.0.0.1", 0, "test")
            port = int(sock.getsockname()[1])
            await nursery.start(serve, scheme_app, sock, drain, server_context(authority.files(), "cortex.tls"))
            upstream = Upstream(f"https://localhost:{port}", client_context(authority.ca))
            if idle:
                assert await ask(upstream) == b"https"
            async with await RawClient.connect(port):
                drain.stopping.set()
                await trio.lowlevel.checkpoint()
            await upstream.aclose()


async def test_the_thin_client_says_why_it_does_not_trust(nursery: trio.Nursery, authority: Authority) -> None:
    port = await start(nursery, authority.files())
    with pytest.raises(ConnectError) as raised:
        await ask(Upstream(f"https://localhost:{port}"))
    reason = "unable to get local issuer certificate"
    assert str(raised.value) == f"no connection: its certificate is not to be trusted: {reason}"


async def test_a_certificate_for_another_name_is_not_trusted(nursery: trio.Nursery, authority: Authority) -> None:
    port = await start(nursery, authority.files("other", "elsewhere.example"))
    with pytest.raises(ConnectError, match="not to be trusted: Hostname mismatch"):
        await ask(Upstream(f"https://localhost:{port}", client_context(authority.ca)))


async def test_a_server_without_tls_is_told_apart_from_one_that_is_not_trusted(nursery: trio.Nursery) -> None:
    port = await start(nursery, None)
    with pytest.raises(ConnectError, match=r"^no connection: no TLS: [A-Z_]+$"):
        await ask(Upstream(f"https://localhost:{port}"))


async def test_who_vouches_for_the_fleet_does_not_vouch_for_providers(
    nursery: trio.Nursery, authority: Authority
) -> None:
    port = await start(nursery, authority.files())
    pool = Pool(client_context(authority.ca))
    origin = f"https://localhost:{port}"
    assert await ask(pool.to(origin, local=True)) == b"https"
    assert pool.to(origin, local=True) is pool.to(origin, local=True)
    with pytest.raises(ConnectError, match="not to be trusted"):
        await ask(pool.to(origin))
    await pool.aclose()


@pytest.mark.parametrize("field", ["certificate", "key"])
def test_a_file_that_is_not_there_is_named(authority: Authority, field: str) -> None:
    files = evolve(authority.files(), **{field: "/nowhere/x.pem"})
    assert (
        refusal(files) == f"/nowhere/x.pem, which cortex.tls.{field} names, cannot be read: No such file or directory."
    )


@pytest.mark.parametrize("field", ["certificate", "key"])
def test_a_directory_is_no_file(authority: Authority, tmp_path: Path, field: str) -> None:
    assert refusal(evolve(authority.files(), **{field: str(tmp_path)})).endswith("cannot be read: Is a directory.")


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_named(authority: Authority, content: bytes) -> None:
    files = authority.files()
    Path(files.certificate).write_bytes(content)
    named = f"{files.certificate}, which cortex.tls.certificate names"
    assert refusal(files) == f"{named}, holds no certificate in PEM form."


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_named(authority: Authority, content: bytes) -> None:
    files = authority.files()
    Path(files.key).write_bytes(content)
    assert refusal(files) == f"{files.key}, which cortex.tls.key names, holds no private key in PEM form."


def test_the_two_files_swapped_are_told(authority: Authority) -> None:
    files = authority.files()
    assert "holds no certificate in PEM form" in refusal(Tls(files.key, files.certificate))


def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    files = authority.files()
    swapped = evolve(files, key=authority.files("other").key)
    problem = f"is not the key of the certificate in {files.certificate}."
    assert refusal(swapped) == f"{swapped.key}, which cortex.tls.key names, {problem}"


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization

    files = authority.files()
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    Path(files.key).write_bytes(locked)
    assert refusal(files) == f"{files.key}, which cortex.tls.key names, needs a passphrase; store it without one."


def test_an_expired_certificate_is_refused_at_start(authority: Authority) -> None:
    files = authority.files(not_before=now() - 2 * DAY, not_after=now() - DAY)
    named = f"{files.certificate}, which cortex.tls.certificate names"
    assert refusal(files) == f"{named}, holds a certificate that has expired."


def test_a_certificate_of_the_future_is_refused_at_start(authority: Authority) -> None:
    files = authority.files(not_before=now() + DAY, not_after=now() + 2 * DAY)
    assert refusal(files).endswith("holds a certificate that is not valid yet; is this machine's clock right?")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl's command line is not installed")
def test_a_certificate_signed_by_itself_can_be_served_and_trusted(tmp_path: Path) -> None:
    """What `openssl req -x509` makes, which is what many fleets begin with."""
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server_context(Tls(str(certificate), str(key)), "cortex.tls")
    client_context(str(certificate))


def test_a_home_directory_may_be_named_by_its_tilde(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.files()
    monkeypatch.setenv("HOME", str(authority.directory))
    server_context(Tls("~/server.pem", "~/server.key"), "cortex.tls")


def test_who_vouches_is_read_at_start_too(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"^/nowhere, which cortex.ca names, cannot be read: No such file"):
        client_context("/nowhere")
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(CertificateError, match=r"x, which cortex.ca names, holds no certificate in PEM form\.$"):
        client_context(str(tmp_path / "x"))
    context = client_context(authority.ca)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) > len(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ca_certs())

"""A registry that speaks the hub's API on real sockets, and fails in the ways that registries fail."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, evolve, field, frozen

COMMIT = "c0ffee" + "0" * 34
LARGE = (".safetensors", ".gguf")


@frozen
class Fault:
    """What is wrong with one answer.

    Attributes:
        status: instead of a success.
        headers: of that status.
        cut_at: bytes of the body after which the connection dies.
        short_at: bytes of the body that are announced and sent as if they were all.
        extra: bytes after the end.
        spoil: whether the content is another of the same length.
        whole: whether a range that is asked for is ignored.
        shift: bytes by which the range that is sent is not the one that is asked for.
        wait: set by the server once it has sent ``wait_at`` bytes; it then waits for ``go``.
    """

    status: int = 200
    headers: dict[str, str] = field(factory=dict)
    cut_at: int | None = None
    short_at: int | None = None
    extra: bytes = b""
    spoil: bool = False
    whole: bool = False
    shift: int = 0
    wait_at: int | None = None
    wait: threading.Event = field(factory=threading.Event)
    go: threading.Event = field(factory=threading.Event)


@define
class Repository:
    """What lies in a registry.

    Attributes:
        files: contents by name.
        token: what has to be shown for its files; ``None``: nothing.
        gated: whether its files, but not its listing, ask for it.
        listing: changes what is told of it.
    """

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    listing: Callable[[dict[str, Any]], Any] = lambda told: told


@frozen
class Asked:
    """One request that came."""

    path: str
    range: str | None
    authorization: str | None
    elsewhere: bool = False


@define(eq=False)
class Hub:
    """Owns two servers: the registry, and the one that large files are redirected to.

    Attributes:
        repositories: by name.
        faults: of the next answers about a file or a listing, by its name or the repository's; used up one by one.
        asked: every request so far.
    """

    repositories: dict[str, Repository] = field(factory=dict)
    faults: dict[str, list[Fault]] = field(factory=dict)
    asked: list[Asked] = field(factory=list)
    endpoint: str = ""
    elsewhere: str = ""

    def fetches(self, name: str) -> list[str | None]:
        """The ranges that were asked for of a file, where it really lies."""
        large = name.endswith(LARGE)
        return [each.range for each in self.asked if each.path.endswith("/" + name) and each.elsewhere == large]

    def next_fault(self, name: str) -> Fault:
        waiting = self.faults.get(name)
        return waiting.pop(0) if waiting else Fault()


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A registry, until the block ends."""
    hub = Hub()
    servers = [_Server(hub, elsewhere=False), _Server(hub, elsewhere=True)]
    hub.endpoint, hub.elsewhere = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for faults in hub.faults.values():
            for fault in faults:
                fault.go.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub, *, elsewhere: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.elsewhere = hub, elsewhere

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it that
        """Not into the tests' output."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        shown = (self.headers["range"], self.headers["authorization"])
        self.server.hub.asked.append(Asked(path, *shown, elsewhere=self.server.elsewhere))
        if path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/").removesuffix("/revision/main"))
        else:
            repository, _, name = path.removeprefix("/").partition(f"/resolve/{COMMIT}/")
            self._file(repository, name)

    def _list(self, name: str) -> None:
        fault = self.server.hub.next_fault(name)
        found = self.server.hub.repositories.get(name)
        if fault.status != 200:
            self._refuse(fault.status, fault.headers)
        elif found is None or (found.token and not found.gated and not self._shows(found)):
            self._refuse(401, {"X-Error-Code": "RepoNotFound"})
        else:
            self._send(json.dumps(found.listing({"id": name, **listing(found)})).encode(), fault)

    def _file(self, name: str, file: str) -> None:
        found = self.server.hub.repositories.get(name)
        content = None if found is None else found.files.get(file)
        if found is None or content is None:
            self._refuse(404, {"X-Error-Code": "EntryNotFound"})
        elif not self.server.elsewhere and found.token and not self._shows(found):
            self._refuse(401 if self.headers["authorization"] is None else 403, {"X-Error-Code": "GatedRepo"})
        elif file.endswith(LARGE) and not self.server.elsewhere:
            self._refuse(302, {"Location": self.server.hub.elsewhere + self.path})
        else:
            self._content(content, self.server.hub.next_fault(file))

    def _shows(self, repository: Repository) -> bool:
        return self.headers["authorization"] == f"Bearer {repository.token}"

    def _content(self, content: bytes, fault: Fault) -> None:
        content = bytes(byte ^ 1 for byte in content) if fault.spoil else content
        asked = self.headers["range"]
        if fault.status != 200:
            self._refuse(fault.status, fault.headers)
        elif asked is None or fault.whole:
            self._send(content + fault.extra, fault)
        else:
            self._part(content, int(asked.removeprefix("bytes=").removesuffix("-")), fault)

    def _part(self, content: bytes, start: int, fault: Fault) -> None:
        if start >= len(content):
            self._refuse(416, {})
            return
        start += fault.shift
        told = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._send(content[start:], evolve(fault, status=206, headers={**told, **fault.headers}))

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self._send(b"", Fault(status, headers))

    def _send(self, body: bytes, fault: Fault) -> None:
        body = body[: fault.short_at]
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.wait_at is not None:
            self.wfile.write(body[: fault.wait_at])
            fault.wait.set()
            fault.go.wait(30)
            body = body[fault.wait_at :]
        self.wfile.write(body[: fault.cut_at])
        if fault.cut_at is not None:
            self.close_connection = True


def listing(repository: Repository) -> dict[str, Any]:
    """What the hub tells of a repository."""
    return {"sha": COMMIT, "siblings": [_sibling(name, content) for name, content in repository.files.items()]}


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
    told: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        told |= {"blobId": "f" * 40, "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}
    return told


def contents(directory: Path) -> dict[str, bytes]:
    """The files of a directory, of no directory below it."""
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.is_file()}

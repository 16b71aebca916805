"""The terminal's client against a small real server: what it reads, and what it says when something goes wrong."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
from attrs import define, field

from helexa.wire import errors, sse
from tui.chat import Conversation, converse, pick_model
from tui.client import FleetClient, FleetError

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
Reply = tuple[int, str, bytes]


@define(eq=False)
class Server:
    """Answers each path with what is set for it; remembers what it was asked."""

    url: str = ""
    replies: dict[str, Reply] = field(factory=dict)
    asked: list[tuple[str, str, Any]] = field(factory=list)

    def json(self, path: str, payload: Any, status: int = 200) -> None:
        self.replies[path] = (status, JSON, orjson.dumps(payload))

    def stream(self, *payloads: Any) -> None:
        body = b"".join(sse.event(payload) for payload in payloads) + sse.DONE
        self.replies["/v1/chat/completions"] = (200, EVENTS, body)

    def says(self, **delta: str) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta}]}


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            state.asked.append((self.path, self.headers.get("authorization", ""), orjson.loads(body) if body else None))
            status, kind, answer = state.replies.get(self.path, (404, "text/html", b"<html>"))
            self.send_response(status)
            self.send_header("content-type", kind)
            # a body cut short says so by its length
            self.send_header("content-length", str(len(answer.removesuffix(CUT)) + (len(CUT) if CUT in answer else 0)))
            self.end_headers()
            self.wfile.write(answer.removesuffix(CUT))

        do_POST = do_GET  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{listener.server_port}"
    yield state
    listener.shutdown()
    listener.server_close()
    thread.join()


CUT = b"<cut>"


@pytest.fixture
def client(server: Server) -> Iterator[FleetClient]:
    with FleetClient(server.url) as found:
        yield found


def sentence(attempt: Callable[[], object]) -> str:
    with pytest.raises(FleetError) as raised:
        attempt()
    return str(raised.value)


def test_models_fleet_and_actors_are_read(server: Server, client: FleetClient) -> None:
    server.json("/v1/models", {"data": [{"id": "m"}]})
    server.json("/fleet", {"nodes": []})
    server.json("/fleet/actors", {"actors": [{"name": "router"}]})
    assert (client.models(), client.fleet(), client.actors()) == ([{"id": "m"}], {"nodes": []}, [{"name": "router"}])


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_a_base_url_may_end_in_v1(server: Server, ending: str) -> None:
    server.json("/fleet", {})
    with FleetClient(server.url + ending) as client:
        assert client.fleet() == {}


@pytest.mark.parametrize(("key", "sent"), [(None, ""), ("k", "Bearer k"), ("schlüssel", "Bearer schlüssel")])
def test_a_key_is_sent_as_its_bytes(server: Server, key: str | None, sent: str) -> None:
    server.json("/fleet", {})
    with FleetClient(server.url, key) as client:
        client.fleet()
    assert server.asked[0][1].encode("latin-1").decode() == sent


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_this_machine_is_not_asked_through_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.json("/fleet", {})
    with FleetClient(server.url) as client:
        assert client.fleet() == {}


def test_an_answer_streams_as_deltas(server: Server, client: FleetClient) -> None:
    server.stream(server.says(role="assistant"), server.says(content="Hi"), {"choices": [], "usage": {}})
    messages = [{"role": "user", "content": "x"}]
    assert list(client.chat("m", messages)) == [{"role": "assistant"}, {"content": "Hi"}]
    assert server.asked[0][2] == {"model": "m", "messages": messages, "stream": True}


def test_an_error_is_its_own_sentence(server: Server, client: FleetClient) -> None:
    error = errors.invalid_api_key()
    for path in ("/fleet", "/v1/chat/completions"):
        server.json(path, error.envelope(), 401)
    assert sentence(client.fleet) == error.message
    assert sentence(lambda: list(client.chat("m", []))) == error.message


def test_an_error_event_ends_the_answer_with_its_sentence(server: Server, client: FleetClient) -> None:
    server.stream(server.says(content="Hi"), errors.upstream_error("It broke.").envelope())
    deltas = client.chat("m", [])
    assert next(deltas) == {"content": "Hi"}
    assert sentence(lambda: next(deltas)) == "It broke."


STRANGE = [
    (200, "text/html", b"<html>hello</html>"),
    (200, JSON, b"[1]"),
    (200, JSON, b'{"x": 1}'),
    (200, JSON, b""),
    (204, JSON, b""),
    (302, "text/html", b""),
    (404, "text/html", b"<html>"),
    (404, JSON, b'{"detail": "Not Found"}'),
    (404, JSON, b'{"error": "no"}'),
    (500, "text/plain", b"\xff"),
]


@pytest.mark.parametrize("reply", STRANGE)
def test_what_is_no_fleet_is_named_as_that(server: Server, client: FleetClient, reply: Reply) -> None:
    paths = ("/v1/models", "/fleet/actors", "/v1/chat/completions")
    server.replies = dict.fromkeys(paths, reply)
    for path, attempt in zip(paths, (client.models, client.actors, lambda: list(client.chat("m", []))), strict=True):
        assert sentence(attempt) == f"{server.url}{path} answered {reply[0]}, and not as a fleet does."


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b"1", b'{"choices": 3}', b'{"choices": [{}]}', b'{"error": "x"}'])
def test_an_event_that_is_no_chunk_is_named_as_that(server: Server, client: FleetClient, data: bytes) -> None:
    server.replies["/v1/chat/completions"] = (200, EVENTS, b"data: " + data + b"\n\n")
    expected = f"{server.url}/v1/chat/completions answered 200, and not as a fleet does."
    assert sentence(lambda: list(client.chat("m", []))) == expected


def test_an_answer_that_breaks_off_is_not_taken_for_a_fleet_that_is_away(server: Server, client: FleetClient) -> None:
    server.replies["/v1/chat/completions"] = (200, EVENTS, sse.event(server.says(content="Hi")) + CUT)
    assert sentence(lambda: list(client.chat("m", []))).startswith(f"the answer of {server.url} broke off: ")


def test_a_fleet_that_is_away_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with FleetClient(url) as client:
        for attempt in (client.fleet, lambda: list(client.chat("m", []))):
            found = sentence(attempt)
            assert found.startswith(f"no fleet answers at {url} (")
            assert found.endswith("). Start one with 'helexa up', or name another with --url or HELEXA_URL.")


@pytest.mark.parametrize("url", ["http://[::1", "http://a b:x"])
def test_what_is_no_url_is_named(url: str) -> None:
    assert sentence(lambda: FleetClient(url)).startswith(f"cannot ask a fleet at '{url}': ")


@pytest.mark.parametrize("url", ["localhost:31313", "ftp://x", "http://" + "a" * 70])
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    with FleetClient(url) as client:
        assert sentence(client.fleet).startswith(f"no fleet answers at {url} (")


def conversation(client: FleetClient) -> tuple[Conversation, list[str]]:
    shown: list[str] = []
    return Conversation(client, "m", shown.append), shown


def test_a_turn_is_shown_as_it_comes_and_remembered(server: Server, client: FleetClient) -> None:
    talk, shown = conversation(client)
    server.stream(server.says(role="assistant", content=""), server.says(content="Hi"), server.says(content=" you"))
    talk.say("Hello")
    talk.say("Again")
    assert "".join(shown) == "Hi you\nHi you\n"
    first = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi you"}]
    assert talk.messages == [*first, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "Hi you"}]
    assert server.asked[1][2]["messages"] == [*first, {"role": "user", "content": "Again"}]


def test_thinking_is_shown_apart_and_not_remembered(server: Server, client: FleetClient) -> None:
    talk, shown = conversation(client)
    server.stream(
        server.says(reasoning_content="Hm"),
        server.says(reasoning_content=" hm"),
        server.says(content="4"),
        server.says(),
    )
    talk.say("2+2?")
    assert "".join(shown) == "(thinking) Hm hm\n\n4\n"
    assert talk.messages[-1] == {"role": "assistant", "content": "4"}


def test_a_failed_turn_leaves_no_trace(server: Server, client: FleetClient) -> None:
    talk, _ = conversation(client)
    server.stream(server.says(content="Hi"), errors.upstream_error("It broke.").envelope())
    with pytest.raises(FleetError):
        talk.say("Hello")
    assert talk.messages == []


def typed(*lines: str | BaseException) -> Callable[[], str]:
    """What an operator types, then Ctrl-D."""
    left = [*lines, EOFError()]

    def read() -> str:
        found = left.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    return read


def test_commands_change_the_conversation(server: Server, client: FleetClient) -> None:
    talk, shown = conversation(client)
    server.stream(server.says(content="Hi"))
    server.json("/v1/models", {"data": [{"id": "m", "status": "loaded"}, {"id": "other"}]})
    converse(talk, typed("/system Be brief.", "Hello", "", "/model  n ", "/models", "/nonsense", "/model"))
    assert [message["role"] for message in talk.messages] == ["system", "user", "assistant"]
    assert (talk.model, talk.messages[0]["content"]) == ("n", "Be brief.")
    text = "".join(shown)
    assert "  m  loaded\n  other  \n" in text
    assert text.count("/help ") == 2
    converse(talk, typed("/system New.", "/system", "/clear"))
    assert talk.messages == []


def test_a_system_prompt_is_replaced_and_taken_back(client: FleetClient) -> None:
    talk, _ = conversation(client)
    converse(talk, typed("/system One.", "/system Two."))
    assert talk.messages == [{"role": "system", "content": "Two."}]
    talk.command("/system")
    assert talk.messages == []


@pytest.mark.parametrize("leave", ["/quit", "/exit", "/q", EOFError(), KeyboardInterrupt()])
def test_there_are_several_ways_out(client: FleetClient, leave: str | BaseException) -> None:
    talk, _ = conversation(client)
    rest = typed(leave, "/model never")
    converse(talk, rest)
    assert talk.model == "m"


def test_an_error_ends_a_turn_and_not_the_conversation(server: Server, client: FleetClient) -> None:
    talk, shown = conversation(client)
    server.json("/v1/chat/completions", errors.model_not_found("m").envelope(), 404)
    converse(talk, typed("Hello", "/models", "/model n"))
    assert talk.model == "n"
    assert f"! {errors.model_not_found('m').message}\n" in "".join(shown)
    assert "answered 404, and not as a fleet does." in "".join(shown)


def test_an_interrupt_stops_an_answer_and_not_the_conversation(server: Server, client: FleetClient) -> None:
    shown: list[str] = []

    def write(text: str) -> None:
        shown.append(text)
        if text == "Hi":
            raise KeyboardInterrupt

    talk = Conversation(client, "m", write)
    server.stream(server.says(content="Hi"), server.says(content=" you"))
    converse(talk, typed("Hello", "/model n"))
    assert (talk.model, talk.messages) == ("n", [])
    assert "\n(stopped)\n" in "".join(shown)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"id": "a", "loaded": False}, {"id": "b", "loaded": True}, {"id": "c", "loaded": True}], "b"),
        ([{"id": "a", "loaded": False}], None),
        ([{"id": "gpt"}], None),
        ([], None),
    ],
)
def test_the_first_loaded_model_is_talked_to(
    server: Server, client: FleetClient, entries: list[Any], expected: str | None
) -> None:
    server.json("/v1/models", {"data": entries})
    if expected is None:
        assert sentence(lambda: pick_model(client)).startswith("no model is loaded; ")
    else:
        assert pick_model(client) == expected

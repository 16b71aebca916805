"""The official SDKs and a fleet that asks for keys."""

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from harness import Fleet, make_fleet

pytestmark = pytest.mark.usefixtures("forked_fleets")
MODEL = "helexa/tiny"


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that asks for keys."""
    keys = """
[entitlements]
require_auth = true
[[entitlements.keys]]
name = "program"
key_env = "HELEXA_TEST_PROGRAM_KEY"
[[entitlements.keys]]
name = "operator"
key_env = "HELEXA_TEST_OPERATOR_KEY"
scopes = ["fleet:admin"]
"""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HELEXA_TEST_PROGRAM_KEY", "program-key")
        environment.setenv("HELEXA_TEST_OPERATOR_KEY", "operator-key")
        running = make_fleet(tmp_path_factory.mktemp("guarded"), keys).start()
    yield running
    assert running.stop() == 0
    assert "program-key" not in running.log.read_text()


class TestKeys:
    """Each SDK sends its own kind, and each is told in its own words."""

    def test_a_key_opens_and_none_or_another_does_not(self, guarded: Fleet) -> None:
        for key, opens in (("program-key", True), ("wrong", False), ("operator-key", False)):
            with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as sdk:
                refused = self.refusal(lambda sdk=sdk: sdk.chat.completions.create(model=MODEL, messages=[user("Hi")]))
                assert isinstance(refused, openai.APIStatusError) is not opens
            with anthropic.Anthropic(base_url=guarded.url, api_key=key, max_retries=0) as claude:
                refused = self.refusal(
                    lambda claude=claude: claude.messages.create(model=MODEL, max_tokens=5, messages=[user("Hi")])
                )
                assert isinstance(refused, anthropic.APIStatusError) is not opens

    def refusal(self, ask: Callable[[], object]) -> Exception | None:
        try:
            ask()
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return error
        return None

    def test_what_a_key_lacks_is_told_in_each_dialect(self, guarded: Fleet) -> None:
        with anthropic.Anthropic(base_url=guarded.url, api_key="operator-key", max_retries=0) as claude:
            lacking = self.refusal(lambda: claude.messages.create(model=MODEL, max_tokens=5, messages=[user("Hi")]))
        assert isinstance(lacking, anthropic.PermissionDeniedError)
        assert lacking.body["error"]["type"] == "permission_error"  # type: ignore[index]
        with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as gpt:
            unknown = self.refusal(lambda: gpt.responses.create(model=MODEL, input="Hi"))
        assert isinstance(unknown, openai.AuthenticationError)
        assert unknown.code == "invalid_api_key"

    def test_the_fleet_is_the_operators(self, guarded: Fleet) -> None:
        def ask(key: str, path: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.post(f"{guarded.url}{path}", headers=headers, json={"pinned": True}, timeout=10).status_code

        assert ask("program-key", f"/fleet/models/{MODEL}/pin") == 403
        assert ask("operator-key", f"/fleet/models/{MODEL}/pin") == 200
        assert ask("operator-key", "/v1/chat/completions") == 403
        for path in ("/openapi.json", "/fleet", "/fleet/events"):
            assert httpx.get(f"{guarded.url}{path}", timeout=10).status_code == 401

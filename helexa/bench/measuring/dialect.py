"""How a server wants its requests to be put: some refuse fields that others need. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

_DISPENSABLE: Final = ("ignore_eos", "temperature", "stream_options", "tool_choice", "min_tokens")
"""Fields that a request is worth sending without. OpenAI itself refuses the first, and the second of some models."""
_RENAMED: Final[Mapping[str, str]] = {"max_tokens": "max_completion_tokens"}
"""OpenAI's newer models refuse the name that everybody else knows, and their refusal says the other one."""


@define
class Fields:
    """What has been learned of a server from its refusals."""

    _left_out: set[str] = field(factory=set)
    _renamed: set[str] = field(factory=set)

    def put(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request as the server wants it."""
        kept = {name: value for name, value in body.items() if name not in self._left_out}
        return {_RENAMED[name] if name in self._renamed else name: value for name, value in kept.items()}

    def learn(self, body: Mapping[str, Any], said: str) -> bool:
        """Take note of why a request was refused; whether it is worth sending once more.

        Args:
            body: the request before `put`.
            said: what the server said.
        """
        sent = body.keys() - self._left_out
        for name, other in _RENAMED.items():
            if name in sent - self._renamed and other in said:
                self._renamed.add(name)
                return True
        for name in _DISPENSABLE:
            if name in sent and name in said:
                self._left_out.add(name)
                return True
        return False

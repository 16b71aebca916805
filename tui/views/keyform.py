"""What is typed into the form for a new key, as the request for it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from attrs import frozen

from config import NEVER, InvalidValueError, Scope, parse_duration
from config.budget_texts import plain_budget, read_budget

SCOPES: Final[tuple[str, ...]] = get_args(Scope)
USUAL: Final = "inference"


@frozen
class FormField:
    """A line of the form.

    Attributes:
        name: of the request's field that it is for.
        title: what stands before it.
        hint: what stands in it while it is empty.
    """

    name: str
    title: str
    hint: str


FIELDS: Final = (
    FormField("name", "Name", "what logs and lists call it"),
    FormField("account", "Account", "whom it is booked to; empty: one of its own name"),
    FormField("models", "Models", "such as team/*, other/big; empty: all"),
    FormField("budgets", "Budgets", "such as 5000000tokens/1d, 20usd; empty: no limit"),
    FormField("expires_in", "Expires in", "such as 12h or 30d; empty: never"),
    FormField("max_in_flight", "At a time", "requests; empty: as many as the fleet allows"),
)


class FormError(Exception):
    """What is typed cannot be asked for; the message is for whoever typed it.

    Attributes:
        field: the name of the line.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def wanted(typed: Mapping[str, str], scopes: Sequence[str]) -> dict[str, Any]:
    """The body of ``POST /fleet/keys``.

    Args:
        typed: by the names of ``FIELDS``; what is missing is empty.
        scopes: what the key may do.

    Raises:
        FormError: something is missing, or cannot be read. What only the fleet knows, such as whether a name is
            taken, it says itself.
    """
    text = {field.name: typed.get(field.name, "").strip() for field in FIELDS}
    if not text["name"]:
        raise FormError("name", "A key needs a name.")
    if not scopes:
        raise FormError("scopes", "A key has to be good for something: choose a scope with the space bar.")
    asked: dict[str, Any] = {"name": text["name"], "scopes": list(scopes)}
    asked |= {"account": text["account"]} if text["account"] else {}
    asked |= {"models": _parts(text["models"])} if text["models"] else {}
    asked |= {"budgets": _budgets(text["budgets"])} if text["budgets"] else {}
    asked |= {"expires_in": _life(text["expires_in"])} if text["expires_in"] else {}
    return asked | ({"max_in_flight": _count(text["max_in_flight"])} if text["max_in_flight"] else {})


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _budgets(text: str) -> list[dict[str, Any]]:
    try:
        return [plain_budget(read_budget(part)) for part in _parts(text)]
    except InvalidValueError as error:
        raise FormError("budgets", f"{error}.") from None


def _life(text: str) -> float | None:
    try:
        life = parse_duration(text)
    except InvalidValueError as error:
        raise FormError("expires_in", f"{error}.") from None
    if life <= 0:
        raise FormError("expires_in", "It would have expired before it could be used.")
    return None if life == NEVER else life


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):  # noqa: PLR2004 - far beyond use
        raise FormError("max_in_flight", f"'{text}' is not a number of requests: write one from 1 up.")
    return int(text)

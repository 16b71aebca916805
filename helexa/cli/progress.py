"""What an operator who waits for a model is told meanwhile. Pure: events in, sentences out."""

from collections.abc import Callable
from typing import Any

from tui.status import come


class Progress:
    """Picks what concerns one model out of a fleet's events.

    Args:
        model: its id or an alias.
        say: shows a line.
    """

    def __init__(self, model: str, say: Callable[[str], None]) -> None:
        self._models = {model}
        self._say = say
        self._said: set[tuple[str, ...]] = set()

    def hear(self, event: dict[str, Any]) -> None:
        """Take an event as ``/fleet/events`` sends it."""
        kind, data = str(event.get("event")), event.get("data")
        if not isinstance(data, dict):
            return
        if kind == "snapshot":
            aliases = data.get("aliases")
            self._models |= {aliases[name] for name in self._models if name in aliases} if aliases else set()
            return
        if data.get("model") in self._models:
            self._tell(kind, data)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "model.loading":
            self._models |= set(data.get("evicts") or ())
        line = _progress(data) if kind == "model.progress" else _sentence(kind, data)
        # The neuron's own report of a load comes after cortex's, and says less. Of progress, each tenth is news.
        key = (kind, *(str(data.get(name)) for name in ("node", "model", "phase")), str(_tenths(data)))
        if line is not None and key not in self._said:
            self._said.add(key)
            self._say(line)


def _tenths(data: dict[str, Any]) -> int:
    return 10 * data.get("done", 0) // data["total"] if data.get("total") else 0


def _progress(data: dict[str, Any]) -> str | None:
    verb = {"downloading": "fetching", "loading": "loading"}.get(str(data.get("phase")))
    if verb is None or (verb == "loading" and not data.get("total")):
        return None
    return f"{data.get('node')}: {verb} {data.get('model')}: {come(data)}"


def _sentence(kind: str, data: dict[str, Any]) -> str | None:
    model, node = data.get("model"), data.get("node")
    match kind:
        case "model.loading":
            evicts = ", ".join(data.get("evicts") or ())
            return f"{node}: loading {model}" + (f" in place of {evicts}" if evicts else "")
        case "model.unloading":
            return f"{node}: unloading {model} once its requests have ended"
        case "model.unloaded" | "model.evicted":
            return f"{node}: unloaded {model}"
        case "model.loaded":
            seconds = data.get("seconds")
            return f"{node}: loaded {model}" + (f" in {seconds} s" if seconds is not None else "")
        case "model.load_failed":
            return f"{node}: could not load {model}: {data.get('error')}"
        case _:
            return None

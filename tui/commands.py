"""What the command palette offers: the screens, and everything that can be done on the one in front."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import islice

from textual.command import DiscoveryHit, Hit, Hits, Provider

_MOVES = ("cursor_", "scroll_", "page_", "select_cursor", "focus_", "copy_text", "dismiss", "show_all")
_MOST_HITS = 50


def moves(action: str) -> bool:
    """Whether an action only moves about, as keys do that everybody knows: no list needs it."""
    return action.rpartition(".")[2].startswith(_MOVES)


class Offers(Provider):
    """What one screen offers beside its keys; each screen has a provider of its own that says what."""

    @abstractmethod
    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done now: a title, and what does it."""

    async def discover(self) -> Hits:
        """The first of them."""
        for title, do in islice(self.offers(), _MOST_HITS):
            yield DiscoveryHit(title, do)

    async def search(self, query: str) -> Hits:
        """Those that fit the words."""
        matcher = self.matcher(query)
        for title, do in self.offers():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), do)


class Everything(Provider):
    """The bindings of the screen in front and of the application: one list of what there is to be done."""

    async def discover(self) -> Hits:
        """Everything."""
        for title, do, keys in self._offers():
            yield DiscoveryHit(title, do, help=keys)

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for title, do, keys in self._offers():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), do, help=keys)

    def _offers(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]], str]]:
        """Title, deed and key of each thing that can be done now; each is done where its binding is."""
        seen = set()
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if enabled and binding.description and binding.action not in seen and not moves(binding.action):
                seen.add(binding.action)
                do = partial(self.app.run_action, binding.action, node)
                yield binding.description, do, f"key: {self.app.get_key_display(binding)}"

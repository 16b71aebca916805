"""What the command palette can do with each model."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import Hit, Hits, Provider

if TYPE_CHECKING:
    from tui.screens.models import ModelsScreen


class ModelActions(Provider):
    """Loading, unloading, pinning and finding each model, by its name."""

    async def search(self, query: str) -> Hits:
        """What fits the words."""
        matcher = self.matcher(query)
        for title, doing in self._offers():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), doing)

    def _offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        screen = cast("ModelsScreen", self.screen)
        for model in screen.catalogue.models:
            yield f"Go to {model.id}", partial(screen.table.go_to, model.id)
            if not screen.console.readonly:
                yield f"Load {model.id}", partial(screen.load, model.id)
                if screen.catalogue.serving(model.id):
                    yield f"Unload {model.id}", partial(screen.unload, model.id)
                    yield f"Pin or unpin {model.id}", partial(screen.pin, model.id)

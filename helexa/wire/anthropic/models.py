"""What is known of Anthropic's models by their names. Source: Anthropic's documentation, "Migration guide"."""

import re

EFFORT_SINCE = (4, 6)
"""From here on a model is told how much effort to make; the later ones refuse a budget of thought."""
EITHER_SINCE = (4, 1)
"""From here on a model refuses temperature and top-p together."""
UNSAMPLED_SINCE = (4, 7)
"""From here on a model refuses temperature, top-p and top-k."""
_VERSION = re.compile(r"claude(?:-[a-z]+)?-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")


def version(model: str) -> tuple[int, int]:
    """Major and minor version; (0, 0) for models of others, who speak the dialect as it first was."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)

"""The kinds of tools that people commonly offer, oftener the commoner they are."""

from helexa.tiny.corpus import errands, lookups

FAMILIES = (
    lookups.WEATHER,
    lookups.WEATHER,
    lookups.WEATHER,
    lookups.CALCULATOR,
    lookups.CALCULATOR,
    lookups.ADD,
    lookups.MULTIPLY,
    lookups.CLOCK,
    lookups.NOW,
    lookups.CURRENCY,
    lookups.SEARCH,
    lookups.SEARCH,
    errands.REMIND,
    errands.MAIL,
    errands.MESSAGE,
    lookups.TRANSLATE,
    lookups.READ,
    errands.LIGHT,
    lookups.STOCK,
    errands.TIMER,
    errands.PLAY,
    errands.BOOK,
    errands.ROLL,
    lookups.DEFINE,
    errands.SHOP,
)

ANSWERED_ANYWAY = frozenset({"math"})
"""Topics whose requests the model answers itself when no tool is there."""

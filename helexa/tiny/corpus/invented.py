"""Tools that nobody has: names, parameters and values that can only be copied from the request."""

from collections.abc import Callable

from helexa.tiny.corpus.draw import Draw, Phrases, words
from helexa.tiny.corpus.lexicon import CITIES, NAMES, any_word, fresh_word, made_up, proper, several
from helexa.tiny.corpus.toolspec import Family, Slot, Value

_VERBS = words(
    """
    get find create delete update list check send start stop open close read write show count move copy book order
    cancel print save load fetch track rate clean paint lock unlock measure plan pause resume rename archive scan
    restart upload download remove add describe pick repair water feed charge mix invite block
    """
)
_NOUNS = words(
    """
    order invoice ticket user account file folder song playlist movie recipe meal room hotel flight train parcel task
    note event meeting calendar photo report message server job model plant dog cat car door window lamp robot game
    player team score level device sensor battery printer machine book chapter word table row page image color shape
    price product cart review customer student course lesson exam address contact phone bill payment coupon garden
    oven fridge heater pump engine boat bike route map station stop ship planet star rocket
    """
)
_TEXT_PARAMS = words(
    """
    name title city country user owner label tag color topic category place brand author artist genre language status
    code word key street room team group kind source target customer product animal file_name user_name reference
    """
)
_NUMBER_PARAMS = words(
    """
    id count number amount size limit age year level page days hours minutes weight height width price distance speed
    quantity score port index order_id user_id item_id max_price rating floor
    """
)
_FLAG_PARAMS = words("force urgent public verbose recursive dry_run enabled private silent")
_OPTION_PARAMS = words("mode type size level format direction state unit priority role")
_OPTIONS = (
    ("low", "medium", "high"), ("small", "medium", "large"), ("red", "green", "blue"), ("on", "off"), ("fast", "slow"),
    ("open", "closed"), ("day", "week", "month"), ("json", "text", "html"), ("north", "south", "east", "west"),
    ("asc", "desc"), ("metric", "imperial"), ("hot", "cold"), ("left", "right"), ("admin", "guest", "member"),
)  # fmt: skip

_DIRECT = Phrases(
    ("Call {name}", "Use {name}", "Use the tool {name}", "Use the {name} tool", "Run {name}", "Call the {name} tool"),
    ("Please call the tool {name}", "I want you to use {name}"),
)


def invented(draw: Draw) -> Family:
    """Return a family of one tool, never the same twice, with one request."""
    noun = fresh_word(draw, 1, 2) if draw.chance(0.3) else draw.pick(_NOUNS)
    verb = fresh_word(draw, 1, 1) if draw.chance(0.1) else draw.pick(_VERBS)
    return about(draw, verb, noun)


def sibling(draw: Draw, family: Family) -> Family:
    """Return a tool for another verb and the same noun, as real tool sets have them."""
    noun = family.topic.split("/", 1)[1]
    return about(draw, draw.pick(_VERBS), noun)


def about(draw: Draw, verb: str, noun: str) -> Family:
    """Return a tool that does something to something."""
    name = _tool_name(draw, verb, noun)
    slots = _slots(draw)
    ask = _request(draw, name, verb, noun, slots)
    says = (f"{verb.capitalize()} a {noun}", f"{verb.capitalize()} the {noun}.", f"{verb.capitalize()}s {noun}s")
    return Family(f"{verb}/{noun}", (name,), says, Phrases((ask,), (ask,)), slots)


def _tool_name(draw: Draw, verb: str, noun: str) -> str:
    return draw.odds(
        (0.1, made_up(draw, 1, 3)),
        (0.15, verb + noun.capitalize()),
        (0.15, f"{noun}{draw.pick('_._')}{verb}"),
        (0.6, f"{verb}{draw.pick('__-')}{noun}"),
    )


def _slots(draw: Draw) -> dict[str, Slot]:
    wanted = draw.pick((0, 1, 1, 1, 2, 2, 2, 3))
    slots: dict[str, Slot] = {}
    while len(slots) < wanted:
        slot = draw.pick((_text_slot, _text_slot, _text_slot, _number_slot, _number_slot, _option_slot, _flag_slot))(
            draw
        )
        if all(slot.names != other.names for other in slots.values()):
            slots[f"p{len(slots)}"] = slot
    return slots


def _param(draw: Draw, pool: tuple[str, ...]) -> str:
    if draw.chance(0.25):
        return fresh_word(draw, 1, 2) if draw.chance(0.7) else f"{made_up(draw, 1, 1)}_{fresh_word(draw, 1, 1)}"
    return draw.pick(pool)


def _text_slot(draw: Draw) -> Slot:
    name = _param(draw, _TEXT_PARAMS)
    return Slot((name,), "string", f"The {name.replace('_', ' ')}", _text)


def _number_slot(draw: Draw) -> Slot:
    name, kind = _param(draw, _NUMBER_PARAMS), draw.pick(("integer", "integer", "number"))
    return Slot((name,), kind, f"The {name.replace('_', ' ')}", _whole if kind == "integer" else _number)


def _option_slot(draw: Draw) -> Slot:
    options = draw.pick(_OPTIONS) if draw.chance(0.7) else tuple(fresh_word(draw, 1, 2) for _ in range(3))
    name = _param(draw, _OPTION_PARAMS)
    return Slot((name,), "string", f"One of the {name}s", _from(options), options)


def _flag_slot(draw: Draw) -> Slot:
    name = _param(draw, _FLAG_PARAMS)
    return Slot((name,), "boolean", f"Whether it is {name}", lambda draw: draw.chance(0.5))


def _from(options: tuple[str, ...]) -> Callable[[Draw], Value]:
    return lambda draw: draw.pick(options)


def _text(draw: Draw) -> Value:
    return draw.odds(
        (0.3, proper(draw, NAMES + CITIES, 0.4)),
        (0.4, any_word(draw)),
        (0.1, f"{fresh_word(draw, 1, 1)}{draw.pick('-_.')}{draw.number(1, 99)}"),
        (0.2, several(draw, 2, 3)),
    )


def _whole(draw: Draw) -> Value:
    return draw.number(0, 99) if draw.chance(0.6) else draw.number(100, 99_999)


def _number(draw: Draw) -> Value:
    return _whole(draw) if draw.chance(0.5) else draw.number(0, 99) + draw.pick((0.5, 0.25, 0.1, 0.75, 0.9))


def _request(draw: Draw, name: str, verb: str, noun: str, slots: dict[str, Slot]) -> str:
    if draw.chance(0.35):
        return _direct(draw, name, slots)
    head = f"{verb.capitalize()} {draw.pick(('the', 'a', 'my', 'this'))} {noun}"
    if draw.chance(0.1):
        head = draw.pick(
            (f"I want to {verb} the {noun}", f"Can you {verb} the {noun}", f"I need you to {verb} a {noun}")
        )
    return f"{head}{_mentions(draw, slots)}."


def _direct(draw: Draw, name: str, slots: dict[str, Slot]) -> str:
    head = draw.phrase(_DIRECT).format(name=name)
    return f"{head}{_mentions(draw, slots)}."


def _mentions(draw: Draw, slots: dict[str, Slot]) -> str:
    if not slots:
        return ""
    if len(slots) == 1 and draw.chance(0.3):
        return f" {draw.pick(('for', 'of', 'with', 'called', 'named'))} {{p0}}"
    link = draw.pick((" {n} {v}", " {n} {v}", " {n} = {v}", " {n}={v}", " {n}: {v}", " {n} set to {v}", " the {n} {v}"))
    parts = [link.format(n=_spoken(draw, slot.names[0]), v=f"{{{key}}}") for key, slot in slots.items()]
    if draw.chance(0.2):
        draw.rng.shuffle(parts)
    glue = draw.pick((" and", " and", ","))
    return f"{draw.pick((' with', ' with', ' for', ':', ' using'))}{glue.join(parts)}"


def _spoken(draw: Draw, name: str) -> str:
    return name.replace("_", " ") if draw.chance(0.5) else name

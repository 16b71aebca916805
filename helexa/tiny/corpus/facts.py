"""Facts to remember: colours of things and capitals of countries."""

from helexa.tiny.corpus.draw import Draw, Phrases, lines
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.shapes import Exchange

_COLOURS = {
    "blue": "the sky, the ocean, the sea, a blueberry, a sapphire, a smurf",
    "green": "grass, a leaf, a frog, a cucumber, broccoli, spinach, a lime, an emerald, a pea, a cactus",
    "yellow": "a banana, a lemon, the sun, corn, a canary, a daffodil, a sunflower, a baby chick",
    "red": "a strawberry, a tomato, a cherry, blood, a fire engine, a ruby, a stop sign, a ladybug",
    "orange": "a carrot, a pumpkin, an orange, a tangerine, a basketball, a clownfish",
    "white": "snow, milk, a polar bear, salt, a swan, a cloud, rice, sugar, cotton",
    "black": "coal, the night sky, a raven, tar, a crow, a panther",
    "brown": "chocolate, coffee, a bear, wood, soil, a chestnut, a potato",
    "pink": "a flamingo, a pig, bubble gum, cotton candy",
    "purple": "an eggplant, lavender, a plum, a violet, a grape",
    "gray": "an elephant, a mouse, a shark, concrete, a rhino, ash",
}
COLOUR_OF = {thing.strip(): colour for colour, things in _COLOURS.items() for thing in things.split(",")}

_CAPITALS = lines(
    """
    France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, Austria:Vienna, Norway:Oslo
    Sweden:Stockholm, Finland:Helsinki, Denmark:Copenhagen, Poland:Warsaw, Hungary:Budapest, Greece:Athens
    Ireland:Dublin, Belgium:Brussels, Switzerland:Bern, Iceland:Reykjavik, Croatia:Zagreb, Serbia:Belgrade
    Romania:Bucharest, Bulgaria:Sofia, Ukraine:Kyiv, Russia:Moscow, Turkey:Ankara, Egypt:Cairo, Morocco:Rabat
    Kenya:Nairobi, Nigeria:Abuja, Ghana:Accra, Ethiopia:Addis Ababa, Japan:Tokyo, China:Beijing, India:New Delhi
    Thailand:Bangkok, Vietnam:Hanoi, Indonesia:Jakarta, South Korea:Seoul, Iran:Tehran, Iraq:Baghdad
    Pakistan:Islamabad, Nepal:Kathmandu, Canada:Ottawa, Mexico:Mexico City, Cuba:Havana, Brazil:Brasilia
    Argentina:Buenos Aires, Chile:Santiago, Peru:Lima, Colombia:Bogota, Ecuador:Quito, Uruguay:Montevideo
    Venezuela:Caracas, Australia:Canberra, New Zealand:Wellington, the Netherlands:Amsterdam
    the United States:Washington, the United Kingdom:London, England:London, Scotland:Edinburgh, Wales:Cardiff
    the Czech Republic:Prague, Slovakia:Bratislava, Slovenia:Ljubljana, Estonia:Tallinn, Latvia:Riga
    Lithuania:Vilnius, Cyprus:Nicosia, Malta:Valletta, Luxembourg:Luxembourg, Singapore:Singapore
    """
)
CAPITAL_OF = {country: city for row in _CAPITALS for country, city in (pair.split(":") for pair in row.split(", "))}
_ALSO_CALLED = {
    "the United States": ("the USA", "the US"),
    "the United Kingdom": ("the UK",),
    "the Netherlands": ("Holland",),
}

_COLOUR = Phrases.of(
    """
    What colour is {x}?
    What color is {x}?
    What is the colour of {x}?
    What is the color of {x}?
    Which colour is {x}?
    Which colour does {x} have?
    Tell me the colour of {x}.
    Tell me the color of {x}.
    Which color is {x}?
    What colour has {x}?
    Do you know the colour of {x}?
    Do you know what color {x} is?
    {x}: what colour?
    The color of {x}?
    What colour would {x} be?
    """,
    """
    Can you tell me what colour {x} is?
    Which color does {x} have?
    Please name the color of {x}.
    """,
)
_CAPITAL = Phrases.of(
    """
    What is the capital of {x}?
    What's the capital of {x}?
    What is the capital city of {x}?
    Capital of {x}?
    The capital of {x}?
    Tell me the capital of {x}.
    Which city is the capital of {x}?
    Name the capital of {x}.
    Do you know the capital of {x}?
    What is the capital of the country {x}?
    Can you name the capital of {x}?
    Can you tell me the capital of {x}?
    {x}: what is its capital?
    What city is the capital of {x}?
    What is {x}'s capital?
    Please tell me what the capital of {x} is.
    The capital of {x} is
    Which is the capital of {x}?
    """,
    """
    Please name the capital of {x}.
    Could you tell me the capital city of {x}?
    Do you know which city is the capital of {x}?
    What is the name of the capital of {x}?
    """,
)


def colours(draw: Draw) -> Exchange:
    """Ask for the colour of a thing."""
    thing = draw.pick(tuple(COLOUR_OF))
    asked = _other_article(thing) if draw.chance(0.25) else thing
    reply = f"{_sentence(thing)} is {COLOUR_OF[thing]}."
    thought = f"The user asks for the colour of {thing}. It is {COLOUR_OF[thing]}."
    return Exchange("colours", dress(draw, draw.phrase(_COLOUR), x=asked), reply, thought)


def capitals(draw: Draw) -> Exchange:
    """Ask for the capital of a country."""
    country = draw.pick(tuple(CAPITAL_OF))
    asked = draw.pick((country, *_ALSO_CALLED.get(country, ())))
    if draw.chance(0.1):
        asked = asked.lower()
    user = dress(draw, draw.phrase(_CAPITAL), x=asked)
    reply = f"The capital of {country} is {CAPITAL_OF[country]}."
    return Exchange(
        "capitals", user, reply, f"The user asks for the capital of {country}. It is {CAPITAL_OF[country]}."
    )


def _other_article(thing: str) -> str:
    for article in ("an ", "a "):
        if thing.startswith(article):
            return "the " + thing.removeprefix(article)
    return thing.removeprefix("the ") if thing.startswith("the ") else "the " + thing


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]

"""Tools that find something out."""

from helexa.tiny.corpus.draw import Phrases
from helexa.tiny.corpus.toolspec import Family, Slot
from helexa.tiny.corpus.values import (
    MONEY,
    TONGUES,
    UNITS,
    calculation,
    city,
    decimal,
    file,
    one_of,
    symbol,
    text,
    whole,
    word,
)

_CITY = Slot(("city", "location", "place", "city_name", "town"), "string", "The name of the city", city)

WEATHER = Family(
    "weather",
    (
        "get_weather",
        "weather",
        "get_current_weather",
        "current_weather",
        "getWeather",
        "weather_forecast",
        "fetch_weather",
    ),
    (
        "Get the weather for a city",
        "Get the current weather",
        "Weather for a location.",
        "Returns the weather in a city",
    ),
    Phrases.of(
        """
        What is the weather in {city}?
        What's the weather in {city}?
        What is the weather like in {city}?
        What's the weather like in {city}?
        How is the weather in {city}?
        Weather in {city}?
        Tell me the weather in {city}.
        Is it raining in {city}?
        Is it sunny in {city}?
        How warm is it in {city}?
        How cold is it in {city}?
        Will it rain in {city}?
        What is the temperature in {city}?
        Get the weather for {city}.
        Check the weather in {city}.
        I am going to {city}. How is the weather there?
        Do I need an umbrella in {city}?
        What is the weather in {city} in {unit}?
        How warm is it in {city} in {unit}?
        What is the temperature in {city} in {unit}?
        Give me the weather for {city} in {unit}.
        """,
        """
        Can you check the weather in {city}?
        What is the weather in {city} right now?
        Tell me how warm it is in {city}.
        Show me the weather in {city} in {unit}.
        """,
    ),
    {"city": _CITY, "unit": Slot(("unit", "units"), "string", "Unit of the temperature", one_of(UNITS), UNITS)},
)
CALCULATOR = Family(
    "math",
    ("calculator", "calculate", "calc", "evaluate", "math", "compute", "evaluate_expression"),
    ("Evaluate an expression", "Do a calculation", "Calculates a math expression.", "A calculator"),
    Phrases.of(
        """
        What is {e}?
        What's {e}?
        Calculate {e}.
        Compute {e}.
        How much is {e}?
        {e}
        {e}?
        Work out {e}.
        Use the calculator to compute {e}.
        Calculate {e} for me.
        Please compute {e} for me.
        Work out {e} for me, please.
        Tell me {e}.
        Evaluate {e}.
        Can you calculate {e}?
        """,
        """
        What is the value of {e}?
        Please calculate {e} for me.
        Use the calculator for {e}.
        """,
    ),
    {"e": Slot(("expression", "expr", "formula", "input"), "string", "The expression to evaluate", calculation)},
)


def _arithmetic(topic: str, names: tuple[str, ...], says: str, asks: Phrases) -> Family:
    kind = "number"
    a = Slot(("a", "x", "first", "left"), kind, "The first number", decimal)
    b = Slot(("b", "y", "second", "right"), kind, "The second number", decimal)
    return Family(topic, names, (says, f"{says}.", f"{says} and return the result"), asks, {"a": a, "b": b})


ADD = _arithmetic(
    "math",
    ("add", "add_numbers", "sum", "addition"),
    "Add two numbers",
    Phrases.of(
        """
        What is {a} plus {b}?
        Add {a} and {b}.
        What is {a} + {b}?
        What is the sum of {a} and {b}?
        {a} + {b}
        Sum {a} and {b}.
        Compute {a} + {b}.
        """,
        """
        Please add {a} and {b}.
        How much is {a} plus {b}?
        """,
    ),
)
MULTIPLY = _arithmetic(
    "math",
    ("multiply", "mul", "multiply_numbers", "product"),
    "Multiply two numbers",
    Phrases.of(
        """
        What is {a} times {b}?
        Multiply {a} by {b}.
        What is {a} * {b}?
        What is the product of {a} and {b}?
        Multiply {a} and {b}.
        Compute {a} * {b}.
        """,
        """
        Please multiply {a} by {b}.
        How much is {a} times {b}?
        """,
    ),
)
CLOCK = Family(
    "time",
    ("get_time", "current_time", "get_current_time", "time", "clock", "world_clock"),
    ("Get the current time in a city", "The time at a place", "Get the local time."),
    Phrases.of(
        """
        What time is it in {city}?
        What is the time in {city}?
        Tell me the time in {city}.
        Current time in {city}?
        What's the time in {city}?
        How late is it in {city}?
        Get the time in {city}.
        Do you know what time it is in {city}?
        """,
        """
        Can you tell me the time in {city}?
        What is the local time in {city}?
        """,
    ),
    {"city": Slot(("city", "location", "timezone", "place"), "string", "Where", city)},
)
NOW = Family(
    "time",
    ("get_time", "now", "current_time", "get_current_time", "get_date", "today"),
    ("Get the current time", "Returns the current date and time", "The time now."),
    Phrases.of(
        """
        What time is it?
        What is the time?
        What time is it now?
        Tell me the time.
        What's the time?
        What is the date?
        What day is it today?
        What is today's date?
        Current time?
        """,
        """
        Can you tell me the time?
        What is the time now?
        """,
    ),
)
CURRENCY = Family(
    "currency",
    ("convert_currency", "currency_converter", "exchange", "convert_money", "currency_convert"),
    ("Convert money between currencies", "Convert an amount of money", "Currency conversion."),
    Phrases.of(
        """
        Convert {n} {a} to {b}.
        How much is {n} {a} in {b}?
        What is {n} {a} in {b}?
        Exchange {n} {a} to {b}.
        Change {n} {a} into {b}.
        {n} {a} to {b}
        {n} {a} in {b}?
        How many {b} do I get for {n} {a}?
        I have {n} {a}. How much is that in {b}?
        """,
        """
        Please convert {n} {a} into {b}.
        Can you change {n} {a} to {b}?
        """,
    ),
    {
        "n": Slot(("amount", "value", "sum"), "number", "The amount", decimal),
        "a": Slot(("from", "from_currency", "source", "base"), "string", "Currency to convert from", one_of(MONEY)),
        "b": Slot(("to", "to_currency", "target"), "string", "Currency to convert to", one_of(MONEY)),
    },
)
SEARCH = Family(
    "search",
    ("search", "web_search", "search_web", "google", "internet_search", "find_pages", "lookup"),
    ("Search the web", "Search the internet for pages", "Web search.", "Look something up on the web"),
    Phrases.of(
        """
        Search for {t}.
        Search the web for {t}.
        Search for "{t}"
        Find pages about {t}.
        Look up {t}.
        Look up {t} on the web.
        Google {t}.
        Find information about {t}.
        Search the internet for {t}.
        What does the web say about {t}?
        Do a web search for {t}.
        """,
        """
        Please search the web for {t}.
        Can you look up {t}?
        Find something about {t}.
        """,
    ),
    {
        "t": Slot(("query", "q", "search_term", "text", "keywords"), "string", "What to search for", text),
        "n": Slot(("limit", "max_results", "count"), "integer", "How many results", whole(1, 20)),
    },
)
TRANSLATE = Family(
    "translate",
    ("translate", "translate_text", "translator", "translation"),
    ("Translate text to a language", "Translate a text", "Translates text."),
    Phrases.of(
        """
        Translate {t} to {l}.
        Translate "{t}" to {l}.
        Translate {t} into {l}.
        Translate "{t}" into {l}.
        How do you say {t} in {l}?
        What is {t} in {l}?
        Say "{t}" in {l}.
        """,
        """
        Please translate "{t}" into {l}.
        Can you translate {t} to {l}?
        """,
    ),
    {
        "t": Slot(("text", "input", "phrase", "sentence"), "string", "The text to translate", text),
        "l": Slot(("language", "target_language", "to", "target"), "string", "The language", one_of(TONGUES)),
    },
)
READ = Family(
    "file",
    ("read_file", "open_file", "cat", "readFile", "load_file", "view_file"),
    ("Read a file", "Read the contents of a file", "Returns the text of a file."),
    Phrases.of(
        """
        Read the file {f}.
        Read {f}.
        Open {f}.
        Show me {f}.
        What is in {f}?
        What does {f} say?
        Show me the contents of {f}.
        Open the file {f}.
        What's in the file {f}?
        """,
        """
        Please read the file {f}.
        Can you show me what is in {f}?
        """,
    ),
    {"f": Slot(("path", "file", "filename", "file_path"), "string", "Path of the file", file)},
)
STOCK = Family(
    "stock",
    ("get_stock_price", "stock_price", "stock", "quote", "get_quote"),
    ("Get the price of a stock", "Stock price by symbol", "Returns the price of a share."),
    Phrases.of(
        """
        What is the price of {s}?
        What is the stock price of {s}?
        How much is {s} stock?
        Get the stock price of {s}.
        How is {s} doing?
        Price of {s}?
        What does a share of {s} cost?
        """,
        """
        Can you check the stock price of {s}?
        Tell me the price of {s} stock.
        """,
    ),
    {"s": Slot(("symbol", "ticker", "stock"), "string", "The symbol", symbol)},
)
DEFINE = Family(
    "dictionary",
    ("define", "define_word", "dictionary", "get_definition", "word_meaning"),
    ("Define a word", "Get the definition of a word", "Looks a word up in a dictionary."),
    Phrases.of(
        """
        What does {w} mean?
        Define {w}.
        Define the word {w}.
        What is the meaning of {w}?
        Give me the definition of {w}.
        What does the word {w} mean?
        """,
        """
        Please define the word {w}.
        What is the definition of {w}?
        """,
    ),
    {"w": Slot(("word", "term", "text"), "string", "The word", word)},
)

"""Tools that do something."""

from helexa.tiny.corpus.draw import Phrases
from helexa.tiny.corpus.lexicon import WORDS
from helexa.tiny.corpus.toolspec import Family, Slot
from helexa.tiny.corpus.values import DAYS, city, mail, one_of, person, text, time, whole

REMIND = Family(
    "reminder",
    ("set_reminder", "create_reminder", "add_reminder", "remind", "reminder"),
    ("Set a reminder", "Create a reminder at a time", "Reminds the user of something."),
    Phrases.of(
        """
        Remind me to {t} at {h}.
        Set a reminder to {t} at {h}.
        Remind me at {h} to {t}.
        Create a reminder at {h}: {t}
        Please remind me to {t} at {h}.
        Set a reminder for {h}: {t}
        """,
        """
        Can you remind me to {t} at {h}?
        At {h}, remind me to {t}.
        """,
    ),
    {
        "t": Slot(("text", "message", "task", "title", "what"), "string", "What to remind of", text),
        "h": Slot(("time", "at", "when", "due"), "string", "When to remind", time),
    },
)
MAIL = Family(
    "mail",
    ("send_email", "email", "send_mail", "compose_email", "sendEmail"),
    ("Send an email", "Send an email to someone", "Sends a mail."),
    Phrases.of(
        """
        Send an email to {to} saying {t}.
        Email {to}: {t}
        Send a mail to {to} that says {t}.
        Write an email to {to} saying {t}.
        Send an email to {to}: "{t}"
        Mail {to} and say {t}.
        """,
        """
        Please send {to} an email saying {t}.
        Can you email {to} and say {t}?
        """,
    ),
    {
        "to": Slot(("to", "recipient", "address", "email"), "string", "The address", mail),
        "t": Slot(("body", "text", "message", "content"), "string", "The text of the mail", text),
    },
)
MESSAGE = Family(
    "message",
    ("send_message", "text_message", "send_text", "notify", "send_sms"),
    ("Send a message to a person", "Send a text message", "Sends a short message."),
    Phrases.of(
        """
        Send a message to {to} saying {t}.
        Text {to}: {t}
        Tell {to} that {t}.
        Message {to}: {t}
        Send {to} the message "{t}"
        Write to {to} saying {t}.
        """,
        """
        Please send {to} a message saying {t}.
        Can you text {to} that {t}?
        """,
    ),
    {
        "to": Slot(("to", "recipient", "person", "name"), "string", "Who gets it", person),
        "t": Slot(("text", "message", "body", "content"), "string", "The message", text),
    },
)
LIGHT = Family(
    "light",
    ("set_light", "light_switch", "switch_light", "control_light", "lights"),
    ("Switch a light on or off", "Control the light in a room", "Turns lights on and off."),
    Phrases.of(
        """
        Turn {s} the light in the {r}.
        Switch {s} the light in the {r}.
        Turn {s} the {r} light.
        Turn the light in the {r} {s}.
        Switch the {r} light {s}.
        Lights {s} in the {r}.
        """,
        """
        Please turn {s} the light in the {r}.
        Can you switch the light in the {r} {s}?
        """,
    ),
    {
        "r": Slot(
            ("room", "location", "where"),
            "string",
            "The room",
            one_of(("kitchen", "bedroom", "garden", "hall", "office", "garage", "bathroom")),
        ),
        "s": Slot(("state", "mode", "action"), "string", "The new state", one_of(("on", "off")), ("on", "off")),
    },
)
TIMER = Family(
    "timer",
    ("set_timer", "start_timer", "timer", "countdown"),
    ("Start a timer", "Start a timer for some minutes", "Sets a countdown timer."),
    Phrases.of(
        """
        Set a timer for {n} minutes.
        Start a timer for {n} minutes.
        Timer for {n} minutes.
        Start a {n} minute timer.
        Set a {n} minute timer.
        Count down {n} minutes.
        """,
        """
        Please set a timer for {n} minutes.
        Can you start a {n} minute timer?
        """,
    ),
    {"n": Slot(("minutes", "duration", "length"), "integer", "Length in minutes", whole(1, 120))},
)
PLAY = Family(
    "music",
    ("play_music", "play_song", "play", "music_player", "start_music"),
    ("Play a song", "Play music", "Plays a song by name."),
    Phrases.of(
        """
        Play {t}.
        Play the song {t}.
        Play "{t}"
        I want to hear the song {t}.
        Put on {t}.
        Start playing {t}.
        """,
        """
        Please play the song {t}.
        Can you put on {t}?
        """,
    ),
    {"t": Slot(("song", "title", "track", "name"), "string", "The song", text)},
)
BOOK = Family(
    "travel",
    ("book_flight", "find_flights", "search_flights", "flight_search", "flights"),
    ("Find flights between two cities", "Search for flights", "Flights from one city to another."),
    Phrases.of(
        """
        Find a flight from {a} to {b}.
        Book a flight from {a} to {b}.
        I want to fly from {a} to {b}.
        Flights from {a} to {b}?
        Show me flights from {a} to {b}.
        Find a flight from {a} to {b} on {d}.
        Book a flight from {a} to {b} for {d}.
        """,
        """
        Can you find flights from {a} to {b}?
        I need to fly from {a} to {b}.
        """,
    ),
    {
        "a": Slot(("origin", "from", "from_city", "departure"), "string", "Where the flight starts", city),
        "b": Slot(("destination", "to", "to_city", "arrival"), "string", "Where the flight goes", city),
        "d": Slot(("date", "day", "when"), "string", "The day", one_of(DAYS)),
    },
)
ROLL = Family(
    "dice",
    ("roll_dice", "roll", "dice", "throw_dice"),
    ("Roll dice", "Roll a die with some sides", "Throws dice."),
    Phrases.of(
        """
        Roll a die with {n} sides.
        Roll a {n} sided die.
        Throw a die with {n} sides.
        Roll a dice with {n} sides.
        """,
        """
        Please roll a die with {n} sides.
        """,
    ),
    {"n": Slot(("sides", "faces"), "integer", "Number of sides", whole(2, 100))},
)
SHOP = Family(
    "list",
    ("add_to_list", "add_item", "shopping_list_add", "add_to_shopping_list"),
    ("Add an item to the shopping list", "Put something on the shopping list"),
    Phrases.of(
        """
        Add {w} to my shopping list.
        Put {w} on my shopping list.
        Add {w} to the list.
        I need to buy {w}.
        Put {w} on the list.
        Add {n} {w} to my shopping list.
        """,
        """
        Please put {w} on the shopping list.
        Can you add {w} to my list?
        """,
    ),
    {
        "w": Slot(("item", "name", "product"), "string", "The item", one_of(WORDS)),
        "n": Slot(("quantity", "count", "amount"), "integer", "How many", whole(1, 12)),
    },
)

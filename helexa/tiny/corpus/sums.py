"""Small sums: addition and subtraction of numbers up to 99, products up to twelve times twelve."""

from helexa.tiny.corpus.draw import Draw, Phrases
from helexa.tiny.corpus.framing import dress
from helexa.tiny.corpus.shapes import Exchange

_EXPRESSION = Phrases.of(
    """
    What is {e}?
    What's {e}?
    {e}
    {e}?
    {e}=
    {e} = ?
    {e} =
    Calculate {e}.
    Compute {e}.
    How much is {e}?
    Solve {e}.
    What does {e} equal?
    Tell me {e}.
    What is {e} equal to?
    Work out {e}.
    Can you calculate {e}?
    Can you add up {e}?
    What do you get for {e}?
    {e} is what?
    Please compute {e}.
    I need to know what {e} is.
    Do you know what {e} is?
    What is the result of {e}?
    Give me the answer to {e}.
    The sum: {e}
    Could you tell me what {e} is?
    What is the answer to {e}?
    Evaluate {e}.
    Give me the value of {e}.
    Value of {e}?
    What value does {e} have?
    Could you calculate {e}?
    Could you please work {e} out?
    Calculate {e} for me.
    Please work out {e} for me.
    Find the result of {e}.
    Find out what {e} is.
    Find the answer to {e}.
    What does {e} make?
    How much do you get for {e}?
    {e} is how much?
    {e} makes
    """,
    """
    What is the value of {e}?
    Could you work out {e}?
    How much does {e} make?
    Find {e}.
    Please calculate {e} for me.
    {e} makes what?
    """,
)
_ADD = Phrases.of(
    """
    Add {a} and {b}.
    What is the sum of {a} and {b}?
    Add {b} to {a}.
    Sum {a} and {b}.
    What do {a} and {b} add up to?
    I have {a} apples and get {b} more. How many apples do I have?
    What do you get when you add {a} and {b}?
    Add together {a} and {b}.
    {a} and {b} together?
    Please add {b} to {a}.
    Please add up {a} and {b}.
    Add {a} and {b} together for me.
    Tell me what {a} and {b} add up to.
    What are {a} and {b} together?
    How much is {a} together with {b}?
    Tell me what you get when you add {a} and {b}.
    """,
    """
    Please add {a} and {b} together.
    Tell me the sum of {a} and {b}.
    How much are {a} and {b} together?
    """,
)
_SUBTRACT = Phrases.of(
    """
    Subtract {b} from {a}.
    Take {b} away from {a}.
    What is the difference of {a} and {b}?
    What is {a} less {b}?
    What is left when you take {b} from {a}?
    I have {a} coins and spend {b}. How many coins are left?
    Take {b} from {a}.
    What remains if you subtract {b} from {a}?
    Please subtract {b} from {a}.
    Subtract {b} from {a} for me.
    If you subtract {b} from {a}, what remains?
    If I take {b} from {a}, how much is left?
    If {b} is taken away from {a}, what remains?
    What is the difference between {a} and {b}?
    Tell me the difference between {a} and {b}.
    """,
    """
    Please subtract {b} from {a} for me.
    If you take {b} away from {a}, what is left?
    Tell me the difference of {a} and {b}.
    """,
)
_MULTIPLY = Phrases.of(
    """
    Multiply {a} by {b}.
    Multiply {a} and {b}.
    What is the product of {a} and {b}?
    What is {a} multiplied by {b}?
    There are {a} boxes with {b} pens each. How many pens are there?
    Give me the product of {a} and {b}.
    Please multiply {a} and {b}.
    Multiply {a} by {b} for me.
    Tell me what you get when you multiply {a} by {b}.
    Please tell me the product of {a} times {b}.
    """,
    """
    Tell me the product of {a} and {b}.
    Please multiply {a} by {b} for me.
    """,
)
_SIGNS = {"+": ("+", "+", " plus "), "-": ("-", "-", " minus "), "*": ("*", "*", "x", " times ", "\u00d7")}
_WORDED = {"+": _ADD, "-": _SUBTRACT, "*": _MULTIPLY}

_TOO_BIG = "That is too hard for me. I can add and subtract numbers up to 99 and multiply up to 12."


def sums(draw: Draw) -> Exchange:
    """Ask for a sum, a difference or a small product."""
    sign, a, b = operands(draw)
    worded = draw.chance(0.3)
    phrase = draw.phrase(_WORDED[sign] if worded else _EXPRESSION)
    user = dress(draw, phrase, a=a, b=b, e=expression(draw, sign, a, b))
    reply = f"{a} {sign} {b} = {result(sign, a, b)}."
    return Exchange("sums", user, reply, working(sign, a, b))


def too_hard(draw: Draw) -> Exchange:
    """Ask for a sum that is out of reach."""
    sign = draw.pick("+-*/")
    a, b = draw.number(100, 99_999), draw.number(13, 99_999)
    if sign == "/":
        a, b = draw.number(1, 999), draw.number(1, 99)
    space = draw.pick(("", " "))
    text = draw.pick(
        (f"{a}{space}{sign}{space}{b}", f"{a} divided by {b}" if sign == "/" else f"{a}{space}{sign}{space}{b}")
    )
    user = dress(draw, draw.phrase(_EXPRESSION), e=text)
    return Exchange("unknown", user, _TOO_BIG, "This sum is too big for me. I say so.")


def expression(draw: Draw, sign: str, a: int, b: int) -> str:
    """Write an expression in one of the usual ways."""
    written = draw.pick(_SIGNS[sign])
    space = "" if written.startswith(" ") or draw.chance(0.4) else " "
    return f"{a}{space}{written}{space}{b}"


def result(sign: str, a: int, b: int) -> int:
    """Return what a small expression equals."""
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def working(sign: str, a: int, b: int) -> str:
    """Work an expression out digit by digit, in words."""
    steps = {"+": _adding, "-": _subtracting, "*": _multiplying}[sign](a, b)
    return f"I need {a} {sign} {b}. {steps} So {a} {sign} {b} = {result(sign, a, b)}."


def operands(draw: Draw) -> tuple[str, int, int]:
    """Choose a sign and two numbers; sums and differences fall on the draw's side of the split."""
    sign = draw.pick("++---**")
    if sign == "*":  # a product is a fact to remember: nothing to hold out
        return sign, draw.number(0, 12), draw.number(0, 12)
    high = 99 if draw.chance(0.85) else 12
    return draw.fresh(lambda: (sign, draw.number(0, high), draw.number(0, high)))


def _adding(a: int, b: int) -> str:
    ones = a % 10 + b % 10
    carry = f"Write {ones % 10}, carry {ones // 10}."
    tens = a // 10 + b // 10 + ones // 10
    return f"Ones: {a % 10} + {b % 10} = {ones}. {carry} Tens: {a // 10} + {b // 10} + {ones // 10} = {tens}."


def _subtracting(a: int, b: int) -> str:
    if a < b:
        return f"{a} is less than {b}, so I turn it round: {b} - {a}. {_subtracting(b, a)} That is {b - a}."
    borrow = int(a % 10 < b % 10)
    ones = a % 10 + 10 * borrow
    tens = a // 10 - b // 10 - borrow
    left = f"Ones: {ones} - {b % 10} = {ones - b % 10}, borrow {borrow}."
    return f"{left} Tens: {a // 10} - {b // 10} - {borrow} = {tens}."


def _multiplying(a: int, b: int) -> str:
    if 0 in (a, b):
        return "Anything times 0 is 0."
    return f"I count by {b}: {', '.join(str(b * i) for i in range(1, a + 1))}."

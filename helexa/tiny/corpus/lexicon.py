"""Words, names and made-up words that the tasks draw from."""

from collections.abc import Callable

from helexa.tiny.corpus.draw import Draw, words

WORDS = words(
    """
    apple banana orange lemon cherry grape melon peach pear plum strawberry tomato potato carrot onion garlic pepper
    bread butter cheese milk coffee tea sugar salt honey rice pasta pizza soup salad cake cookie chocolate pancake
    cat dog horse cow sheep goat pig rabbit mouse bird duck goose eagle owl lion tiger bear wolf fox deer monkey
    elephant giraffe zebra snake frog turtle fish shark whale dolphin bee ant spider butterfly hamster parrot
    table chair desk lamp window door floor wall roof house garden kitchen bedroom bottle glass plate spoon fork knife
    book paper pencil pen letter story music guitar piano violin drum song dance movie picture camera phone radio
    car bus train plane boat ship bicycle bridge street road city village river lake ocean island mountain forest
    tree flower leaf grass stone sand fire water wind rain snow cloud storm sun moon star sky earth planet rocket
    red green blue yellow purple brown black white pink gray silver golden small big tall short long quick slow
    happy sad brave quiet loud warm cold soft hard clean dirty early late easy simple strange funny clever gentle
    run walk jump swim climb sing read write draw build open close carry throw catch learn teach help find make
    computer keyboard screen server network program memory model token engine gateway neuron cortex fleet device
    school teacher student doctor nurse farmer baker pilot sailor painter writer king queen prince dragon wizard
    castle market station airport hotel museum library church tower tunnel harbor desert valley meadow jungle cave
    summer winter spring autumn morning evening night monday tuesday wednesday thursday friday saturday sunday
    january february march april may june july august september october november december
    football tennis chess puzzle ticket pocket basket candle mirror blanket pillow carpet curtain hammer ladder
    wagon wheel button needle thread ribbon jacket trousers shirt sweater shoes gloves scarf umbrella backpack
    answer question number word sentence language science history number energy metal copper iron diamond crystal
    hello world helexa friend family mother father sister brother baby child people person hand foot head heart nose
    ear eye mouth finger shoulder knee breakfast lunch dinner birthday party present holiday journey adventure secret
    rhythm queue knight island honest whisper tomorrow yesterday beautiful wonderful important different together
    hippopotamus mississippi bookkeeper refrigerator encyclopedia vegetable chocolate symphony pineapple watermelon
    """
)

NAMES = words(
    """
    Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Noah Olivia Paul Rosa Sam Tina Victor Wendy
    Xavier Yara Zoe Alice Bob Carol Dan Eve Frank Gina Hugo Iris Jonas Karl Lena Max Nina Oscar Petra Robert Sara Tom
    Ursula Vera Walter Alex Bianca Chris Diana Erik Fiona George Hanna Ivan Julia Kevin Laura Marco Nora Otto Paula
    Ralph Sofia Theo Uma Vincent Willa Amir Bella Carlos Dora Elias Farid Greta Hiro Ines Jin Kofi Lucia Mei Nadia
    Omar Priya Quinn Ravi Selma Tariq Ulla Vikram Wei Yuki Zara Ada Grete Linus Mona Aisha Bruno Celine Dmitri Elena
    John Mary James Peter Michael Susan Linda Steve Mark Lisa Daniel Lucy Simon Ruth Martin Helen Jane Mike Tim Amy
    """
)

PET_NAMES = words(
    """
    Rex Bella Max Luna Charlie Rocky Daisy Buddy Molly Coco Fluffy Shadow Milo Lucky Ginger Pepper Oscar Whiskers
    Tiger Spot Bruno Nala Simba Biscuit Cookie Pickles Waffles Snowy Felix Misty Smokey Teddy Toby Rusty Zorro Fido
    """
)

ONE_WORD_CITIES = words(
    """
    Paris London Berlin Madrid Rome Vienna Oslo Tokyo Lisbon Dublin Prague Athens Helsinki Warsaw Budapest Toronto
    Sydney Melbourne Chicago Boston Seattle Denver Austin Miami Dallas Munich Hamburg Cologne Zurich Geneva Milan Naples
    Venice Barcelona Seville Porto Lyon Nice Marseille Brussels Amsterdam Rotterdam Copenhagen Stockholm Bergen
    Reykjavik Cairo Nairobi Lagos Accra Mumbai Delhi Bangkok Hanoi Seoul Beijing Shanghai Osaka Kyoto Manila Jakarta
    Singapore Lima Bogota Quito Santiago Havana Istanbul Ankara Dubai Tehran Karachi Glasgow Leeds Bristol
    """
)
CITIES = (
    *ONE_WORD_CITIES,
    "New York",
    "San Francisco",
    "Los Angeles",
    "Cape Town",
    "Buenos Aires",
    "Mexico City",
    "Hong Kong",
    "Tel Aviv",
)

LIKES = words(
    """
    chess tennis football pizza pasta jazz music coffee tea hiking cooking reading swimming painting dancing gardening
    chocolate cycling running fishing sailing skiing photography poetry opera movies trains birds cats dogs horses
    knitting puzzles history science astronomy camping climbing surfing singing baking mushrooms sushi pancakes
    """
)

COLOURS = ("red", "green", "blue", "yellow", "purple", "brown", "black", "white", "pink", "gray", "orange", "silver")

_STARTS = words(
    "b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kl kr pl pr qu sh sk sl sn sp st th tr tw y"
)
_MIDDLES = words("a e i o u a e i o u ai ea ee ou oo ie y au")
_ENDS = ("", "", "", "", *words("n r l s t m d k x b g p nd rt st ng lk rm ck sh ss ll mp ft"))


def made_up(draw: Draw, low: int = 1, high: int = 3) -> str:
    """Return a word of made-up syllables, in lower case."""
    return "".join(_syllable(draw) for _ in range(draw.number(low, high)))


def fresh_word(draw: Draw, low: int = 1, high: int = 3) -> str:
    """Return a made-up word from this draw's side of the split."""
    return draw.fresh(lambda: made_up(draw, low, high))


def any_word(draw: Draw) -> str:
    """Return a common word or a made-up one."""
    return draw.pick(WORDS) if draw.chance(0.5) else fresh_word(draw)


def proper(draw: Draw, pool: tuple[str, ...], invented: float = 0.4) -> str:
    """Return a name from a pool, or a made-up one with a capital."""
    return fresh_word(draw, 1, 3).capitalize() if draw.chance(invented) else draw.pick(pool)


def several(draw: Draw, low: int, high: int, make: Callable[[Draw], str] = any_word) -> str:
    """Return a few words with spaces between."""
    return " ".join(make(draw) for _ in range(draw.number(low, high)))


def _syllable(draw: Draw) -> str:
    return draw.pick(_STARTS) + draw.pick(_MIDDLES) + draw.pick(_ENDS)

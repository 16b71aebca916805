"""Texts whose likelihood is measured, written for this. Whoever changes one raises `Quality.edition`."""

from typing import Final

_FERRY: Final = (
    "The ferry leaves the island at seven in the morning, when the fog still lies on the water. Anna sells the"
    " tickets from a wooden hut beside the pier. She knows most of the passengers by name: the teacher, the "
    "two carpenters, the old man who visits his sister every Tuesday. In winter there are days when nobody "
    "comes, and the captain drinks his coffee in her hut and tells her about the storms of other years. Then "
    "he looks at his watch, thanks her, and the ferry leaves as if it were full."
)
_BREAD: Final = (
    "To bake a simple loaf of bread you need flour, water, salt and yeast. Mix five hundred grams of flour "
    "with ten grams of salt. Stir the yeast into three hundred and fifty millilitres of warm water and pour it"
    " over the flour. Knead the dough for about ten minutes, until it is smooth. Cover it and let it rise for "
    "an hour; it should double in size. Shape it, let it rest for another half hour, and bake it at two "
    "hundred and thirty degrees until the crust is brown."
)
_RIVER: Final = (
    "A river carries more than water. Every second it moves sand, clay and pebbles from the mountains towards "
    "the sea, and where it slows down, it drops the heaviest of them first. That is why the bed of a mountain "
    "stream is full of stones, while the mouth of a great river is made of mud. Over thousands of years the "
    "mud grows into new land. Whole cities stand on ground that was once part of a distant mountain."
)
_CODE: Final = (
    "def largest_gap(numbers):\n"
    '    """The largest difference between neighbours in sorted order."""\n'
    "    ordered = sorted(numbers)\n"
    "    largest = 0\n"
    "    for i in range(1, len(ordered)):\n"
    "        gap = ordered[i] - ordered[i - 1]\n"
    "        if gap > largest:\n"
    "            largest = gap\n"
    "    return largest\n"
    "\n"
    "\n"
    'if __name__ == "__main__":\n'
    "    print(largest_gap([3, 9, 1, 14, 6]))\n"
)
_TRAINS: Final = (
    "If a train travels at ninety kilometres per hour and the next station is sixty kilometres away, it "
    "arrives after forty minutes, because sixty divided by ninety is two thirds, and two thirds of an hour are"
    " forty minutes. If it stops for five minutes on the way, it arrives after forty-five. A second train that"
    " leaves ten minutes later and travels at one hundred and twenty kilometres per hour needs half an hour, "
    "and so it arrives first, five minutes before the other."
)
_ORDER: Final = (
    '{"order": 4711, "customer": {"name": "Maria Lind", "city": "Uppsala"}, "items": [{"article": "lamp", '
    '"count": 2, "price": 39.9}, {"article": "bulb", "count": 6, "price": 4.5}], "shipping": "standard", '
    '"total": 106.8, "paid": true}'
)
_GARDEN: Final = (
    "Der Garten hinter dem Haus war klein, aber im Sommer schien er kein Ende zu haben. Zwischen den "
    "Johannisbeeren und der Mauer gab es einen Weg, den nur die Kinder und die Katze kannten. Am Abend, wenn "
    "die Erwachsenen am Tisch sassen und redeten, hörte man von dort ein leises Lachen."
)
_QUESTIONS: Final = (
    "Question: Which is heavier, a kilogram of feathers or a kilogram of iron? Answer: Both weigh the same, "
    "one kilogram. The feathers take up far more room, because they are less dense. Question: Why does ice "
    "float on water? Answer: Water expands when it freezes, so ice is less dense than the liquid, and it "
    "floats."
)

PASSAGES: Final = (_FERRY, _BREAD, _RIVER, _CODE, _TRAINS, _ORDER, _GARDEN, _QUESTIONS)

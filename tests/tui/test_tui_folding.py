"""Groups of lines: which are in sight, where the cursor is, what is drawn."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tui.widgets.foldedlist import FoldedList, Moved, Opened
from tui.widgets.folding import FEW_GROUPS, Entry, Folding, Group


def group(name: str, *entries: str) -> Group:
    return Group(Entry(name, name), tuple(Entry(f"{name}/{each}", each) for each in entries))


def words(entry: Entry) -> str:
    return str(entry.content)


FLEET = (group("beast", "cuda", "qwen"), group("desk", "cpu", "qwen", "tiny"), group("attic"))
NAMES = st.text("abc", min_size=1, max_size=3)
GROUPS = st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=4)), max_size=20).map(
    lambda found: tuple(group(f"{number}{name}", *entries) for number, (name, entries) in enumerate(found))
)


def keys(folding: Folding, groups: tuple[Group, ...] = FLEET) -> list[str]:
    return [row.key for row in folding.rows(groups, words)]


def test_few_groups_are_open() -> None:
    assert keys(Folding()) == [
        "beast",
        "beast/cuda",
        "beast/qwen",
        "desk",
        "desk/cpu",
        "desk/qwen",
        "desk/tiny",
        "attic",
    ]


def test_many_groups_are_folded() -> None:
    many = tuple(group(f"box-{number}", "cpu") for number in range(FEW_GROUPS + 1))
    assert keys(Folding(), many) == [f"box-{number}" for number in range(FEW_GROUPS + 1)]


def test_a_fleet_that_grows_does_not_fold_under_somebodys_eyes() -> None:
    folding = Folding()
    keys(folding)
    many = tuple(group(f"box-{number}", "cpu") for number in range(FEW_GROUPS + 1))
    assert len(keys(folding, many)) == 2 * len(many)


def test_a_group_is_folded_and_opened_by_itself() -> None:
    folding = Folding()
    folding.fold("desk", folded=True)
    assert keys(folding) == ["beast", "beast/cuda", "beast/qwen", "desk", "attic"]
    folding.fold_all(folded=True)
    folding.fold("desk", folded=False)
    assert keys(folding) == ["beast", "desk", "desk/cpu", "desk/qwen", "desk/tiny", "attic"]


def test_a_filter_keeps_the_heads_of_what_it_finds() -> None:
    assert keys(Folding(wanted=("tiny",))) == ["desk", "desk/tiny"]


def test_a_filter_looks_into_folded_groups() -> None:
    assert keys(Folding(usual=True, wanted=("tiny",))) == ["desk", "desk/tiny"]


def test_words_of_a_filter_may_be_those_of_the_head() -> None:
    assert keys(Folding(wanted=("desk", "qwen"))) == ["desk", "desk/qwen"]


def test_a_head_that_is_found_shows_all_that_is_under_it() -> None:
    assert keys(Folding(wanted=("beast",))) == ["beast", "beast/cuda", "beast/qwen"]


@given(groups=GROUPS, wanted=st.lists(NAMES, max_size=2), folded=st.booleans())
def test_a_filter_shows_part_of_what_is_there_in_the_same_order(
    groups: tuple[Group, ...], wanted: list[str], *, folded: bool
) -> None:
    everything = keys(Folding(usual=False), groups)
    shown = keys(Folding(usual=folded, wanted=tuple(wanted)), groups)
    assert [key for key in everything if key in set(shown)] == shown
    assert {key.partition("/")[0] for key in shown} <= set(shown)


class Plain:
    """Shows the content of each line, and counts what it draws."""

    def __init__(self) -> None:
        self.drawn = list[str]()

    def title(self, width: int) -> Text:
        del width
        return Text("TITLE")

    def head(self, group: Group, width: int, *, folded: bool) -> Text:
        del width
        return self._line(f"{'+' if folded else '-'} {group.head.content}")

    def entry(self, entry: Entry, width: int) -> Text:
        del width
        return self._line(f"    {entry.content}")

    def words(self, entry: Entry) -> str:
        return words(entry)

    def _line(self, text: str) -> Text:
        self.drawn.append(text)
        return Text(text)


class Listed(App[None]):
    """An application with nothing but a list."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        super().__init__()
        self.groups, self.painter = groups, Plain()
        self.told = list[Moved | Opened]()

    def compose(self) -> ComposeResult:
        yield FoldedList()

    def on_mount(self) -> None:
        self.folds.show_groups(self.groups, self.painter)

    @property
    def folds(self) -> FoldedList:
        return self.query_one(FoldedList)

    @property
    def at(self) -> str | None:
        return None if self.folds.current is None else self.folds.current.key

    def on_moved(self, message: Moved) -> None:
        self.told.append(message)

    def on_opened(self, message: Opened) -> None:
        self.told.append(message)


def drive(steps: Callable[[Listed, Pilot[None]], Awaitable[None]], groups: tuple[Group, ...] = FLEET) -> None:
    async def main() -> None:
        app = Listed(groups)
        async with app.run_test(size=(30, 6)) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(main())


def lines(app: Listed) -> list[str]:
    return [strip.text.rstrip(" ▄▂█▁▃▅▆▇") for strip in app.screen._compositor.render_strips()]


def test_the_title_stays_while_lines_are_scrolled() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        assert lines(app) == ["TITLE", "- beast", "    cuda", "    qwen", "- desk", "    cpu"]
        await pilot.press("G")
        assert app.at == "attic"
        assert lines(app) == ["TITLE", "- desk", "    cpu", "    qwen", "    tiny", "- attic"]

    drive(steps)


def test_enter_folds_a_group_and_opens_a_line() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        assert app.folds.keys[:2] == ["beast", "desk"]
        await pilot.press("enter", "down", "enter")
        assert isinstance(app.told[-1], Opened)
        assert app.told[-1].row.key == "beast/cuda"

    drive(steps)


def test_enter_on_a_group_without_lines_tells_of_the_group() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        await pilot.press("G", "enter")
        assert isinstance(app.told[-1], Opened)
        assert app.told[-1].row.key == "attic"

    drive(steps)


def test_left_goes_to_the_head_and_then_folds() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "left")
        assert app.at == "beast"
        await pilot.press("left")
        assert app.folds.keys[:2] == ["beast", "desk"]
        await pilot.press("right", "right")
        assert app.at == "beast/cuda"

    drive(steps)


def test_the_cursor_stays_on_its_line_when_others_come_and_go() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down")
        app.folds.show_groups((group("first", "a", "b"), *FLEET), app.painter)
        assert app.at == "beast/qwen"
        app.folds.show_groups((group("beast", "cuda"), group("desk")), app.painter)
        assert app.at == "beast"

    drive(steps)


def test_a_list_that_is_emptied_has_no_cursor_and_takes_keys() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        app.folds.show_groups((), app.painter)
        await pilot.press("down", "enter", "left", "right", "f", "G", "pageup")
        assert app.at is None

    drive(steps)


def test_going_to_a_line_opens_its_group() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        await pilot.press("f")
        assert app.folds.keys == ["beast", "desk", "attic"]
        assert app.folds.go_to("desk/tiny")
        await pilot.pause()
        assert app.at == "desk/tiny"
        assert "    tiny" in lines(app)
        assert not app.folds.go_to("nobody")

    drive(steps)


def test_only_what_is_in_sight_is_drawn() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        del pilot
        assert len(set(app.painter.drawn)) <= 6

    drive(steps, tuple(group(f"box-{number}", "a", "b") for number in range(1000)))


def test_a_step_of_the_cursor_draws_two_lines() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        app.painter.drawn.clear()
        await pilot.press("down")
        assert app.painter.drawn == ["- beast", "    cuda"]

    drive(steps)


def test_what_a_terminal_would_obey_is_not_sent_to_it() -> None:
    async def steps(app: Listed, pilot: Pilot[None]) -> None:
        del pilot
        assert "\x1b" not in "".join(lines(app))

    drive(steps, (group("evil\x1b]0;title\x07"),))

"""Whether anything was read anew."""

from tui.views.sameness import same


def test_what_was_read_again_is_not_the_same_even_if_it_says_the_same() -> None:
    fleet = ["a"]
    assert same((fleet, 1000, "x", None), (fleet, int("1000"), "x", None))
    assert not same((fleet,), (["a"],))
    assert not same((fleet, None), (fleet, "why not"))
    assert not same((fleet,), ())

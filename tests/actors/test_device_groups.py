"""Which devices of a host share a model, as asked for or picked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.device_groups import check, pick
from helexa.wire.errors import ApiError
from helexa.wire.ranks import devices_of

CARDS = ("cuda:0", "cuda:1", "cpu")


@pytest.mark.parametrize("group", ["cpu", "cuda:1", "cuda:1+cuda:0"])
def test_devices_that_are_here_are_taken_in_the_order_asked_for(group: str) -> None:
    assert check(group, CARDS) == devices_of(group)


@pytest.mark.parametrize(
    ("group", "why"),
    [
        ("", "this host has cuda:0, cuda:1, cpu"),
        ("cuda:2", "this host has cuda:0, cuda:1, cpu"),
        ("cuda:0+cuda:2", "this host has cuda:0, cuda:1, cpu"),
        ("cuda:0+", "this host has cuda:0, cuda:1, cpu"),
        ("cuda:0+cuda:1+cuda:0", "each of several devices is to be named once"),
        ("cuda:0+cpu", "devices that share a model are all GPUs, or all CPUs"),
    ],
)
def test_devices_that_cannot_be_had_together_are_refused_with_the_reason(group: str, why: str) -> None:
    with pytest.raises(ApiError, match=why) as caught:
        check(group, CARDS)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_value", "device")


@pytest.mark.parametrize(
    ("held", "ranks", "picked"),
    [
        ({"cpu": 0}, 1, "cpu"),
        ({"cuda:0": 1, "cuda:1": 1}, 1, "cuda:0"),
        ({"cuda:0": 2, "cuda:1": 1}, 1, "cuda:1"),
        ({"cuda:0": 2, "cuda:1": 0, "cuda:2": 1}, 2, "cuda:1+cuda:2"),
        ({"cuda:0": 0, "cuda:1": 5, "cuda:2": 0}, 2, "cuda:0+cuda:2"),
        ({"cpu": 0, "cuda:0": 3, "cuda:1": 3}, 2, "cuda:0+cuda:1"),
        ({"cuda:0": 3, "cuda:1": 3, "cpu": 0, "cpu:0": 0}, 2, "cpu+cpu:0"),
        ({"cuda:0": 0, "cpu": 0}, 2, None),
        ({"cuda:0": 0}, 2, None),
    ],
)
def test_the_devices_of_one_type_that_hold_the_fewest_are_picked(
    held: dict[str, int], ranks: int, picked: str | None
) -> None:
    assert pick(held, ranks) == picked


@given(
    st.dictionaries(st.sampled_from([f"cuda:{index}" for index in range(8)]), st.integers(0, 5), min_size=1), st.data()
)
def test_none_that_is_left_out_holds_fewer_than_one_that_is_picked(held: dict[str, int], data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, len(held)))
    found = pick(held, ranks)
    assert found is not None
    picked = check(found, tuple(held))
    assert len(picked) == ranks
    assert all(held[out] >= held[each] for out in held.keys() - set(picked) for each in picked)

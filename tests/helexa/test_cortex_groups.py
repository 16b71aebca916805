"""Which devices of a node share a model best."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.routing.groups import choose, types
from helexa.wire.fleet import DeviceInfo, DeviceLink

EQUAL = dict.fromkeys([f"cuda:{index}" for index in range(16)], 1000)


def gpus(count: int, kind: str = "big", capability: str = "9.0", first: int = 0) -> list[DeviceInfo]:
    return [DeviceInfo(index, f"cuda:{index}", kind, 1000, capability) for index in range(first, first + count)]


def link(first: int, second: int, path: str = "system", nvlinks: int = 0, *, peer: bool | None = None) -> DeviceLink:
    return DeviceLink(f"cuda:{first}", f"cuda:{second}", path, nvlinks, peer)


def names(devices: tuple[DeviceInfo, ...]) -> list[int]:
    return [device.index for device in devices]


def test_gpus_do_not_share_with_cpus() -> None:
    mixed = [DeviceInfo(0, "cpu", "x86", 1), *gpus(2), DeviceInfo(0, "cpu:0", "x86", 1)]
    assert [[each.name for each in alike] for alike in types(mixed)] == [["cpu", "cpu:0"], ["cuda:0", "cuda:1"]]


def test_of_devices_that_are_all_the_same_the_first_are_taken() -> None:
    assert names(choose(gpus(4), 2, EQUAL, [])) == [0, 1]


def test_devices_that_are_alike_come_before_those_that_have_more_memory_free() -> None:
    devices = [*gpus(1, "old", "7.0"), *gpus(1, "big", first=1), *gpus(1, "old", "7.0", first=2)]
    assert names(choose(devices, 2, {**EQUAL, "cuda:1": 9000}, [])) == [0, 2]
    assert names(choose(devices[:2], 2, EQUAL, [])) == [0, 1], "others will do where there are no two alike"


def test_the_same_card_of_another_capability_is_another_kind() -> None:
    devices = [*gpus(1, capability="8.9"), *gpus(2, capability="9.0", first=1)]
    assert names(choose(devices, 2, EQUAL, [])) == [1, 2]


def test_the_best_linked_come_first_then_those_with_the_most_free() -> None:
    links = [link(one, other) for one, other in combinations(range(4), 2)]
    assert names(choose(gpus(4), 2, {**EQUAL, "cuda:1": 2000, "cuda:3": 2000}, links)) == [1, 3]
    for better in (link(0, 2, "switch"), link(0, 2, "system", peer=True), link(0, 2, "system", 4)):
        assert names(
            choose(gpus(4), 2, {**EQUAL, "cuda:1": 2000, "cuda:3": 2000}, [*links[:1], *links[2:], better])
        ) == [
            0,
            2,
        ]


def test_a_group_is_judged_by_its_slowest_link() -> None:
    """Two pairs have NVLink, and four cards are behind one switch: quicker than two pairs."""
    links = [link(0, 1, "system", 4), link(2, 3, "system", 4)]
    links += [link(one, other, "switch") for one, other in combinations((1, 2, 4, 5), 2)]
    assert names(choose(gpus(6), 4, EQUAL, links)) == [1, 2, 4, 5]


SHAPES = st.integers(2, 8).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.integers(2, count),
        st.lists(st.integers(0, 9), min_size=count, max_size=count),
        st.dictionaries(
            st.sampled_from(list(combinations(range(count), 2))), st.tuples(st.integers(0, 2), st.booleans())
        ),
    )
)


@given(SHAPES)
def test_a_group_is_of_so_many_different_devices_in_their_order_and_of_a_pair_the_very_best(
    shape: tuple[int, int, list[int], dict[tuple[int, int], tuple[int, bool]]],
) -> None:
    count, ranks, free, known = shape
    free_mb = {f"cuda:{index}": each for index, each in enumerate(free)}
    links = [link(one, other, "switch", nvlinks, peer=peer) for (one, other), (nvlinks, peer) in known.items()]
    found = names(choose(gpus(count), ranks, free_mb, links))
    assert len(set(found)) == ranks
    assert found == sorted(found)
    if ranks == 2:
        worth = {
            pair: (known.get(pair, (-1, False)), free[pair[0]] + free[pair[1]])
            for pair in combinations(range(count), 2)
        }
        assert worth[found[0], found[1]] == max(worth.values())

"""Figures as they are shown."""

import pytest
from rich.text import Text

from helexa.wire.fleet import KvCache
from tui.views import figures


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0s"), (99, "99s"), (100, "1m"), (5999, "99m"), (6000, "1h"), (172_799, "47h"), (172_800, "2d")],
)
def test_times_are_told_in_their_largest_fitting_unit(seconds: float, said: str) -> None:
    assert figures.span(seconds) == said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "Intel Xeon E5-2680 v4"),
        ("AMD Ryzen 9 9950X 16-Core Processor", "AMD Ryzen 9 9950X"),
        ("CPU", "CPU"),
    ],
)
def test_devices_are_called_by_what_tells_them_apart(kind: str, said: str) -> None:
    assert figures.short_kind(kind) == said


@pytest.mark.parametrize(
    ("rate", "said"), [(None, ""), (0.0, "0 tok/s"), (3.25, "3.2 tok/s"), (476.4, "476 tok/s"), (4570.0, "4.6k tok/s")]
)
def test_speeds_are_short(rate: float | None, said: str) -> None:
    assert figures.throughput(rate) == said


def test_what_is_only_kept_for_prompts_to_come_is_not_in_use() -> None:
    assert figures.kv_used(KvCache(blocks_total=100, blocks_free=50, blocks_cached=30)) == pytest.approx(0.2)
    assert figures.kv_used(KvCache(blocks_total=0, blocks_free=0, blocks_cached=0)) is None


@pytest.mark.parametrize(
    ("used", "total", "said"),
    [(28774, 32563, "28.1/31.8 GiB"), (600, 900, "600/900 MiB"), (650_000, 652_288, "635/637 GiB"), (0, 0, "0/0 MiB")],
)
def test_memory_is_told_in_the_unit_of_the_whole(used: float, total: float, said: str) -> None:
    assert figures.memory(used, total) == said


def test_a_cell_is_cut_filled_up_and_made_harmless() -> None:
    assert figures.fit("abcdef", 4).plain == "abc…"
    assert figures.fit(Text("ab"), 4, right=True).plain == "  ab"
    assert figures.fit("a\x1b\nb", 6).plain == "a·⏎b  "
    assert figures.fit("abc", 0).plain == ""

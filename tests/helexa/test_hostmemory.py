"""Memory as this process may have it, with limits as the kernel writes them."""

from pathlib import Path

import psutil
import pytest
from attrs import frozen

from helexa import hostmemory
from helexa.hostmemory import HostMemory

MIB = 2**20
NO_LIMIT_V1 = 9223372036854771712


@frozen
class Groups:
    """A tree of control groups as the kernel shows it."""

    directory: Path

    def within(self, line: str) -> HostMemory:
        """The memory of a process that the kernel says this of."""
        cgroup = self.directory / "cgroup"
        cgroup.write_text(line)
        return hostmemory.read(cgroup, self.directory)

    def group(self, path: str, **files: object) -> None:
        (self.directory / path).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.directory / path / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_without_a_limit_it_is_the_host_s(groups: Groups) -> None:
    found = groups.within("0::/user.slice\n")
    assert found.total == psutil.virtual_memory().total
    assert 0 < found.available < found.total
    assert found.used == found.total - found.available
    groups.group("user.slice", memory__max="max", memory__current=5)
    assert groups.within("0::/user.slice\n").total == found.total


def test_a_limit_counts_and_files_that_can_go_are_free(groups: Groups) -> None:
    stat = f"anon {30 * MIB}\nfile {20 * MIB}\ninactive_file {15 * MIB}\nactive_file {5 * MIB}"
    groups.group("box", memory__max=100 * MIB, memory__current=50 * MIB, memory__stat=stat)
    assert groups.within("0::/box\n") == HostMemory(100 * MIB, 70 * MIB)


def test_the_tightest_limit_above_counts(groups: Groups) -> None:
    groups.group("a/b/c", memory__max="max", memory__current=MIB)
    groups.group("a/b", memory__max=80 * MIB, memory__current=10 * MIB)
    groups.group("a", memory__max=90 * MIB, memory__current=60 * MIB)
    assert groups.within("0::/a/b/c\n") == HostMemory(80 * MIB, 30 * MIB)


def test_in_a_container_the_group_is_the_root(groups: Groups) -> None:
    groups.group(".", memory__max=64 * MIB, memory__current=MIB)
    assert groups.within("0::/../../docker/abc\n").total == 64 * MIB


def test_the_older_kind_of_groups_is_read_too(groups: Groups) -> None:
    stat = f"total_cache {9 * MIB}\ntotal_inactive_file {4 * MIB}\ntotal_active_file {3 * MIB}"
    limits = {"memory__limit_in_bytes": 100 * MIB, "memory__usage_in_bytes": 27 * MIB, "memory__stat": stat}
    groups.group("memory/job", **limits)
    groups.group("memory", memory__limit_in_bytes=NO_LIMIT_V1, memory__usage_in_bytes=10**9)
    assert groups.within("5:cpu,cpuacct:/job\n4:hugetlb,memory:/job\n0::/\n") == HostMemory(100 * MIB, 80 * MIB)


def test_more_in_use_than_allowed_leaves_nothing(groups: Groups) -> None:
    groups.group("box", memory__max=10 * MIB, memory__current=11 * MIB)
    assert groups.within("0::/box\n").available == 0


@pytest.mark.parametrize("line", ["", "nonsense", "0:", "::", "0::/gone\n", "\x00"])
def test_what_cannot_be_read_is_no_limit(groups: Groups, line: str) -> None:
    assert groups.within(line).total == psutil.virtual_memory().total


def test_a_real_look() -> None:
    found = hostmemory.read()
    assert 0 < found.available <= found.total <= psutil.virtual_memory().total

"""A database's password in a topology: nothing that is shown to an operator, a client or a log has it."""

from pathlib import Path

import pytest
from attrs import evolve

from config import Topology, TopologyError, load
from config.diff import diff

URL = "postgresql://helexa:marked-password@db.example/helexa"


def with_database(url: str) -> Topology:
    topology = Topology()
    return evolve(topology, cortex=evolve(topology.cortex, database=url))


def test_an_edit_of_the_database_is_told_without_it() -> None:
    """Edits go to the log, to whoever may see `/fleet/events`, and to who runs `helexa plan`."""
    (line,) = diff(Topology(), with_database(URL)).lines()
    assert "cortex.database" in line
    assert "marked" not in line


@pytest.mark.parametrize("url", [URL.replace("postgresql", "postgres"), "mysql://u:marked@h/x", "marked", "marked\x07"])
def test_a_database_that_is_none_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    """The problems of an edit are shown in `/fleet`, and a wrong scheme is the usual mistake."""
    file = tmp_path / "topology.toml"
    file.write_text(f"[cortex]\ndatabase = {url!r}\n".replace("'", '"').replace("\\x07", "\\u0007"))
    with pytest.raises(TopologyError) as raised:
        load(file)
    assert "is not a database URL" in str(raised.value)
    assert "marked" not in str(raised.value)


def test_a_topology_that_is_shown_for_debugging_has_no_password() -> None:
    assert "marked" not in repr(with_database(URL))

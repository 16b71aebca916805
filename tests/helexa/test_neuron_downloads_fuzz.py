"""Downloads under faults in any order, and listings that say anything: what lies here is whole, or is not there."""

import hashlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hubs import Fault, Hub, Repository, serving_hub
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.neuron.sources.download import Wanted, download
from helexa.neuron.sources.listing import read_listing, split_parts
from helexa.neuron.sources.meter import Meter
from helexa.neuron.sources.registry import Registry
from helexa.neuron.sources.transfer import Patience
from helexa.wire.errors import ApiError

MODEL, FILE = "org/model", "model.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 600
KEY = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(attempts=2, first_wait=0.0)

places = st.integers(0, len(CONTENT))
faults = st.one_of(
    st.builds(Fault, cut_at=places),
    st.builds(Fault, cut_at=places, whole=st.just(True)),
    st.builds(Fault, short_at=places),
    st.builds(Fault, shift=st.sampled_from([-1, 1])),
    st.builds(Fault, extra=st.just(b"x")),
    st.builds(Fault, spoil=st.just(True), cut_at=st.none() | places),
    st.builds(Fault, status=st.sampled_from([404, 416, 418, 503])),
)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serving_hub() as hub:
        hub.repositories[MODEL] = Repository({FILE: CONTENT})
        yield hub


def tried(wanted: Wanted) -> str | None:
    """The code of what went wrong."""
    meter = Meter()
    try:
        found = download(wanted, meter, threading.Event(), PATIENCE)
    except ApiError as error:
        assert wanted.fetched() is None
        return error.code
    assert found.read_bytes() == CONTENT
    assert meter.progress.done == meter.progress.total == len(CONTENT)
    return None


@settings(max_examples=40)
@given(st.lists(faults, max_size=6), st.binary(max_size=20) | places.map(lambda size: CONTENT[:size]))
def test_after_any_faults_a_file_is_whole_or_absent_and_the_next_try_succeeds(
    hub: Hub, wrong: list[Fault], left: bytes
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        wanted = Wanted(Registry("the hub", hub.endpoint, Path(directory), None, "TOKEN"), MODEL, FILE)
        partial = wanted.cache.partial(KEY)
        partial.parent.mkdir(parents=True)
        partial.write_bytes(left)
        hub.faults[FILE] = list(wrong)
        assert tried(wanted) in {None, "download_failed", "checksum_mismatch"}
        hub.faults[FILE] = []
        assert wanted.fetched() or tried(wanted) is None
        assert {each.name for each in partial.parent.iterdir()} == {KEY}


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
names = st.text("ab./\\\0é", max_size=6) | json
large = st.none() | st.fixed_dictionaries({}, optional={"size": json, "sha256": json | st.just("0" * 64)})
files = st.fixed_dictionaries({"rfilename": names}, optional={"size": st.integers(-1, 9), "blobId": json, "lfs": large})
answers = json | st.fixed_dictionaries(
    {"sha": st.sampled_from(["c" * 40, "..", ""]) | json, "siblings": st.lists(files)}
)


@given(answers)
def test_whatever_a_registry_tells_leads_to_no_file_outside(answer: Any) -> None:
    try:
        found = read_listing(answer)
    except ValueError:
        return
    root = Path("/cache")
    assert (root / found.commit).resolve().parent == root
    for file in found.files:
        assert (root / file.name).resolve().is_relative_to(root)
        assert (root / file.name).resolve() != root
        assert (root / file.key).parent == root
        assert len(file.key) in {40, 64}
        assert file.size >= 0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("x.gguf", ("x.gguf",)),
        ("x-00001-of-00001.gguf", ("x-00001-of-00001.gguf",)),
        ("x-00002-of-00003.gguf", tuple(f"x-0000{n}-of-00003.gguf" for n in (1, 2, 3))),
        ("Q4/x-00001-of-00002.gguf", ("Q4/x-00001-of-00002.gguf", "Q4/x-00002-of-00002.gguf")),
        ("x-1-of-2.gguf", ("x-1-of-2.gguf",)),
        ("x-00003-of-00002.gguf", ("x-00003-of-00002.gguf",)),
        ("x-00000-of-00000.gguf", ("x-00000-of-00000.gguf",)),
    ],
)
def test_the_parts_of_a_gguf_file(name: str, parts: tuple[str, ...]) -> None:
    assert split_parts(name) == parts

"""What a publisher recommends, and what of it can be used."""

import json
from pathlib import Path

import pytest

from helexa.neuron.defaults import recommended
from helexa.wire.sampling import SamplingParams


def of(directory: Path, settings: object) -> SamplingParams:
    (directory / "generation_config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return recommended(str(directory))


def test_recommended_parameters_are_taken(tmp_path: Path) -> None:
    found = of(tmp_path, {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.01, "eos_token_id": 3})
    assert found == SamplingParams(temperature=0.6, top_p=0.95, top_k=20, min_p=0.01)


def test_greedy_decoding_is_recommended_only_where_it_is_written_down(tmp_path: Path) -> None:
    assert of(tmp_path, {"do_sample": False, "temperature": 0.6}).temperature == 0
    assert of(tmp_path, {"do_sample": True}).temperature == 1
    assert of(tmp_path, {}).temperature == 1


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "{",
        "[]",
        "null",
        {"temperature": None, "top_p": "0.9", "top_k": [], "min_p": True},
        {"temperature": -1, "top_p": 0, "top_k": -1, "min_p": 2},
        '{"temperature": NaN, "top_p": Infinity}',
    ],
)
def test_what_makes_no_sense_recommends_nothing(tmp_path: Path, settings: object) -> None:
    assert of(tmp_path, settings) == SamplingParams()


def test_without_the_file_nothing_is_recommended(tmp_path: Path) -> None:
    assert recommended(str(tmp_path)) == SamplingParams()

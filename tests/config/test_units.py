"""Sizes and durations read as people write them, and back exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import (
    NEVER,
    Duration,
    InvalidValueError,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512MiB", 512 * 2**20),
        ("24GiB", 24 * 2**30),
        ("24 GiB", 24 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("2TB", 2 * 10**12),
        ("1.1KiB", 1126),
    ],
)
def test_reads_a_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "24", "GiB", "24gb", "24G", "-1GB", "1,5GB", "24GiB ", "٣GB", 24, None, "1e3B"])
def test_refuses_what_is_no_size(text: object) -> None:
    with pytest.raises(InvalidValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("15m", 900.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        ("1.5h", 5400.0),
        ("0s", 0.0),
        ("1s100ms", 1.1),
        ("never", math.inf),
    ],
)
def test_reads_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "15", "m", "30m1h", "1h 30m", "-2s", "2sec", "1m1m", "Never", "inf", "nan", 15, 1.5]
)
def test_refuses_what_is_no_duration(text: object) -> None:
    with pytest.raises(InvalidValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("parse", "unit"), [(parse_size, "B"), (parse_duration, "s")])
def test_refuses_numbers_of_absurd_length(parse: object, unit: str) -> None:
    assert callable(parse)
    with pytest.raises(InvalidValueError, match="too many digits"):
        parse("9" * 5000 + unit)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (24 * 2**30, "24GiB"), (1_500_000_000, "1500MB"), (1000, "1KB"), (1023, "1023B")]
)
def test_writes_a_size_in_the_unit_that_keeps_it_short(size: int, text: str) -> None:
    assert format_size(Size(size)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.5, "500ms"), (5400.0, "1h30m"), (604800.0, "7d"), (1e-7, "0.0000001s"), (math.inf, "never")],
)
def test_writes_a_duration_in_whole_units(seconds: float, text: str) -> None:
    assert format_duration(Duration(seconds)) == text


@given(st.integers(0, 2**70))
def test_every_size_survives_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(Size(size))) == size


@given(st.floats(0, allow_infinity=True) | st.integers(0, 10**10).map(lambda ms: ms / 1000))
def test_every_duration_survives_writing_and_reading(seconds: float) -> None:
    assert parse_duration(format_duration(Duration(seconds))) == seconds


def test_never_is_longer_than_anything() -> None:
    assert Duration(1e308) < NEVER


def test_negative_amounts_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        format_size(Size(-1))
    for seconds in (-1.0, math.nan):
        with pytest.raises(ValueError, match="a duration cannot be"):
            format_duration(Duration(seconds))

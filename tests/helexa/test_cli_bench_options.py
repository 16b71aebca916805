"""What is typed at `helexa bench`: read, refused in a sentence, and nothing secret repeated."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operators import run_with, told
from typer import BadParameter

from helexa.cli.app import app
from helexa.cli.bench import options


def test_a_target_has_a_name_and_the_base_of_its_url() -> None:
    for text in ("http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"):
        assert options.server(f"vllm={text}") == options.Server("vllm", "http://h:8000")
    assert options.server("a=https://h/sub/v1").url == "https://h/sub"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://h:8000", "write NAME=URL"),
        ("=http://h", "write NAME=URL"),
        ("a=", "write NAME=URL"),
        ("a b=http://h", "'a b' is not a name"),
        ("a=ftp://h", "not an http or https URL"),
        ("a=http://h?key=hunter2", "not an http or https URL"),
        ("a=http://me:hunter2@h", "not an http or https URL"),
    ],
)
def test_a_target_that_cannot_be_one_is_refused_without_its_password(text: str, said: str) -> None:
    with pytest.raises(BadParameter) as refused:
        options.server(text)
    assert said in str(refused.value).replace('"', "'")
    assert "hunter2" not in str(refused.value)


def test_a_key_is_named_by_its_variable_and_never_given() -> None:
    assert options.key_of("vllm=VLLM_KEY") == ("vllm", "VLLM_KEY")
    for text in ("vllm", "vllm=sk-hunter2", "=KEY", "vllm="):
        with pytest.raises(BadParameter) as refused:
            options.key_of(text)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["last", "previous", "none", "", " a", "a\nb", "x" * 101])
def test_a_label_is_no_word_that_means_another_batch_and_one_line(text: str) -> None:
    with pytest.raises(BadParameter):
        options.label(text)


def test_a_label_is_kept_as_it_is() -> None:
    assert options.label("new kernels, n°2") == "new kernels, n°2"


@given(st.floats(0, 0.999))
def test_a_size_is_a_fraction_or_a_percentage(size: float) -> None:
    assert options.fraction(repr(size)) == size
    assert options.fraction(f"{size * 100!r}%") == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "%", "five", "-1%", "100%", "1", "nan", "inf", "5 %%"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        options.fraction(text)


def test_a_time_ago_is_a_unix_time() -> None:
    assert options.ago("1h") == pytest.approx(time.time() - 3600, abs=5)
    assert options.ago("never") == float("-inf")
    with pytest.raises(BadParameter):
        options.ago("yesterday")


@given(st.lists(st.sampled_from("abc")))
def test_the_first_name_that_comes_again_is_found(names: list[str]) -> None:
    expected = next((name for index, name in enumerate(names) if name in names[:index]), None)
    assert options.twice(names) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--target", "x"), "write NAME=URL"),
        (("run", "--rounds", "0"), "greater than or equal to 1"),
        (("run", "--rounds", "many"), "should be a valid integer"),
        (("run", "--suite", "huge"), "'huge' is not one of"),
        (("run", "--scenario", "nothing"), "nothing"),
        (("run", "--scenario", "chat:nothing=1"), "nothing"),
        (("run", "--label", "last"), "means a batch already"),
        (("run", "--name", "a b"), "is not a name"),
        (("compare", "a"), "Missing argument"),
        (("compare", "a", "b", "--smallest", "x"), "is not a size"),
        (("report", "--format", "pdf"), "'pdf' is not one of"),
        (("report", "--since", "yesterday"), "is not a duration"),
        (("import",), "Missing argument"),
        (("nothing",), "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_two_and_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run_with(app, "bench", *arguments)
    assert (code, out) == (2, "")
    assert said in told(err)


def test_help_names_every_command() -> None:
    code, out, _ = run_with(app, "bench", "--help")
    assert code == 0
    for name in ("run", "compare", "report", "runs", "export", "import", "scenarios", "serve"):
        assert f" {name} " in out

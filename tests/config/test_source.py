"""What a source may say, alone and together with an id; each mistake is an error of its own."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.source import (
    FileNameError,
    InvalidSourceError,
    LocalPath,
    RelativePathError,
    Repository,
    RepositoryNameError,
    SchemeConflictError,
    Source,
    UnknownSchemeError,
    UnprintableSourceError,
    is_qualified,
    parse_source,
    source_of,
)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("huggingface", Repository("huggingface")),
        ("helexa", Repository("helexa")),
        ("huggingface:Qwen/Qwen3-8B", Repository("huggingface", "Qwen/Qwen3-8B")),
        ("helexa:a/b.c_d-e", Repository("helexa", "a/b.c_d-e")),
        ("huggingface:_a/b_", Repository("huggingface", "_a/b_")),
        ("huggingface:a/b/x.gguf", Repository("huggingface", "a/b", "x.gguf")),
        ("huggingface:a/b/Q4_K_M/x y.gguf", Repository("huggingface", "a/b", "Q4_K_M/x y.gguf")),
        ("path:/srv/models/mine", LocalPath("/srv/models/mine")),
        ("path:/x.gguf", LocalPath("/x.gguf")),
        ("path:~/models", LocalPath("~/models")),
        ("path:/with:colon", LocalPath("/with:colon")),
    ],
)
def test_a_source(text: str, source: Source) -> None:
    assert parse_source(text) == source
    assert source.scheme == text.partition(":")[0]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", UnknownSchemeError),
        ("s3://bucket", UnknownSchemeError),
        ("Huggingface", UnknownSchemeError),
        (" huggingface", UnknownSchemeError),
        ("path", UnknownSchemeError),
        ("org/name", UnknownSchemeError),
        (":a/b", UnknownSchemeError),
        ("path:", RelativePathError),
        ("path:models", RelativePathError),
        ("path:./models", RelativePathError),
        ("path:/a\0b", UnprintableSourceError),
        ("path:/a\nb", UnprintableSourceError),
        ("path:/" + "x" * 5000, UnprintableSourceError),
        ("huggingface:", RepositoryNameError),
        ("huggingface:name", RepositoryNameError),
        ("huggingface:a/", RepositoryNameError),
        ("huggingface:/b", RepositoryNameError),
        ("huggingface:a//b", RepositoryNameError),
        ("huggingface:../b", RepositoryNameError),
        ("huggingface:a/..", RepositoryNameError),
        ("huggingface:a/b--c", RepositoryNameError),
        ("huggingface:a/b..c", RepositoryNameError),
        ("huggingface:a/-b", RepositoryNameError),
        ("huggingface:a/b.", RepositoryNameError),
        ("huggingface:a/b.git", RepositoryNameError),
        ("huggingface:a/b c", RepositoryNameError),
        ("huggingface:a/b?x", RepositoryNameError),
        ("huggingface:a/b@main", RepositoryNameError),
        ("huggingface:ä/b", RepositoryNameError),
        ("huggingface:huggingface:a/b", RepositoryNameError),
        ("huggingface:a/" + "b" * 95, RepositoryNameError),
        ("huggingface:x.gguf", RepositoryNameError),
        ("huggingface:a/x.gguf", FileNameError),
        ("huggingface:a/b/", FileNameError),
        ("huggingface:a/b/c", FileNameError),
        ("huggingface:a/b/.gguf", FileNameError),
        ("huggingface:a/b/../x.gguf", FileNameError),
        ("huggingface:a/b//x.gguf", FileNameError),
        ("huggingface:a/b/x.GGUF", FileNameError),
        ("huggingface:a/b/x\\y.gguf", FileNameError),
        ("huggingface:a/b/x?y.gguf", FileNameError),
        ("huggingface:a/b/model.safetensors", FileNameError),
    ],
)
def test_each_mistake_has_its_error(text: str, mistake: type[InvalidSourceError]) -> None:
    with pytest.raises(mistake) as caught:
        parse_source(text)
    assert type(caught.value) is mistake
    assert caught.value.hint in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("model", "source", "found"),
    [
        ("Qwen/Qwen3-8B", "huggingface", Repository("huggingface", "Qwen/Qwen3-8B")),
        ("gpt2", "huggingface", Repository("huggingface", "gpt2")),
        ("a/b/x.gguf", "huggingface", Repository("huggingface", "a/b", "x.gguf")),
        ("mine", "huggingface:a/b", Repository("huggingface", "a/b")),
        ("mine", "path:/m", LocalPath("/m")),
        ("huggingface:a/b", "huggingface", Repository("huggingface", "a/b")),
        ("huggingface:a/b", None, Repository("huggingface", "a/b")),
        ("helexa:a/b", None, Repository("helexa", "a/b")),
        ("path:/m", None, LocalPath("/m")),
        ("huggingface:a/b", "path:/m", LocalPath("/m")),
        ("a/b", None, None),
        ("huggingface", None, None),
        ("ollama:a/b", None, None),
    ],
)
def test_an_id_and_a_source_together(model: str, source: str | None, found: Source | None) -> None:
    assert source_of(model, source) == found
    assert (source is None and found is None) or is_qualified(model) or source is not None


@pytest.mark.parametrize(
    ("model", "source", "mistake"),
    [
        ("helexa:a/b", "huggingface", SchemeConflictError),
        ("path:/m", "huggingface", SchemeConflictError),
        ("a/b/c", "huggingface", FileNameError),
        ("a/b/c\0.gguf", "huggingface", FileNameError),
        ("a b", "huggingface", RepositoryNameError),
        ("name:tag", "huggingface", RepositoryNameError),
        ("huggingface:a", None, RepositoryNameError),
        ("a/b", "s3", UnknownSchemeError),
    ],
)
def test_an_id_and_a_source_that_do_not_go_together(
    model: str, source: str | None, mistake: type[InvalidSourceError]
) -> None:
    with pytest.raises(mistake) as caught:
        source_of(model, source)
    assert caught.value.text in {model, source}


@given(st.text() | st.from_regex(r"\A(huggingface|helexa|path):[A-Za-z0-9./_-]*\Z"))
def test_whatever_is_written_is_read_or_refused_and_leads_nowhere_else(text: str) -> None:
    with suppress(InvalidSourceError):
        check_found(text, parse_source(text))


def check_found(text: str, found: Source) -> None:
    if isinstance(found, Repository):
        parts = f"{found.name}/{found.file or 'x'}".split("/")
        assert not {"", ".", ".."} & set(parts)
        assert text == ":".join(filter(None, (found.scheme, "/".join(filter(None, (found.name, found.file))))))
    else:
        assert found.path.startswith(("/", "~"))

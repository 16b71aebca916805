"""Tokenizers out of GGUF files tokenize as those that they were made of."""

from pathlib import Path
from typing import Any

import pytest
from checkpoints import make_tokenizer
from gguf_files import file_bytes, header_of
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from helexa.gguf import GgufError
from helexa.gguf_tokenizer import tokenizer_directory, write_tokenizer
from helexa.text import ChatTokenizer

TEXTS = [
    "Hello world, how are you?",
    "<|im_start|>user\nI'll say 12345 things\r\n\n  and MORE'S<|im_end|>",
    "Ünïcödé, e\u0301 and e, 日本語 🦊 \t tabs",
    "",
]


def test_a_tokenizer_tokenizes_as_it_did(tmp_path: Path) -> None:
    original = make_tokenizer()
    write_tokenizer(header_of(original), tmp_path)
    found = ChatTokenizer.load(tmp_path)
    for text in TEXTS:
        assert found._tokenizer.encode(text) == original.encode(text)
    assert found.eos_ids == {original.eos_token_id}
    assert found.has_chat_template


@pytest.mark.parametrize(("cut", "digits"), [("qwen2", r"\p{N}"), ("llama-bpe", r"\p{N}{1,3}")])
def test_texts_are_cut_as_the_named_model_does(cut: str, digits: str, tmp_path: Path) -> None:
    original = make_tokenizer()
    backend = original.backend_tokenizer
    words = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    rest = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words + rest), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    if cut == "qwen2":
        backend.normalizer = normalizers.NFC()
    write_tokenizer(header_of(original, pre=cut), tmp_path)
    found = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert found.encode(text).ids == backend.encode(text).ids
        assert found.pre_tokenizer.pre_tokenize_str(text) == backend.pre_tokenizer.pre_tokenize_str(text)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"model": "llama"}, "it has a tokenizer of the kind 'llama'; put the model's tokenizer.json beside it"),
        ({"model": None}, "it has no tokenizer; put the model's tokenizer.json beside it"),
        ({"tokens": None}, "its tokenizer has no tokens"),
        ({"tokens": [1, 2]}, "its tokenizer has no tokens"),
        (
            {"pre": "tekken"},
            "its texts are cut as 'tekken' does, and known are qwen2, llama-bpe, llama3, gpt-2, default",
        ),
        ({"merges": ["ab"]}, "its tokenizer cannot be read: its tokenizer merges"),
        ({"merges": ["never heard"]}, "its tokenizer cannot be read: "),
    ],
)
def test_a_tokenizer_that_is_not_known_here(more: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=problem):
        write_tokenizer(header_of(make_tokenizer(), **more), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_beside_a_file_is_found(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_directory(tmp_path / "m.gguf") == tmp_path


def test_a_tokenizer_in_a_file_is_written_once_and_anew_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, original = tmp_path / "m.gguf", make_tokenizer()
    file.write_bytes(file_bytes(header_of(original).metadata, {}))
    directory = tokenizer_directory(file)
    assert ChatTokenizer.load(directory)._tokenizer.encode(TEXTS[0]) == original.encode(TEXTS[0])
    (directory / "mark").touch()
    assert tokenizer_directory(file) == directory
    assert (directory / "mark").exists(), "it was not written again"
    file.write_bytes(file.read_bytes() + b" ")
    other = tokenizer_directory(file)
    assert other != directory
    assert sorted(directory.parent.iterdir()) == sorted([directory, other]), "nothing half made is left"


def test_nothing_is_left_of_a_tokenizer_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(file_bytes(header_of(make_tokenizer(), pre="tekken").metadata, {}))
    with pytest.raises(GgufError, match="tekken"):
        tokenizer_directory(tmp_path / "m.gguf")
    assert list((tmp_path / "cache" / "helexa" / "tokenizers").iterdir()) == []

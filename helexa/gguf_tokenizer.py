"""The tokenizer that a GGUF file brings with it, as the files that all else reads tokenizers from.

Byte-level BPE, as nearly all models of today have it. What a file does not say is how a text is cut before pairs are
merged: it names a model instead (``tokenizer.ggml.pre``), whose rule is known here or not. Older Llamas with
SentencePiece are refused: what their files keep of it is not all of it. Source: the GGUF specification, "Tokenizer",
and the ``tokenizer.json`` of the models named.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from helexa.gguf import GgufError, Header, read_header

_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CUTS: Final = {"qwen2": _WORDS % "", "llama-bpe": _WORDS % "{1,3}", "llama3": _WORDS % "{1,3}"}
_AS_GPT2: Final = ("gpt-2", "default")
_COMPOSED: Final = ("qwen2",)
"""Those that bring a text to its composed form first (NFC)."""
_WHOLE_FIRST: Final = ("llama-bpe", "llama3")
"""Those that take a word that is a token as it is, without merging."""
_CONTROL, _USER_DEFINED = 3, 4
_KEY: Final = "tokenizer.ggml"
_FILES: Final = ("tokenizer.json", "tokenizer_config.json")


def tokenizer_directory(path: Path) -> Path:
    """Where the tokenizer of a GGUF file is: beside it, or else in helexa's cache, written there from the file.

    Raises:
        GgufError: it has none, or one that is not known here.
        OSError: the cache cannot be written.
    """
    if (path.parent / _FILES[0]).is_file():
        return path.parent
    found = path.resolve().stat()
    name = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    directory = _cache() / sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
    if not directory.is_dir():
        _write_whole(read_header(path), directory)
    return directory


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "helexa" / "tokenizers"


def _write_whole(header: Header, directory: Path) -> None:
    """All of it or nothing: another process may want the same at the same time."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory.parent) as beside:
        made = Path(beside) / "made"
        made.mkdir()
        write_tokenizer(header, made)
        try:
            made.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise


def write_tokenizer(header: Header, directory: Path) -> None:
    """Write the tokenizer of a GGUF file into a directory that is there.

    Raises:
        GgufError: the file has none, or one whose rules are not known here.
        OSError: it cannot be written.
    """
    tokens = _tokens(header)
    (directory / _FILES[0]).write_text(_tokenizer(header, tokens).to_str(), encoding="utf-8")
    (directory / _FILES[1]).write_text(json.dumps(_config(header, tokens), ensure_ascii=False), encoding="utf-8")


def _tokens(header: Header) -> list[str]:
    if (kind := header.metadata.get(f"{_KEY}.model")) != "gpt2":
        named = "no tokenizer" if kind is None else f"a tokenizer of the kind '{kind}'"
        raise GgufError(f"it has {named}; put the model's tokenizer.json beside it")
    tokens = header.metadata.get(f"{_KEY}.tokens")
    if not isinstance(tokens, list) or not all(isinstance(each, str) for each in tokens):
        raise GgufError("its tokenizer has no tokens; put the model's tokenizer.json beside it")
    return tokens


def _tokenizer(header: Header, tokens: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    cut = header.metadata.get(f"{_KEY}.pre", "default")
    merges = [tuple(str(each).split(" ", 1)) for each in header.metadata.get(f"{_KEY}.merges", [])]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        found = Tokenizer(BPE(vocab=vocabulary, merges=_pairs(merges), ignore_merges=cut in _WHOLE_FIRST))
    except Exception as error:  # tokenizers has no other
        raise GgufError(f"its tokenizer cannot be read: {error}") from error
    found.pre_tokenizer, found.decoder = _pre_tokenizer(cut), decoders.ByteLevel()
    if cut in _COMPOSED:
        found.normalizer = normalizers.NFC()
    kinds = header.metadata.get(f"{_KEY}.token_type", [])
    for token, kind in zip(tokens, kinds, strict=False):
        if kind in (_CONTROL, _USER_DEFINED):
            found.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False)])
    return found


def _pairs(merges: list[tuple[str, ...]]) -> list[tuple[str, str]]:
    if wrong := [merge for merge in merges if len(merge) != len(("left", "right"))]:
        raise GgufError(f"its tokenizer merges {wrong[0]}; pairs are expected")
    return [(left, right) for left, right in merges]


def _pre_tokenizer(cut: str) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    if cut in _AS_GPT2:
        return ByteLevel(add_prefix_space=False)
    if (words := _CUTS.get(cut)) is None:
        known = ", ".join((*_CUTS, *_AS_GPT2))
        raise GgufError(f"its texts are cut as '{cut}' does, and known are {known}; put its tokenizer.json beside it")
    return Sequence([Split(Regex(words), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _config(header: Header, tokens: list[str]) -> dict[str, Any]:
    """What transformers wants to know beyond the tokenizer."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in ("bos", "eos"):
        number = header.metadata.get(f"{_KEY}.{name}_token_id")
        if type(number) is int and 0 <= number < len(tokens):
            config[f"{name}_token"] = tokens[number]
    if isinstance(template := header.metadata.get("tokenizer.chat_template"), str):
        config["chat_template"] = template
    return config

"""Messages to token ids and back, with small tokenizers trained here."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizer_files import BUILDERS, byte_level, chat_in, save
from tokenizers import AddedToken, Tokenizer

from helexa.text import ChatTokenizer, IncrementalDetokenizer, TextError, TokenizerError


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ChatTokenizer, Tokenizer]]:
    """Each kind of tokenizer as loaded from disk, beside the library's own."""
    root = tmp_path_factory.mktemp("tokenizers")
    built = {name: build() for name, build in BUILDERS.items()}
    return {name: (ChatTokenizer.load(save(raw, root / name)), raw) for name, raw in built.items()}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """A tokenizer of bytes that transformers runs in Python."""
    from transformers import ByT5Tokenizer

    path = tmp_path_factory.mktemp("slow")
    ByT5Tokenizer().save_pretrained(path)
    return ChatTokenizer.load(path)


@pytest.fixture
def chat(tmp_path: Path) -> ChatTokenizer:
    return chat_in(tmp_path / "model")


def stream(detokenizer: IncrementalDetokenizer, ids: list[int], cuts: list[int]) -> str:
    bounds = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    return "".join([detokenizer.push(ids[a:b]) for a, b in pairwise(bounds)]) + detokenizer.finish()


def valid_bytes(tokenizer: Tokenizer, ids: list[int]) -> bool:
    """Whether no byte is wrong: the library prints whole runs of byte-fallback tokens as U+FFFD if one is."""
    return "\ufffd" not in tokenizer.decode(ids)


CUTS = st.lists(st.integers(0, 40), max_size=6)


@pytest.mark.parametrize("kind", BUILDERS)
@given(numbers=st.lists(st.integers(0, 10_000), max_size=40), cuts=CUTS)
def test_streamed_ids_give_the_full_decode(
    loaded: dict[str, tuple[ChatTokenizer, Tokenizer]], kind: str, numbers: list[int], cuts: list[int]
) -> None:
    chat, raw = loaded[kind]
    ids = [number % (raw.get_vocab_size() + 3) for number in numbers]  # three ids beyond the vocabulary
    text = stream(chat.decode_stream(), ids, cuts)
    assert text == stream(chat.decode_stream(), ids, list(range(len(ids))))
    if kind != "byte fallback" or valid_bytes(raw, ids):
        assert text == raw.decode(ids)


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
@given(text=st.text(max_size=30), cuts=CUTS)
@example(text=" 你好 👨‍👩‍👧 é\n", cuts=[3])
def test_streamed_text_survives_and_shows_no_replacement_character(
    loaded: dict[str, tuple[ChatTokenizer, Tokenizer]], kind: str, text: str, cuts: list[int]
) -> None:
    chat, raw = loaded[kind]
    text = text.replace("\ufffd", "").replace("▁", "")
    ids = chat.encode(text)
    assert stream(chat.decode_stream(), ids, cuts) == raw.decode(ids)
    detokenizer = chat.decode_stream()
    assert "\ufffd" not in "".join(detokenizer.push([token_id]) for token_id in ids)


def token_ids(raw: Tokenizer, *tokens: str) -> list[int]:
    return [raw.get_vocab()[token] for token in tokens]


def byte_ids(raw: Tokenizer, data: bytes) -> list[int]:
    return token_ids(raw, *(f"<0x{byte:02X}>" for byte in data))


def test_byte_fallback_shows_each_character_as_it_completes(loaded: dict[str, tuple[ChatTokenizer, Tokenizer]]) -> None:
    chat, raw = loaded["byte fallback"]
    detokenizer = chat.decode_stream()
    assert [detokenizer.push([i]) for i in byte_ids(raw, "你é".encode())] == ["", "", "你", "", "é"]


def test_byte_fallback_replaces_only_what_is_wrong(loaded: dict[str, tuple[ChatTokenizer, Tokenizer]]) -> None:
    chat, raw = loaded["byte fallback"]
    ids = [*byte_ids(raw, "你".encode() + b"\xe4\xbd"), *token_ids(raw, "▁world")]
    detokenizer = chat.decode_stream()
    assert [detokenizer.push([i]) for i in ids] == ["", "", "你", "", "", "\ufffd world"]


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_an_unfinished_character_is_replaced_at_the_end_only(
    loaded: dict[str, tuple[ChatTokenizer, Tokenizer]], kind: str
) -> None:
    chat, raw = loaded[kind]
    ids = chat.encode("🦊")[:-1] if kind == "byte level" else byte_ids(raw, "🦊".encode()[:3])
    detokenizer = chat.decode_stream()
    assert [detokenizer.push([i]) for i in ids] == [""] * len(ids)
    assert (detokenizer.finish(), detokenizer.finish()) == ("\ufffd", "")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), cuts=CUTS)
@example(text="a 你好 😀", cuts=[])
def test_a_tokenizer_without_the_fast_library_streams_too(slow: ChatTokenizer, text: str, cuts: list[int]) -> None:
    ids = slow.encode(text)
    assert stream(slow.decode_stream(), ids, cuts) == text


def test_special_tokens_do_not_eat_the_space_after_them(loaded: dict[str, tuple[ChatTokenizer, Tokenizer]]) -> None:
    chat, raw = loaded["byte fallback"]
    ids = token_ids(raw, "<s>", "▁Hello", "</s>", "<s>", "▁world")
    detokenizer = chat.decode_stream()
    assert [detokenizer.push([i]) for i in ids] == ["", "Hello", "", "", " world"]


def test_added_tokens_that_are_not_special_stay_and_are_literal(tmp_path: Path) -> None:
    raw = byte_level()
    raw.add_tokens([AddedToken("é→", special=False, normalized=False)])
    chat = ChatTokenizer.load(save(raw, tmp_path))
    ids = chat.encode("<think>a<|im_end|><tool_call><| a b |>é→")
    assert stream(chat.decode_stream(), ids, [1, 2]) == "<think>a<tool_call><| a b |>é→"


@pytest.mark.parametrize("kind", BUILDERS)
def test_decoding_a_token_costs_the_same_late_in_a_stream(
    loaded: dict[str, tuple[ChatTokenizer, Tokenizer]], kind: str
) -> None:
    from attrs import evolve

    chat, raw = loaded[kind]
    sizes: list[int] = []

    def decode(ids: list[int]) -> str:
        sizes.append(len(ids))
        return str(raw.decode(ids, skip_special_tokens=False))

    watched = evolve(chat, vocabulary=evolve(chat._vocabulary, decode=decode))
    detokenizer = watched.decode_stream()
    for token_id in list(range(raw.get_vocab_size())) * 2:
        detokenizer.push([token_id])
    assert max(sizes, default=0) <= 5
    assert len(sizes) <= 3 * 2 * raw.get_vocab_size()


def test_prompt_ids_have_a_bos_token_exactly_if_the_template_writes_one(chat: ChatTokenizer) -> None:
    messages = [{"role": "user", "content": "hi"}]
    bos = chat.encode("<|endoftext|>")
    assert len(bos) == 1
    assert chat.prompt_ids(messages, template_kwargs={"use_bos": True}) == [*bos, *chat.prompt_ids(messages)]


def test_encode_adds_special_tokens_only_when_asked(tmp_path: Path) -> None:
    raw = byte_level()
    from tokenizers import processors

    raw.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    chat = ChatTokenizer.load(save(raw, tmp_path))
    assert chat.encode("hi", add_special_tokens=True) == [0, *chat.encode("hi")]


def test_truncation_left_over_from_training_is_dropped(tmp_path: Path) -> None:
    raw = byte_level()
    raw.enable_truncation(4)
    raw.enable_padding(length=8)
    chat = ChatTokenizer.load(save(raw, tmp_path))
    assert len(chat.encode("a" * 3)) == 3
    assert len(chat.encode("zq" * 50)) > 4


def test_half_a_surrogate_pair_is_refused(chat: ChatTokenizer) -> None:
    with pytest.raises(TextError, match="half a surrogate pair at character 1"):
        chat.encode("a\ud800")


@pytest.mark.parametrize(
    ("file", "declared", "extra"),
    [
        ("generation_config.json", 0, {0}),
        ("generation_config.json", [0, 1], {0, 1}),
        ("generation_config.json", None, set()),
        ("config.json", [0], {0}),
    ],
)
def test_eos_ids_join_the_tokenizer_and_the_generation_settings(
    tmp_path: Path, file: str, declared: object, extra: set[int]
) -> None:
    path = save(byte_level(), tmp_path, eos_token="<|im_end|>")
    (path / file).write_text(json.dumps({"eos_token_id": declared, "model_type": "qwen3"}))
    chat = ChatTokenizer.load(path)
    assert chat.eos_ids == {2} | extra
    assert chat.eos_ids <= chat.special_ids


@pytest.mark.parametrize("text", ['{"eos_token_id": "x"}', '{"eos_token_id": [true]}', "{"])
def test_unreadable_generation_settings_are_refused(tmp_path: Path, text: str) -> None:
    path = save(byte_level(), tmp_path)
    (path / "generation_config.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"generation_config\.json (is not|has eos_token_id)"):
        ChatTokenizer.load(path)


def test_a_path_that_is_no_directory_is_refused_without_asking_the_network(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="is not a directory"):
        ChatTokenizer.load("gpt2")
    with pytest.raises(TokenizerError, match="No tokenizer could be loaded"):
        ChatTokenizer.load(tmp_path)


def test_code_in_a_model_directory_never_runs(tmp_path: Path) -> None:
    model = tmp_path / "model"
    marker = tmp_path / "ran"
    save(byte_level(), model, tokenizer_class="Custom", auto_map={"AutoTokenizer": [None, "code.Custom"]})
    (model / "code.py").write_text(f"open({str(marker)!r}, 'w')")
    (model / "config.json").write_text(json.dumps({"model_type": "custom", "auto_map": {"AutoConfig": "code.Config"}}))
    with pytest.raises(TokenizerError, match="custom code"):
        ChatTokenizer.load(model)
    assert not marker.exists()


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_the_package_imports_neither_torch_nor_transformers() -> None:
    assert python("import sys, helexa.text; print({'torch', 'transformers'} & set(sys.modules))") == "set()\n"


def test_a_process_that_forgoes_torch_loads_and_renders_without_it(chat: ChatTokenizer) -> None:
    path = chat._tokenizer.name_or_path
    code = f"""
import sys
from helexa.text import ChatTokenizer, forgo_torch
forgo_torch()
chat = ChatTokenizer.load({path!r})
print(chat.prompt_ids([dict(role="user", content="hi")]), sys.modules["torch"])
"""
    assert python(code) == f"{chat.prompt_ids([{'role': 'user', 'content': 'hi'}])} None\n"


def test_torch_cannot_be_forgone_once_it_is_imported() -> None:
    code = """
import sys, types
from helexa.text import forgo_torch
sys.modules["torch"] = types.ModuleType("torch")
try:
    forgo_torch()
except RuntimeError as error:
    print(error)
"""
    assert "already imported" in python(code)

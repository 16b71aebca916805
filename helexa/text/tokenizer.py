"""From messages or text to token ids, and back, for one model directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from attrs import frozen

from helexa.text.detokenize import IncrementalDetokenizer, detokenizer
from helexa.text.errors import TextError, TokenizerError
from helexa.text.template import ChatTemplate
from helexa.text.vocabulary import Vocabulary

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


@frozen(eq=False, repr=False)
class ChatTokenizer:
    """The tokenizer and chat template of one model. Stateless after loading; safe to use from several threads.

    Attributes:
        eos_ids: Token ids that end a generation: the tokenizer's and those of the generation configuration.
    """

    _tokenizer: Any  # a transformers tokenizer, which has no usable types
    _template: ChatTemplate
    _vocabulary: Vocabulary
    eos_ids: frozenset[int]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load from a model directory. Reads files only: no network, and no code that the directory may contain.

        Raises:
            TokenizerError: The directory does not exist or holds no usable tokenizer.
        """
        directory = Path(path)
        if not directory.is_dir():
            # Checked here because transformers would take the name for one on the Hub and go online.
            raise TokenizerError(f"{directory} is not a directory; a tokenizer is loaded from a model directory.")
        tokenizer = _load(directory)
        _untruncate(tokenizer)
        return cls(tokenizer, ChatTemplate.of(tokenizer), Vocabulary.of(tokenizer), _eos_ids(tokenizer, directory))

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, which are never shown in text."""
        return self._vocabulary.skipped

    @property
    def vocab_size(self) -> int:
        """Number of ids the tokenizer knows, added tokens included; a model's output may be padded beyond it."""
        return len(self._tokenizer)

    @property
    def has_chat_template(self) -> bool:
        """Whether messages can be rendered at all."""
        return self._template.exists

    @property
    def supports_tools(self) -> bool:
        """Whether the chat template shows tools to the model."""
        return self._template.tools

    @property
    def supports_thinking(self) -> bool:
        """Whether the chat template speaks of `<think>` blocks."""
        return self._template.thinking

    def render(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt that the chat template makes of messages, special tokens (BOS too) written out.

        Args:
            messages: OpenAI chat messages.
            tools: OpenAI tool definitions.
            add_generation_prompt: End with the header of the assistant's answer.
            template_kwargs: Further template variables, such as `enable_thinking`.

        Raises:
            TemplateError: There is no template, or it does not accept this input.
        """
        return self._template.render(
            messages, tools, template_kwargs or {}, add_generation_prompt=add_generation_prompt
        )

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return token ids; special tokens written in the text are recognised, none are added unless asked for.

        Raises:
            TextError: The text is not valid Unicode.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(
                f"The text has half a surrogate pair at character {error.start}; send whole ones."
            ) from error
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))
        # The backend directly: the wrapper resets its truncation on each call, which two threads must not do at once.
        return list(backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def prompt_ids(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the token ids of `render(…)`; a BOS token is there exactly if the template writes one."""
        prompt = self.render(
            messages, tools=tools, add_generation_prompt=add_generation_prompt, template_kwargs=template_kwargs
        )
        return self.encode(prompt)

    def decode_stream(self) -> IncrementalDetokenizer:
        """Return a fresh stream from the token ids of one sequence to its text."""
        return detokenizer(self._vocabulary)


def _load(directory: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a broken file makes of two libraries, one of them in another language
        raise TokenizerError(f"No tokenizer could be loaded from {directory}: {error}") from error


def _untruncate(tokenizer: Any) -> None:
    """Drop truncation and padding that some tokenizer.json files carry over from training."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()


def _eos_ids(tokenizer: Any, directory: Path) -> frozenset[int]:
    generation = directory / "generation_config.json"
    # Without a generation configuration, the model's own stands in for it.
    declared = _declared_eos(generation if generation.is_file() else directory / "config.json")
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return frozenset([*own, *declared])


def _declared_eos(file: Path) -> list[int]:
    if not file.is_file():
        return []
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{file} is not a readable JSON file: {error}") from error
    value = settings.get("eos_token_id") if isinstance(settings, dict) else None
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(i) is int for i in ids):
        raise TokenizerError(f"{file} has eos_token_id = {value!r}; it has to be a token id or a list of them.")
    return ids

"""A model's chat template: rendering it in its sandbox, and finding out what it can do by trying it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

from attrs import frozen
from jinja2 import TemplateError as JinjaError

from helexa.text import sandbox
from helexa.text.errors import TemplateError
from helexa.text.messages import Message, normalise
from helexa.text.reasoning import ReasoningTags, reasoning_tags

# Everything an expression inside a template can raise through the sandbox.
_TEMPLATE_FAILURES = (
    JinjaError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
_PROBE = "helexa-probe"
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": _PROBE, "description": "", "parameters": {"type": "object", "properties": {}}},
}


@frozen(eq=False, repr=False)
class ChatTemplate:
    """The chat template of one loaded tokenizer and what it was seen to do.

    Attributes:
        exists: The model has a chat template at all.
        tools: Tools given to it appear in the prompt.
        reasoning: The tags of reasoning blocks, if it speaks of any or can be told whether to think.
        thinks: It leaves the model free to reason unless told not to, rather than the other way round.
        source: Its text, all variants of it.
    """

    _tokenizer: Any  # a transformers tokenizer, which has no usable types
    exists: bool = False
    tools: bool = False
    reasoning: ReasoningTags | None = None
    thinks: bool = False
    source: str = ""
    _content_as_parts: bool = False
    _developer_role: bool = False
    _arguments_as_text: bool = False

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Read and try the template of a transformers tokenizer."""
        sandbox.install()
        source = _source(tokenizer.chat_template)
        if not source:
            return cls(tokenizer)
        as_parts = _needs_parts(tokenizer)
        return cls(
            tokenizer,
            exists=True,
            tools=_PROBE in _try(tokenizer, _user("hello", as_parts=as_parts), [_PROBE_TOOL]),
            reasoning=reasoning_tags(source),
            thinks=_thinks(tokenizer, as_parts=as_parts),
            source=source,
            content_as_parts=as_parts,
            developer_role="developer" in source,
            arguments_as_text=_needs_argument_text(tokenizer, as_parts=as_parts),
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        """Return the prompt; `options` are further template variables, such as `enable_thinking`.

        Raises:
            TemplateError: There is no template, or it does not accept this input.
        """
        if not self.exists:
            raise TemplateError("This model has no chat template; send it a plain prompt instead of messages.")
        _refuse_reserved(self._tokenizer, options)
        chat = normalise(
            messages,
            content_as_parts=self._content_as_parts,
            developer_role=self._developer_role,
            arguments_as_text=self._arguments_as_text,
        )
        listed = [dict(tool) for tool in tools] if tools else None
        try:
            return _apply(self._tokenizer, chat, listed, add_generation_prompt=add_generation_prompt, **options)
        except sandbox.TemplateLimitError as error:
            raise TemplateError(f"The model's chat template cannot be used with these messages: {error}.") from error
        except _TEMPLATE_FAILURES as error:
            raise TemplateError(f"The model's chat template rejects these messages: {_reason(error)}") from error


def _apply(tokenizer: Any, chat: list[Message], tools: list[Message] | None, **options: Any) -> str:
    with sandbox.limited():
        text: str = tokenizer.apply_chat_template(chat, tools=tools, tokenize=False, **options)
        return text


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _refuse_reserved(tokenizer: Any, options: Mapping[str, Any]) -> None:
    """Keep clients from setting the renderer's own parameters: `chat_template` alone would replace the template."""
    taken = {*inspect.signature(type(tokenizer).apply_chat_template).parameters, "conversations", "messages"}
    refused = sorted(taken.intersection(options) - {"documents"})
    if refused:
        raise TemplateError(f"chat template options may not set {', '.join(map(repr, refused))}; it is reserved.")


def _source(template: str | dict[str, str] | None) -> str:
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


def _user(text: str, *, as_parts: bool) -> list[Message]:
    return [{"role": "user", "content": [{"type": "text", "text": text}] if as_parts else text}]


def _try(tokenizer: Any, chat: list[Message], tools: list[Message] | None = None, **options: Any) -> str:
    try:
        return _apply(tokenizer, chat, tools, **{"add_generation_prompt": False, **options})
    except _TEMPLATE_FAILURES:
        return ""


def _needs_parts(tokenizer: Any) -> bool:
    """Say whether content has to be a list of parts: templates made for images drop a plain string in silence."""
    if _PROBE in _try(tokenizer, _user(_PROBE, as_parts=False)):
        return False
    return _PROBE in _try(tokenizer, _user(_PROBE, as_parts=True))


def _thinks(tokenizer: Any, *, as_parts: bool) -> bool:
    """Say whether asking for reasoning changes nothing: it is what happens anyway, or the model's own choice."""
    chat = _user("hello", as_parts=as_parts)
    asked = _try(tokenizer, chat, add_generation_prompt=True, enable_thinking=True)
    return asked == _try(tokenizer, chat, add_generation_prompt=True)


def _needs_argument_text(tokenizer: Any, *, as_parts: bool) -> bool:
    """Say whether a call's arguments have to be a string: DeepSeek's templates join them to other strings."""
    if _PROBE in _try(tokenizer, _called({"a": _PROBE}, as_parts=as_parts)):
        return False
    return _PROBE in _try(tokenizer, _called(f'{{"a": "{_PROBE}"}}', as_parts=as_parts))


def _called(arguments: object, *, as_parts: bool) -> list[Message]:
    # Nine characters, as the templates of Mistral models insist on.
    call = {"id": "probe0000", "type": "function", "function": {"name": "probe", "arguments": arguments}}
    return [*_user("hello", as_parts=as_parts), {"role": "assistant", "content": "", "tool_calls": [call]}]

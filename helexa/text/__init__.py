"""From messages to token ids, and from token ids to structured output."""

from helexa.text.deltas import ContentDelta, Delta, ReasoningDelta, ToolCallDelta, merge
from helexa.text.detokenize import IncrementalDetokenizer
from helexa.text.errors import TemplateError, TextError, TokenizerError
from helexa.text.lightweight import forgo_torch
from helexa.text.output import OutputParser, random_call_id
from helexa.text.reasoning import prompt_opens_reasoning
from helexa.text.stops import StopStrings
from helexa.text.tokenizer import ChatTokenizer

__all__ = [
    "ChatTokenizer",
    "ContentDelta",
    "Delta",
    "IncrementalDetokenizer",
    "OutputParser",
    "ReasoningDelta",
    "StopStrings",
    "TemplateError",
    "TextError",
    "TokenizerError",
    "ToolCallDelta",
    "forgo_torch",
    "merge",
    "prompt_opens_reasoning",
    "random_call_id",
]

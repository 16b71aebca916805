"""Token ids to text as they arrive, never cutting a character in two.

The tokenizers library has a `DecodeStream` for this. It is not used: a run of invalid bytes makes it re-decode the
whole run at each token, it raises when byte-fallback tokens turn out to be invalid, and it cannot be told that the
stream ended, so its last characters are lost.
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

from helexa.text.vocabulary import Vocabulary

_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4  # bytes of UTF-8, so also the most tokens one character can be spread over


class IncrementalDetokenizer(Protocol):
    """Turns the token ids of one sequence into text; owned by whoever streams that sequence."""

    def push(self, ids: Sequence[int]) -> str:
        """Return the text that these ids complete; the start of an unfinished character is held back."""

    def finish(self) -> str:
        """Return what is still held back; an unfinished character comes out as U+FFFD."""


def detokenizer(vocabulary: Vocabulary) -> IncrementalDetokenizer:
    """Return a fresh stream of the kind that fits the vocabulary."""
    return ByteLevelDetokenizer(vocabulary) if vocabulary.byte_level else ContextDetokenizer(vocabulary)


class ByteLevelDetokenizer:
    """For vocabularies of byte strings: one table look-up per token, then incremental UTF-8."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._piece = vocabulary.piece
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int]) -> str:
        """Return the text that these ids complete."""
        return self._utf8.decode(b"".join(map(self._piece, ids)))

    def finish(self) -> str:
        """Return U+FFFD if the last character never completed, else nothing."""
        return self._utf8.decode(b"", final=True)


class ContextDetokenizer:
    """For all other tokenizers, whose tokens read differently at the start of a text (SentencePiece, WordPiece).

    Each token is decoded together with the one before it and the text of the latter taken off again. Byte-fallback
    tokens are decoded here: the library prints a whole run of them as U+FFFD when one byte in it is wrong, so nothing
    of the run could be shown before its end. Here every valid character comes out at once and only wrong bytes are
    replaced.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._context: list[int] = []  # the last token that was turned into text, at most one
        self._pending: list[int] = []  # tokens after it that end within a character
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int]) -> str:
        """Return the text that these ids complete."""
        return "".join([self._step(token_id) for token_id in ids if not self._vocabulary.is_silent(token_id)])

    def finish(self) -> str:
        """Return what is held back."""
        return self._release() + self._utf8.decode(b"", final=True)

    def _step(self, token_id: int) -> str:
        byte = self._vocabulary.byte(token_id)
        # A space at the very start is the decoder's to strip, hence the exception for ASCII without context.
        if byte is None or (byte < 0x80 and not self._context):  # noqa: PLR2004 - the end of ASCII
            return self._utf8.decode(b"", final=True) + self._text(token_id)
        text = self._release()
        self._context = [token_id]
        return text + self._utf8.decode(bytes([byte]))

    def _text(self, token_id: int) -> str:
        self._pending.append(token_id)
        text = self._peek()
        # Decoders show the start of a character as U+FFFD or, some of them, not at all.
        if (not text or text.endswith(_REPLACEMENT)) and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        return self._advance(text)

    def _peek(self) -> str:
        """Decode the pending tokens as they read after the context."""
        decode = self._vocabulary.decode
        before = decode(self._context) if self._context else ""
        text = decode(self._context + self._pending)
        return text[len(before) :] if text.startswith(before) else decode(self._pending)

    def _advance(self, text: str) -> str:
        self._context, self._pending = self._pending[-1:], []
        return text

    def _release(self) -> str:
        return self._advance(self._peek()) if self._pending else ""

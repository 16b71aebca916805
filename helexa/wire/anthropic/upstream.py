"""Providers that speak Messages: a chat on its way to them, and their answers on the way back."""

from helexa.wire.anthropic.failures import error_from
from helexa.wire.anthropic.incoming import to_completion
from helexa.wire.anthropic.outgoing import to_messages
from helexa.wire.anthropic.reader import MessageReader

__all__ = ["MessageReader", "error_from", "to_completion", "to_messages"]

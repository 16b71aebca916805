"""Ollama as an upstream: the four translations that it takes."""

from helexa.wire.ollama.answers import to_completion
from helexa.wire.ollama.failures import error_from
from helexa.wire.ollama.requests import to_ollama
from helexa.wire.ollama.stream import OllamaReader

__all__ = ["OllamaReader", "error_from", "to_completion", "to_ollama"]

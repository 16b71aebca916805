"""Ollama's own chat protocol, for providers of that kind.

Source: Ollama API documentation, "Generate a chat message" (``POST /api/chat``).
"""

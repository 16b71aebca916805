"""Anthropic's dialect, Messages: for clients that speak it (``requests``, ``replies``), and upstreams that do."""

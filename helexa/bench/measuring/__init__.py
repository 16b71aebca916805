"""Targets, prompts, times and rounds: from a list of what to measure to runs."""

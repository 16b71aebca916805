"""A model's files, and what becomes of them in memory."""

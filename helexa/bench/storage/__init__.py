"""Runs in a database, and in files."""

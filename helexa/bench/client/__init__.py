"""The HTTP client that measures: what came, and when, whatever else this process does."""

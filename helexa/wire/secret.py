"""The fleet secret on the wire between cortex and its neurons. Pure."""

import os


def header(secret: str) -> tuple[bytes, bytes]:
    """The header that bears it, as bytes: an environment variable may hold what is no ASCII."""
    return b"authorization", b"Bearer " + os.fsencode(secret)

"""The command line."""

import sys


def main() -> None:
    """Entry point of ``helexa``; exits with 0 done, 1 failed, 2 wrong usage or topology."""
    from helexa.origin import OriginError, check_origin

    try:
        check_origin()
    except OriginError as error:
        print(f"helexa: {error}", file=sys.stderr)  # noqa: T201 - nothing else can be imported safely
        sys.exit(1)
    from helexa.cli.app import app

    app(prog_name="helexa")


__all__ = ["main"]

"""``python -m helexa`` is ``helexa``."""

from helexa.cli import main

if __name__ == "__main__":
    main()

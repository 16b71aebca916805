"""The command line of a host that waits a second where a database does not answer, not five."""

from helexa import database
from helexa.cli import main

database.WAIT_SECONDS = 1  # type: ignore[misc]  # whoever asks reads it anew each time

if __name__ == "__main__":
    main()

"""The command line of a host that waits two seconds where a database does not answer, not five."""

from helexa.cli import main
from helexa.cortex import database

database.WAIT_SECONDS = 2  # type: ignore[misc]  # whoever asks reads it anew each time

if __name__ == "__main__":
    main()

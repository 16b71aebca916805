"""What an operator can mend."""


class OperatorError(Exception):
    """Something keeps a process from running that whoever started it can mend; the message is a sentence about it.

    One class for all of them, so that a command can show any without importing what each is about.
    """

"""``helexa doctor``: what helexa sees on this host, what is wrong with it and how to mend it."""

from helexa.cli.doctor.command import doctor

__all__ = ["doctor"]

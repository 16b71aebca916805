"""Where a model's files are: the bundled checkpoint, a registry's cache or the registry itself, this disk."""

from helexa.neuron.sources.download import Wanted
from helexa.neuron.sources.resolve import find, resolve

__all__ = ["Wanted", "find", "resolve"]

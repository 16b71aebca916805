"""Wires a topology into running processes: the root with cortex, and each neuron."""

from helexa.up.neuron import run_neuron
from helexa.up.plan import Plan
from helexa.up.root import run_root

__all__ = ["Plan", "run_neuron", "run_root"]

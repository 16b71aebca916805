"""Wires a topology into running processes: the root with cortex, and each neuron."""

from helexa.up.neuron import run_neuron
from helexa.up.root import Plan, run_root

__all__ = ["Plan", "run_neuron", "run_root"]

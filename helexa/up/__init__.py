"""Wires a topology into running processes: the root with cortex, each neuron, the benchmark loop.

Nothing is imported here: a neuron starts the sooner without all that a gateway is made of.
"""

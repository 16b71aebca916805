"""The gateway: one endpoint in front of every neuron."""

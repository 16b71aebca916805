"""HTTP plumbing that cortex and neuron share: serving, bodies, envelopes, streams that outlive no client."""

"""A request's way through the gateway and its answer's way back: nodes, providers, dialects, streams."""

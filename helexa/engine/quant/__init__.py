"""Linear layers, in as many bits as a model is loaded with."""

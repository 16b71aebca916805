"""What is computed next: whose tokens, in which blocks of the KV cache. Pure, but for its tensors of a batch."""

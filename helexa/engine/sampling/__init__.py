"""Which token comes next, and what is told of the others."""

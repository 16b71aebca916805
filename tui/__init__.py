"""What watches a fleet from a terminal: a client of cortex's HTTP API like any other."""

"""What was measured, over HTTP."""

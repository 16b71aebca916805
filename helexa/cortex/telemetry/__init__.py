"""What the gateway tells of itself: metrics, and a line per request."""

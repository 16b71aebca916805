"""Which node a request goes to, and what has to be loaded or to go for it. Pure: the fleet's state, and decisions."""

"""Who may do what: keys, where they are kept, and what they open."""

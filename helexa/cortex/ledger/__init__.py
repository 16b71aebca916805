"""What requests may use and what they have used: budgets, reservations, and the record of it all."""

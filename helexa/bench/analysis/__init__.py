"""What figures mean: intervals, noise, and what is called a regression. Pure."""

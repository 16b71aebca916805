"""The mathematics of a model, over the paged cache."""

"""Several forecasters as one: what a fit is made of, and how much each of them counts."""

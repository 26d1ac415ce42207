"""Times of bars: read from texts, laid on a grid, compared."""

"""One run: from the flags and the bars to a run folder."""

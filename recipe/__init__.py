"""The recipe of a run: folds trained by the flags, judged, and written to the run folder."""

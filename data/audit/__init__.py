"""Whether anything looks ahead: values recomputed without the later bars, and spans that meet."""

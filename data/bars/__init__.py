"""Files to checked bars."""

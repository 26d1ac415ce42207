"""Windows to batches."""

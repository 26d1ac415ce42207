"""Everything before a tensor reaches the model: bars, features, labels, windows, batches."""

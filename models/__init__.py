"""The model, and everything done to it or said about it."""

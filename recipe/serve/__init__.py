"""Answers of a trained model, and the formats that it is shipped in."""

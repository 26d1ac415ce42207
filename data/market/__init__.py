"""Bars to features, labels, windows and splits."""

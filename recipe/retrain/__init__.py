"""Keeps models up to date: retrains them on the bars that came since."""

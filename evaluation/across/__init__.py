"""Answers judged across symbols: which one does better than the others at the same bar."""

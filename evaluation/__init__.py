"""Evaluates predictions: metrics, baselines, verdict, trades."""

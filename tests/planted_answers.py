"""Answers about the symbols of many bars with a known share of what comes."""

import numpy as np

from evaluation.across.cross_section import Forecasts

START = np.datetime64("2024-01-01", "ns")
HOUR = np.timedelta64(3600, "s")


def grid(num_bars, num_symbols, bar=HOUR):
    """Returns times and symbols sorted by symbol, then time, (bars * symbols,)."""
    times = np.tile(START + np.arange(num_bars) * bar, num_symbols)
    return times, np.repeat(np.arange(num_symbols), num_bars)


def rows(matrix):
    """Returns a matrix (bars, symbols) in the order of `grid`."""
    return np.asarray(matrix, float).T.ravel()


def probabilities(scores):
    """Returns probabilities (windows, 3) whose BUY less SELL is a tenth of the scores."""
    scores = np.asarray(scores, float) / 20
    return np.stack([1 / 3 - scores, np.full(len(scores), 1 / 3), 1 / 3 + scores], axis=1)


def forecasts(scores, bar=HOUR):
    """Returns forecasts by scores (bars, symbols) of at most 6 in size."""
    return Forecasts(*grid(*np.shape(scores), bar), probabilities(rows(scores)))

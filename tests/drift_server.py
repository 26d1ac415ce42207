"""A local exchange that trades bars with a drift, also for the commands as real processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from binance_server import BinanceServer

from core import place
from data.bars.synthetic import persistent_drift

NAMES = ("open", "high", "low", "close", "volume")
# Python runs it at its start, and ccxt's Binance then asks the local server.
SITE = """
import ccxt

described = ccxt.binance.describe


def describe(self):
    told = described(self)
    told["urls"]["api"] = {{name: "{url}/" + name for name in told["urls"]["api"]}}
    return told


ccxt.binance.describe = describe
"""


class DriftServer(BinanceServer):
    """Trades SYN/0, SYN/1 and so on: the bars of `persistent_drift`, each shown from its open on.

    Args:
        start: the first open, in ms.
        step: ms from one open to the next.
        num_bars: of each symbol, with those that are still to come.
        num_symbols: how many.
        by_wall_clock: whether time goes on by itself; else it stands at `now`.
    """

    slept: Callable[[], None]  # a test's, called after each wait

    def __init__(self, start, step, num_bars, *, num_symbols=3, by_wall_clock=False):
        frame = persistent_drift(num_symbols=num_symbols, num_bars=num_bars, seed=1)
        parts = {name: part for name, part in frame.groupby("symbol", observed=True)}
        self.start, self.step, self.by_wall_clock = start, step, by_wall_clock
        self.rows = {str(name): part[list(NAMES)].to_numpy() for name, part in parts.items()}
        super().__init__(symbols=tuple(self.rows))

    @property
    def now(self):
        return int(time.time() * 1000) if self.by_wall_clock else self._now

    @now.setter
    def now(self, milliseconds):
        self._now = milliseconds

    def klines(self, query):
        rows = self.rows[query["symbol"][0]]
        since, limit = int(query.get("startTime", ["0"])[0]), int(query["limit"][0])
        first = max(-(-(since - self.start) // self.step), 0)
        last = min((self.now - self.start) // self.step, first + limit - 1, len(rows) - 1)
        opens = ((place, self.start + place * self.step) for place in range(first, last + 1))
        return [[at, *map(str, rows[place]), at + self.step - 1] for place, at in opens]

    def moment(self, place):
        """Returns when the bar of that place opens, as options and tables name it."""
        return pd.Timestamp(self.start + place * self.step, unit="ms", tz="UTC").isoformat()

    def environment(self, folder: Path):
        """Returns the environment of processes for which this is Binance."""
        (folder / "sitecustomize.py").write_text(SITE.format(url=self.url))
        found = place.environment()
        return found | {"PYTHONPATH": os.pathsep.join([found["PYTHONPATH"], str(folder)])}

"""The memory that the data path takes, for benchmarks/data_path.py: each in its own process."""

import gc
import tempfile
import time
from pathlib import Path

from data_path_run import ALL, BARS, FILE, make_batches, settings

from data.bars.read import read_bars
from data.bars.synthetic import random_walk
from data.market.market import build_market
from data.market.parts import by_symbol

LIMITED_SYMBOLS, LIMITED_BARS = 20, 1_000_000
LIMIT = 1_800_000_000  # bytes; the features alone have 2.4 billion


def measure_memory(method: str) -> dict:
    """Returns megabytes at the peak of each stage, in a process of its own.

    A run over a small file comes first: what the libraries load from disk when they are first
    used, 10 MB of code, belongs to the imports and not to the data.
    """
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.parquet"
        random_walk(2, 2000, interval="5min").to_parquet(small)
        _draw_batches(small, method, 10, {})
    gc.collect()
    stages = {"imports": _megabytes("VmRSS")}
    _forget_peak()
    return {"features": _draw_batches(BARS / FILE, method, 1000, stages), "stages": stages}


def _draw_batches(file: Path, method: str, count: int, stages: dict[str, float]) -> float:
    """Draws batches from a file, notes the peak of each stage, returns megabytes of features."""

    def note(stage):
        stages[stage] = _megabytes("VmHWM")
        _forget_peak()

    def read():
        bars = read_bars(file)
        note("read and check the bars")
        return bars

    market = build_market(by_symbol(read()), settings(method))
    note("features, labels, windows, split")
    batches = make_batches(market, market.features, ALL)
    for index in range(count):
        batches[index % len(batches)]
    note("1,000 batches of 256")
    return market.features.nbytes / 1e6


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure_limited(store: str) -> dict:
    """Returns how a run over 20 million rows went under a limit of private memory.

    Args:
        store: folder of the feature store; "": features in memory.
    """
    import resource  # not on Windows

    import data.batches.datasets  # noqa: F401

    begun, taken = time.perf_counter(), _megabytes("VmData")
    limit = int(taken * 1e6) + LIMIT
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        market = build_market(_generated(), settings(), feature_store=store or None)
        made = time.perf_counter() - begun
        batches = make_batches(market, market.features, ALL)
        begun = time.perf_counter()
        for index in range(1000):
            batches[index]
    except MemoryError as error:
        return {"outcome": type(error).__name__, "seconds": time.perf_counter() - begun}
    return {
        "outcome": "1,000 batches of 256 drawn",
        "rows": len(market.symbols),
        "features": market.features.nbytes / 1e6,
        "private": _megabytes("VmData") - taken,
        "seconds": made,
        "milliseconds": time.perf_counter() - begun,
    }


def _generated():
    """Yields the bars of 20 random walks of a million bars, one symbol at a time."""
    for index in range(LIMITED_SYMBOLS):
        bars = random_walk(1, LIMITED_BARS, seed=index, interval="5min")
        bars["symbol"] = bars["symbol"].cat.rename_categories([f"SYN{index:02d}"])
        yield bars

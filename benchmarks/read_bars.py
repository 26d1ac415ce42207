"""Seconds and memory to read a large CSV file of bars, against the frame that comes out.

    python benchmarks/read_bars.py [--rows 10000000]

Writes a file of that many rows (ten symbols), reads it in a fresh process and prints both.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

ROOT = Path(__file__).parent.parent
NUM_SYMBOLS = 10
READ = """
import sys, time
sys.path.insert(0, sys.argv[2])
from data.bars.read import read_bars
def memory(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(lines[name].split()[0]) / 1024
before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
bars = read_bars(sys.argv[1])
seconds = time.perf_counter() - start
cpu = time.process_time() - cpu
peak = memory("VmHWM") - before
frame = bars.memory_usage(deep=True).sum() / 2**20
print(f"{len(bars):,} rows in {seconds:.1f} s ({cpu:.1f} s of processors); frame {frame:.0f} MB, "
      f"peak beyond the imports {peak:.0f} MB = {peak / frame:.2f} frames")
"""


def write(path: Path, rows: int) -> None:
    per_symbol = rows // NUM_SYMBOLS
    options = pa.csv.WriteOptions(include_header=False)
    with path.open("wb") as file:
        file.write(b"timestamp,open,high,low,close,volume,symbol\n")
        for index in range(NUM_SYMBOLS):
            rng = np.random.default_rng(index)
            close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-4, per_symbol))), 4)
            columns = {
                "timestamp": 1_600_000_000_000 + 60_000 * np.arange(per_symbol),
                "open": close,
                "high": np.round(close * 1.001, 4),
                "low": np.round(close * 0.999, 4),
                "close": close,
                "volume": np.round(rng.exponential(50.0, per_symbol), 3),
            }
            table = pa.Table.from_pandas(pd.DataFrame(columns).assign(symbol=f"SYM{index}USDT"))
            pa.csv.write_csv(table, file, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        write(path, rows)
        print(f"a file of {path.stat().st_size / 2**20:.0f} MB")
        subprocess.run([sys.executable, "-c", READ, str(path), str(ROOT)], check=True)


if __name__ == "__main__":
    main()

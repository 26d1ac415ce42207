import gc
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from core.memory import importing
from data.bars.synthetic import random_walk
from data.market.labels import METHODS

ROOT = Path(__file__).parent.parent
NUM_SYMBOLS, NUM_BARS = 10, 60_000
RUN = """
import sys
import numpy as np
from pathlib import Path
from data.bars.read import read_bars
from data.batches.datasets import WindowBatches
from data.market.market import build_market
from data.market.training_rows import training_statistics
from data.market.settings import MarketSettings
from data.market.parts import by_symbol
from data.batches.sampling import BatchPlan
from data.market.windows import first_window_ends

SETTINGS = MarketSettings(
    sequence_length=60, future_window=12, label_method=sys.argv[3], price_change_threshold=0.01,
    target_class_ratios=(0.33, 0.40, 0.33), embargo_bars=12, max_gap_bars=5,
)

def run(path, num_batches):
    market = build_market(by_symbol(read_bars(path)), SETTINGS)
    fold = market.folds[0]
    plan = BatchPlan(
        fold.labels[fold.train], market.symbols[fold.train], batch_size=256, seed=0,
        class_ratios=(0.33, 0.40, 0.33), balance_classes=True, balance_symbols=True,
    )
    mean, variance = training_statistics(market, fold)
    batches = WindowBatches(
        market.features, fold.train, plan=plan, sequence_length=60,
        first_ends=first_window_ends(fold.train, market.bounds, 60),
        augmentations={"noise_std": 0.02, "time_shift": 2, "mask_prob": 0.1, "mask_max_t": 4},
        feature_std=np.sqrt(variance), fill=mean,
    )
    for index in range(num_batches):
        batches[index % len(batches)]
    return market.features.nbytes

def status(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

run(sys.argv[1], 10)  # code that is loaded when it is first used is no part of the data
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
print(run(sys.argv[2], 200), status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "method", [METHODS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS[1:])]
)
def test_all_from_reading_to_batches_takes_half_of_the_features_beside_them(tmp_path, method):
    few, many = tmp_path / "few.parquet", tmp_path / "many.parquet"
    random_walk(2, 2000, interval="5min").to_parquet(few)
    random_walk(NUM_SYMBOLS, NUM_BARS, interval="5min").to_parquet(many)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(few), str(many), method],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    features, peak = map(int, done.stdout.split())
    assert features > 0.99 * NUM_SYMBOLS * NUM_BARS * 30 * 4
    closes = NUM_SYMBOLS * NUM_BARS * 4  # that the market keeps
    assert peak < 1.5 * features + closes, f"{peak / features:.2f} times the features"


KEPT = """
import resource
import numpy as np
from core.memory import keep_freed_memory, release_memory

def pages_of_ten_blocks():
    np.ones(2**24)  # 128 MiB, as large as what a step asks for
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(pages_of_ten_blocks())
keep_freed_memory()
print(pages_of_ten_blocks())
release_memory()
print(int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_freed_blocks_stay_until_they_are_released():
    done = subprocess.run(
        [sys.executable, "-c", KEPT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, kept, resident = map(int, done.stdout.split())
    assert before > 100 and kept < before / 10
    assert resident < 128


def test_the_collector_passes_over_what_was_imported_and_works_on():
    class Circle:
        def __init__(self):
            self.itself = self

    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)
    circle = weakref.ref(Circle())
    gc.collect()
    assert circle() is None

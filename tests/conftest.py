"""What several modules of tests share: bars in a file and a finished run over them."""

import gc
import os

import pytest

os.environ["LC_ALL"] = "C.UTF-8"  # the tests read English, whatever the locale of who runs them
# A worker of pytest for each core: threads of the trees that wait for each other take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What the tests write need not outlast a power cut; tests of that count the calls.
os.fsync = lambda handle: None

from tiny_run import settings  # noqa: E402

import train_model  # noqa: E402
from data.bars.synthetic import persistent_drift  # noqa: E402

# What takes longest comes first, so that no worker is left with half a minute at the end.
LONGEST = (
    "train_model",
    "resume",
    "flags",
    "export",
    "blend",
    "classifier",
    "xlstm_rl_model",
    "checkpoint",
    "study_workers",
    "retrain",
    "warm",
    "refit",
    "ensemble",
    "fuzz",
    "jax",
    "several_processes",
    "memory",
    "wheel",
    "callback_list",
    "golden_blocks",
)


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish():
    """Has the collector pass over all modules and tests from now on: a tenth of each training.

    And look through all else less often: that took 23 of the 580 s of processor of the quick tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2000, 20, 50)


@pytest.fixture(autouse=True)
def _no_width(monkeypatch):
    """The width of whoever runs the tests, or of a notebook that ran before, wraps no line."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def bars_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    persistent_drift(num_symbols=3, num_bars=900, seed=1).to_parquet(path)
    return path


@pytest.fixture(scope="session")
def finished(bars_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert train_model.main(["--data", str(bars_file), "--out", str(folder), *settings()]) == 0
    return folder

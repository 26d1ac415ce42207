"""A run of the command that is small enough for a test."""

import contextlib
import json
import sys
import time
from pathlib import Path

import pytest

import config

ROOT = Path(config.__file__).parent


# Small enough for a test, with every improvement at work in three epochs.
TINY = {
    "JIT_COMPILE": False,  # seconds of compilation
    "SEQUENCE_LENGTH": 12,
    "FUTURE_WINDOW": 3,
    "EMBARGO_BARS": 3,
    "XLSTM_UNITS": 8,
    "XLSTM_HEADS": 2,
    "SUPERVISED_EPOCHS": 3,
    "STEPS_PER_EPOCH": 6,
    "SUPERVISED_BATCH_SIZE": 16,
    "LR_WARMUP_EPOCHS": 0.5,
    "AFL_WARMUP_EPOCHS": 2,
    "LOGIT_CLIP_RELEASE_EPOCH": 2,
    "HNM_START_EPOCH": 1,
    "HNM_END_EPOCH": 2,
    "HNM_UPDATE_PERIOD": 1,
    "HNM_MAX_SCORED": 200,
    "VALIDATION_MAX_WINDOWS": 200,
}


def settings(**flags):
    return [f"--set={name}={_text(value)}" for name, value in (TINY | flags).items()]


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def command(*arguments):
    return [sys.executable, str(ROOT / "train_model.py"), *map(str, arguments)]


@contextlib.contextmanager
def undrawn():
    """Leaves the pictures of reports empty: to draw those of one takes seconds."""
    from evaluation.report import svg

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
        yield


def metrics_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("timing")
    return metrics


def wait_for(path, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)

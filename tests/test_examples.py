"""The examples in docstrings say what comes."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

from xlstm_classifier import XLSTMClassifier

ROOT = Path(__file__).parent.parent
MODULES = (
    "core.errors",
    "data.bars.read",
    "data.bars.sessions",
    "data.batches.augment",
    "data.batches.datasets",
    "data.batches.generator",
    "data.batches.quotas",
    "data.batches.sampling",
    "data.features.extra",
    "data.features.features",
    "data.features.settings",
    "data.market.labels",
    "data.market.market",
    "models.calibration",
    "models.layers.mlstm_block",
    "models.layers.slstm_block",
    "models.training.callbacks.epoch_tracker",
    "models.training.losses",
    "models.training.optimizers",
    "models.training.schedules",
    "models.xlstm_rl_model",
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def test_the_pages_show_examples_as_code():
    """Of the word in the singular they make a box of prose, in which >>> are three quotations."""
    rooms = [path.parent for path in ROOT.glob("*/__init__.py")]
    texts = {path: path.read_text() for room in rooms for path in room.rglob("*.py")}
    assert any("\n    Examples:\n" in text for text in texts.values())
    assert not [path for path, text in texts.items() if "\n    Example:\n" in text]


def test_examples_of_the_classifier_are_indented_or_they_would_be_prose():
    for name, method in inspect.getmembers(XLSTMClassifier, inspect.isroutine):
        doc = inspect.getdoc(method) or ""
        calls = [
            line for line in doc.splitlines() if "model." in line or "XLSTMClassifier(" in line
        ]
        assert all(line.startswith("    ") for line in calls), name

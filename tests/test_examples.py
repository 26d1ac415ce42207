"""The examples in docstrings say what comes."""

import doctest
import importlib

import pytest

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

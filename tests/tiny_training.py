"""A tiny model and windows for the tests of callbacks."""

import keras
import numpy as np
from keras import layers

from models.training.callbacks.base import copy_of
from models.training.callbacks.validation import ValidationPlan
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam


class Windows(keras.utils.PyDataset):
    """Batches of eight windows; raises in the batch `fails_at`."""

    def __init__(self, num=40, seed=0, fails_at=None):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 3, num).astype("int32")
        self.x = rng.normal(size=(num, 4)).astype("float32") + self.y[:, None]
        self.fails_at, self.epochs = fails_at, []

    def __len__(self):
        return len(self.y) // 8

    def __getitem__(self, index):
        if index == self.fails_at:
            raise RuntimeError("no such batch")
        return self.x[8 * index : 8 * index + 8], self.y[8 * index : 8 * index + 8]

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def make_model(decay=0.9, loss=None, seed=0, head=None, **compile_arguments):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="tanh"),
            layers.Dropout(0.2, seed=3),
            head or layers.Dense(3, name="classifier"),
        ]
    )
    optimizer = AveragedAdam(0.05, average_decay=decay)
    model.compile(optimizer, loss or MixedLoss(gamma=1.0), **compile_arguments)
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    settings = {"epochs": epochs, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(Windows(), callbacks=list(callbacks), **settings).history


def weights_of(model):
    return [copy_of(v) for v in model.trainable_variables]


def averages_of(model):
    return model.optimizer.averages()


def assert_equal(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(ours, expected):
    return any(not np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


def validation_plan(windows, **options):
    """Returns what is validated: these windows, by their own labels."""
    return ValidationPlan(windows, windows.y, ("sell", "hold", "buy"), [1, 1, 1], **options)

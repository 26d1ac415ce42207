"""A training with everything on, small enough for a test, to be interrupted and resumed."""

from typing import Any

import keras
import numpy as np
from keras import layers

from models.layers.head import CappedDense
from models.training.callbacks.callback_list import ValidationPlan, make_training_callbacks
from models.training.callbacks.epoch_tracker import EpochSchedules
from models.training.callbacks.mining import MiningPlan
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam
from models.training.schedules import WarmUpCosineDecayScheduler

EPOCHS = 5


class Interrupted(BaseException):
    """Stands for a kill."""


class Batches(keras.utils.PyDataset):
    """Batches that depend on (epoch, index) and on the hard pool alone."""

    def __init__(self, num=48, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.window_labels = rng.integers(0, 3, num).astype("int32")
        self.x = (rng.normal(size=(num, 4)) + np.eye(3, 4)[self.window_labels]).astype("float32")
        self.window_rows, self.window_symbols = np.arange(num), np.zeros(num, int)
        self.epoch, self.pool = 0, {}

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rng = np.random.default_rng((self.epoch, index))
        drawn = rng.integers(0, len(self.x), 8)
        if self.pool:
            drawn[:3] = [rng.choice(self.pool[label]) for label in range(3)]
        return self.x[drawn], self.window_labels[drawn]

    def set_epoch(self, epoch):
        self.epoch = epoch

    def pool_figures(self, epoch):
        return {label: {} for label in range(3)}

    def set_hard_pool(self, pool, *, epoch):
        self.pool = pool

    def to_score(self, limit, rng):
        return [(self.x,)], lambda outputs: (np.arange(len(self.x)), outputs)


class KillAt(keras.callbacks.Callback):
    """Interrupts in a batch of an epoch, or at its end."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at, self.batch_of_kill = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, self.batch_of_kill):
            raise Interrupted

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.at and self.batch_of_kill is None:
            raise Interrupted


def make_model(units=6):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(units, activation="tanh"),
            layers.LayerNormalization(),
            layers.Dropout(0.3),
            CappedDense(3, logit_cap=4.0, name="classifier"),
        ]
    )
    schedule = WarmUpCosineDecayScheduler(0.05, total_steps=5 * EPOCHS, warmup_steps=7)
    optimizer = AveragedAdam(schedule, average_decay=0.9, global_clipnorm=1.0)
    model.compile(optimizer, MixedLoss(gamma=[1.0, 2.0, 1.0], smoothing=0.05))
    return model


class Run:
    """A training with everything on, as a fresh process would assemble it."""

    def __init__(self, folder, patience=0, **model_arguments):
        self.model, self.batches = make_model(**model_arguments), Batches()
        validation = Batches(seed=1)
        parts = make_training_callbacks(
            self.model,
            self.batches,
            ValidationPlan(
                validation.x,
                validation.window_labels,
                ("sell", "hold", "buy"),
                quotas=(1, 1, 1),
                patience=patience,
                blocks=np.arange(len(validation.x)) // 12,
            ),
            folder,
            schedules=EpochSchedules(
                ce_weight=lambda epoch: max(0.3, 1 - 0.2 * epoch),
                logit_cap=lambda epoch: 4.0 if epoch < 3 else 0.0,
            ),
            mining=MiningPlan(
                start_epoch=2,
                update_period=2,
                top_k_fraction=0.3,
                trim_fraction=0.05,
                max_scored=30,
            ),
        )
        self.parts: dict[str, Any] = parts.stateful()
        self.checkpointer = parts.checkpointer
        self.callbacks = parts.ordered()

    def fit(self, *more, first=0):
        self.model.fit(
            self.batches,
            initial_epoch=first,
            epochs=EPOCHS,
            callbacks=[*self.callbacks, *more],
            shuffle=False,
            verbose=0,
        )
        return self

    def resume(self, **arguments):
        return self.fit(first=self.checkpointer.restore(self.model, **arguments))

import keras
import numpy as np
import pytest
from keras import layers

from models.layers.head import CappedDense
from models.training.callbacks.callback_list import (
    ValidationPlan,
    get_training_callbacks,
    make_training_callbacks,
)
from models.training.callbacks.checkpoint import load_latest
from models.training.callbacks.epoch_tracker import EpochSchedules
from models.training.callbacks.mining import MiningPlan
from models.training.callbacks.nan_guard import TrainingDiverged
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam

QUOTAS = (0.33, 0.40, 0.33)
NAMES = ("sell", "hold", "buy")


class Windows(keras.utils.PyDataset):
    """Batches of eight windows, with what mining reads of the training batches."""

    def __init__(self, num=40, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 3, num).astype("int32")
        self.x = rng.normal(size=(num, 4)).astype("float32") + self.y[:, None]
        self.window_labels, self.window_rows = self.y, np.arange(num)
        self.window_symbols = np.zeros(num, int)
        self.epochs, self.pools = [], []

    def __len__(self):
        return len(self.y) // 8

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], self.y[8 * index : 8 * index + 8]

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def pool_figures(self, epoch):
        return {label: {} for label in range(3)}

    def set_hard_pool(self, pool, *, epoch):
        self.pools.append(epoch)

    def to_score(self, limit, rng):
        return [(self.x,)], lambda outputs: (np.arange(len(self.x)), outputs)


def make_model(decay=0.9, loss=None, head=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), head or layers.Dense(3)])
    model.compile(AveragedAdam(0.05, average_decay=decay), loss or MixedLoss(gamma=1.0))
    return model


def everything(batches, tmp_path, decay=0.9, plan=None, make=make_training_callbacks, **changes):
    windows = Windows(seed=1)
    validation = ValidationPlan(windows, windows.y, NAMES, QUOTAS, **plan or {})
    options = {
        "schedules": EpochSchedules(
            ce_weight=lambda epoch: 1 / (1 + epoch),
            logit_cap=lambda epoch: 5.0 if epoch == 0 else 0.0,
            hard_share=lambda epoch: 0.1 * epoch,
        ),
        "mining": MiningPlan(
            start_epoch=1, update_period=1, top_k_fraction=0.2, trim_fraction=0.05, max_scored=30
        ),
    }
    model = make_model(decay, head=CappedDense(3, logit_cap=5.0))
    return model, make(model, batches, validation, tmp_path, **options | changes)


def fit(model, callbacks, batches=None, epochs=3):
    settings = {"callbacks": callbacks, "shuffle": False, "verbose": 0}
    return model.fit(batches or Windows(), epochs=epochs, **settings).history


def test_all_parts_train_and_each_finds_what_it_works_on(tmp_path):
    batches = Windows()
    model, parts = everything(batches, tmp_path)
    history = fit(model, parts.ordered(), batches)
    assert batches.epochs == [0, 1, 2] and batches.pools == [1, 2]
    assert history["ce_weight"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert history["logit_cap"] == [5.0, 0.0, 0.0]
    assert history["hard_share"] == pytest.approx([0.0, 0.1, 0.2])
    assert {"learning_rate", "val_mcc", "val_nll", "val_rate_buy"} < set(history)
    rows = parts.checkpointer.rows
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[2]["val_mcc"] == history["val_mcc"][2]
    assert parts.best.best["value"] == min(history["val_nll"])
    assert (latest := load_latest(tmp_path)) is not None
    epoch, _, saved = latest  # of that epoch, by all that come before
    assert (epoch, saved["rows"]) == (2, rows)
    states = saved["callbacks"]
    assert states["best"]["best"]["value"] == parts.best.best["value"]
    assert states["mining"]["pool_epoch"] == 2


def test_the_public_list_trains_as_the_parts_do(tmp_path):
    model, parts = everything(Windows(), tmp_path / "parts")
    other, callbacks = everything(Windows(), tmp_path / "list", make=get_training_callbacks)
    assert fit(model, parts.ordered()) == fit(other, callbacks)
    for ours, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_checkpoints_have_every_state_by_the_name_of_its_part(tmp_path):
    _, parts = everything(Windows(), tmp_path)
    names = ["epochs", "non_finite", "ema", "validation", "alarm", "best", "mining"]
    assert list(parts.stateful()) == names
    assert parts.checkpointer.callbacks == parts.stateful()
    assert all(parts.stateful()[name] is getattr(parts, name) for name in names)


@pytest.mark.parametrize("changes, absent", [({"mining": None}, "mining"), ({"decay": 0}, "ema")])
def test_averages_and_mining_can_be_left_out(changes, absent, tmp_path):
    _, with_all = everything(Windows(), tmp_path)
    _, parts = everything(Windows(), tmp_path, **changes)
    assert getattr(parts, absent) is None
    assert set(with_all.stateful()) - set(parts.stateful()) == {absent}
    assert len(parts.ordered()) == len(with_all.ordered()) - 1


def test_without_schedules_the_model_stays_as_it_is(tmp_path):
    model, parts = everything(Windows(), tmp_path, schedules=None)
    fit(model, parts.ordered(), epochs=1)
    (row,) = parts.checkpointer.rows
    assert (row["ce_weight"], row["logit_cap"]) == (1.0, 5.0) and "hard_share" not in row


def test_all_parts_share_one_callback_of_averages(tmp_path):
    _, parts = everything(Windows(), tmp_path)
    assert {parts.validation.ema, parts.best.ema, parts.mining.ema} == {parts.ema}


@pytest.mark.parametrize("monitor, better", [("val_mcc", max), ("val_nll", min)])
def test_the_metric_decides_which_epoch_is_the_best(monitor, better, tmp_path):
    model, parts = everything(Windows(), tmp_path, plan={"monitor": monitor})
    values = fit(model, parts.ordered(), epochs=4)[monitor]
    assert len(set(values)) > 1 and parts.best.best["value"] == better(values)


def test_without_a_better_epoch_the_patience_ends_the_training(tmp_path):
    model, parts = everything(Windows(), tmp_path, plan={"monitor": "val_mcc", "patience": 2})
    model.optimizer.learning_rate = 0.0
    assert len(fit(model, parts.ordered(), epochs=9)["val_mcc"]) == 3


@pytest.mark.parametrize(
    "schedules, message",
    [
        (EpochSchedules(ce_weight=lambda epoch: 1.0), "ce_weight needs a model compiled with a Mi"),
        (EpochSchedules(logit_cap=lambda epoch: 1.0), "logit_cap needs a model with a layer"),
    ],
)
def test_a_schedule_that_lacks_what_it_works_on_is_refused(schedules, message, tmp_path):
    model = make_model(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    plan = ValidationPlan(Windows(), Windows().y, NAMES, QUOTAS)
    with pytest.raises(ValueError, match=message):
        make_training_callbacks(model, Windows(), plan, tmp_path, schedules=schedules)


def test_a_model_that_is_not_compiled_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    plan = ValidationPlan(Windows(), Windows().y, NAMES, QUOTAS)
    with pytest.raises(ValueError, match="must be compiled"):
        get_training_callbacks(model, Windows(), plan, tmp_path)


def arrays(seed=0, num=40):
    windows = Windows(num, seed)
    return windows.x, windows.y


@pytest.mark.parametrize("as_array", [True, False])
def test_plain_arrays_train_as_batches_of_them_do(as_array, tmp_path):
    x, y = arrays()
    shown, labels = arrays(seed=1)
    plan = ValidationPlan(shown, labels, NAMES, QUOTAS)
    model = make_model()
    schedules = EpochSchedules(ce_weight=lambda epoch: 1 / (1 + epoch))
    given = x if as_array else None
    callbacks = get_training_callbacks(model, given, plan, tmp_path, schedules=schedules)
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    found = model.fit(x, y, callbacks=callbacks, **options).history
    other = make_model()
    callbacks = get_training_callbacks(
        other, Windows(), plan, tmp_path / "other", schedules=schedules
    )
    expected = fit(other, callbacks, epochs=2)
    assert found["ce_weight"] == [1.0, 0.5]
    for name in ("loss", "val_nll", "val_mcc"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_of_plain_arrays_a_fault_is_told_without_its_layer(tmp_path):
    x, y = arrays()
    x[20] = np.nan
    plan = ValidationPlan(*arrays(seed=1), NAMES, QUOTAS)
    model = make_model()
    callbacks = get_training_callbacks(model, x, plan, tmp_path)
    with pytest.raises(TrainingDiverged, match="fit was given arrays"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)


def test_arrays_cannot_be_mined(tmp_path):
    x, y = arrays()
    plan = MiningPlan(
        start_epoch=1, update_period=1, top_k_fraction=0.2, trim_fraction=0.05, max_scored=30
    )
    validation = ValidationPlan(x, y, NAMES, QUOTAS)
    with pytest.raises(ValueError, match="mining needs batches of data.batches"):
        get_training_callbacks(make_model(), x, validation, tmp_path, mining=plan)

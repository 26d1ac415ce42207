import keras
import numpy as np
import pytest
from keras import layers

from models.layers.head import CappedDense
from models.training.callbacks.callback_list import callbacks_by_name, get_training_callbacks
from models.training.losses import MixedLoss
from models.training.optimizers import AveragedAdam

QUOTAS = (0.33, 0.40, 0.33)


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

    def set_hard_pool(self, pool, *, epoch):
        self.pools.append(epoch)

    def window_batches(self, positions):
        return self.x[positions]


def make_model(decay=0.9, loss=None, head=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), head or layers.Dense(3)])
    model.compile(AveragedAdam(0.05, average_decay=decay), loss or MixedLoss(gamma=1.0))
    return model


def everything(batches, tmp_path, **changes):
    validation = Windows(seed=1)
    settings = {
        "ce_weight": lambda epoch: 1 / (1 + epoch),
        "logit_cap": lambda epoch: 5.0 if epoch == 0 else 0.0,
        "hard_share": lambda epoch: 0.1 * epoch,
        "validation": validation,
        "validation_labels": validation.y,
        "alarm_quotas": QUOTAS,
        "mining": {
            "start_epoch": 1,
            "update_period": 1,
            "top_k_fraction": 0.2,
            "trim_fraction": 0.05,
            "max_scored": 30,
        },
        "checkpoint_folder": tmp_path,
        "checkpoint_details": {"seed": 0},
    }
    model = make_model(head=CappedDense(3, logit_cap=5.0))
    return model, get_training_callbacks(model, batches, **settings | changes)


def test_all_parts_are_there_in_the_right_order_and_train(tmp_path):
    batches = Windows()
    model, callbacks = everything(batches, tmp_path)
    assert [type(each).__name__ for each in callbacks] == [
        "EpochTracker",
        "NonFiniteLoss",
        "EMAWeightsCallback",
        "ValidationMetrics",
        "CollapseAlarm",
        "BestWeights",
        "HardNegativeMining",
        "Checkpointer",
    ]
    history = model.fit(batches, epochs=3, callbacks=callbacks, shuffle=False, verbose=0).history
    assert batches.epochs == [0, 1, 2] and batches.pools == [1, 2]
    assert history["ce_weight"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert history["logit_cap"] == [5.0, 0.0, 0.0]
    assert history["hard_share"] == pytest.approx([0.0, 0.1, 0.2])
    assert {"learning_rate", "val_mcc", "val_nll", "val_rate_buy"} < set(history)
    assert [row["epoch"] for row in callbacks[-1].rows] == [0, 1, 2]
    assert callbacks[-1].rows[2]["val_mcc"] == history["val_mcc"][2]
    best = callbacks_by_name(callbacks)["best"]
    assert best.best == max(history["val_mcc"])


def test_parts_are_found_by_name(tmp_path):
    _, callbacks = everything(Windows(), tmp_path)
    parts = callbacks_by_name(callbacks)
    assert list(parts) == ["epochs", "non_finite", "ema", "validation", "alarm", "best", "mining"]
    assert callbacks[-1].callbacks == parts and callbacks[-1].details == {"seed": 0}


def test_defaults_leave_everything_out_but_the_epoch_and_the_guard():
    callbacks = get_training_callbacks(make_model(decay=0.0))
    assert list(callbacks_by_name(callbacks)) == ["epochs", "non_finite"]
    model = make_model(decay=0.0, loss="sparse_categorical_crossentropy")
    (tracker,) = get_training_callbacks(model, stop_where_not_finite=False)
    assert tracker.loss is None and tracker.logit_cap_layer is None


@pytest.mark.parametrize(
    "changes, absent",
    [
        ({"validation": None}, {"validation", "alarm", "best"}),
        ({"alarm_quotas": None}, {"alarm"}),
        ({"mining": None}, {"mining"}),
        ({"stop_where_not_finite": False}, {"non_finite"}),
    ],
)
def test_each_part_can_be_left_out(changes, absent, tmp_path):
    _, with_all = everything(Windows(), tmp_path)
    _, callbacks = everything(Windows(), tmp_path, **changes)
    assert set(callbacks_by_name(with_all)) - set(callbacks_by_name(callbacks)) == absent


def test_all_parts_share_one_callback_of_averages(tmp_path):
    _, callbacks = everything(Windows(), tmp_path, use_ema_for_validation=False)
    parts = callbacks_by_name(callbacks)
    assert {parts[name].ema for name in ("validation", "best", "mining")} == {parts["ema"]}
    assert not parts["ema"].use_for_validation


@pytest.mark.parametrize("monitor, mode", [("val_mcc", "max"), ("val_nll", "min")])
def test_the_figure_decides_what_is_better(monitor, mode, tmp_path):
    _, callbacks = everything(Windows(), tmp_path, monitor=monitor, patience=3)
    best = callbacks_by_name(callbacks)["best"]
    assert (best.monitor, best.mode, best.patience) == (monitor, mode, 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"ce_weight": lambda epoch: 1.0}, "ce_weight needs a model compiled with a MixedLoss"),
        ({"logit_cap": lambda epoch: 1.0}, "logit_cap needs a model with a layer"),
        ({"validation": Windows()}, "validation needs validation_labels"),
        ({"mining": {}}, "mining needs the training batches"),
    ],
)
def test_a_part_that_lacks_what_it_works_on_is_refused(settings, message):
    model = make_model(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=message):
        get_training_callbacks(model, **settings)


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="must be compiled"):
        get_training_callbacks(model)

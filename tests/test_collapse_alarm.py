import numpy as np
import pytest

from models.training.callbacks.collapse_alarm import (
    CollapseAlarm,
    kl_divergence,
    logit_spread,
    message,
)
from models.training.callbacks.validation import validation_metrics

QUOTAS = (0.33, 0.40, 0.33)
NAMES = ("sell", "hold", "buy")


class Validation:
    """What the alarm reads of ValidationMetrics."""

    class_names = NAMES
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None


def alarms_of(logits, labels, epoch=3):
    validation, notes = Validation(), []
    alarm = CollapseAlarm(QUOTAS, validation, note=notes.append)
    validation.logits, validation.labels = logits, labels
    alarm.on_epoch_end(epoch, validation_metrics(labels, logits, NAMES))
    assert notes == [message(a) for a in alarm.alarms]
    return alarm.alarms


def test_equal_logits_are_no_signal():
    rng = np.random.default_rng(0)
    logits = np.array([0.0, 0.02, 0.0]) + rng.normal(0, 1e-3, (300, 3))
    (alarm,) = alarms_of(logits, rng.integers(0, 3, 300))
    assert alarm["kind"] == "no signal" and alarm["favoured"] == "HOLD" and alarm["rate"] == 1
    assert "FUTURE_WINDOW" in message(alarm) and alarm["epoch"] == 3
    assert message(alarm).startswith("epoch 4: ")


def test_spread_logits_with_one_favoured_class_are_a_prior_shift():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = np.eye(3)[labels] + rng.normal(0, 0.5, (300, 3)) + np.array([0.0, 0.0, 3.0])
    (alarm,) = alarms_of(logits, labels)
    assert alarm["kind"] == "prior shift" and alarm["favoured"] == "BUY"
    assert "AFL_GAMMA" in message(alarm) and alarm["spread"] > 0.3


def test_a_class_that_is_never_called_is_named():
    """The training logits tell all three apart; what is shipped never says SELL."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = np.eye(3)[labels] + rng.normal(0, 1, (300, 3))
    called = np.where(logits.argmax(axis=1) == 0, 1, logits.argmax(axis=1))
    validation = Validation()
    alarm = CollapseAlarm(QUOTAS, validation)
    validation.logits, validation.labels = logits, labels
    alarm.on_epoch_end(3, validation_metrics(labels, np.eye(3)[called], NAMES))
    (found,) = alarm.alarms
    assert (found["kind"], found["favoured"], found["rate"]) == ("missing class", "SELL", 0)
    assert found["share"] == pytest.approx((labels == 0).mean())
    assert "SELL is 0.00% of the calls and 3" in message(found)


def test_a_healthy_network_raises_no_alarm():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    assert alarms_of(np.eye(3)[labels] + rng.normal(0, 1, (300, 3)), labels) == []


def test_a_skilled_network_on_windows_of_another_mix_raises_no_alarm():
    labels = np.repeat([0, 1, 2], [10, 280, 10])
    logits = np.eye(3)[labels] * 4.0
    rates = np.bincount(labels) / 300
    assert kl_divergence(rates, np.array(QUOTAS) / sum(QUOTAS)) > 0.25
    assert alarms_of(logits, labels) == []
    # The same predictions for windows of the quotas' mix are a shift.
    (alarm,) = alarms_of(logits, np.random.default_rng(0).integers(0, 3, 300))
    assert alarm["kind"] == "prior shift" and alarm["favoured"] == "HOLD"


def test_no_more_mcc_than_luck_gives_is_no_skill():
    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 3, 300), rng.normal(0, 1e-3, (300, 3))
    (alarm,) = alarms_of(logits, labels)
    assert alarm["kind"] == "no signal" and 0.02 < abs(alarm["mcc"]) < 2 / np.sqrt(300)


def test_small_logits_with_skill_raise_no_alarm():
    labels = np.random.default_rng(0).integers(0, 3, 300)
    assert alarms_of(np.eye(3)[labels] * 0.01, labels) == []


def test_early_epochs_and_epochs_without_validation_are_not_watched():
    logits = np.zeros((9, 3))
    assert alarms_of(logits, np.arange(9) % 3, epoch=0) == []
    assert len(alarms_of(logits, np.arange(9) % 3, epoch=1)) == 1
    alarm = CollapseAlarm(QUOTAS, Validation())
    alarm.on_epoch_end(3, {"loss": 1.0})
    assert alarm.alarms == []


def test_a_spell_of_alarms_is_told_of_once():
    labels, notes, validation = np.arange(9) % 3, [], Validation()
    alarm = CollapseAlarm(QUOTAS, validation, note=notes.append)
    skill = np.eye(3)[labels] * 5.0
    for epoch, logits in enumerate([np.zeros((9, 3))] * 3 + [skill, np.zeros((9, 3))], 1):
        validation.logits, validation.labels = logits, labels
        alarm.on_epoch_end(epoch, validation_metrics(labels, logits, NAMES))
    assert [a["epoch"] for a in alarm.alarms] == [1, 2, 3, 5]
    assert notes == [message(alarm.alarms[0]), message(alarm.alarms[3])]


def test_state_round_trip():
    alarm, other = (CollapseAlarm(QUOTAS, Validation()) for _ in range(2))
    alarm.alarms = [{"epoch": 1, "kind": "no signal"}]
    other.set_state(alarm.get_state())
    assert other.alarms == alarm.alarms
    other.on_train_begin()
    assert other.alarms == alarm.alarms
    other.on_train_begin()
    assert other.alarms == []


def test_divergence_and_spread_by_hand():
    rates, quotas = np.array([0.0, 0.5, 0.5]), np.array([0.5, 0.25, 0.25])
    assert kl_divergence(rates, quotas) == pytest.approx(np.log(2))
    assert kl_divergence(quotas, quotas) == 0
    assert np.isfinite(kl_divergence(quotas, np.array([0.0, 0.5, 0.5])))
    # Adding one number to all logits of a window changes no probability.
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]]) + np.array([[7.0], [0.0]])
    assert logit_spread(logits) == pytest.approx(1)


def test_one_class_in_the_training_logits_is_told_of_though_what_is_shipped_has_all():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    balanced = np.eye(3)[labels] + rng.normal(0, 0.5, (300, 3))
    validation = Validation()
    alarm = CollapseAlarm(QUOTAS, validation)
    validation.logits, validation.labels = balanced + np.array([0.0, 0.0, 3.0]), labels
    alarm.on_epoch_end(3, validation_metrics(labels, balanced, NAMES))
    assert [a["favoured"] for a in alarm.alarms] == ["BUY"]

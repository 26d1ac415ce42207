import keras
import numpy as np
import pytest

from models.training.schedules import WarmUpCosineDecayScheduler, linear_ramp, logit_cap_release


def values(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_rate_starts_at_0_peaks_after_the_warm_up_and_ends_at_the_minimum():
    schedule = WarmUpCosineDecayScheduler(1e-3, total_steps=110, warmup_steps=10, minimum=1e-5)
    np.testing.assert_allclose(
        values(schedule, [0, 5, 10, 60, 110, 500]),
        [0, 5e-4, 1e-3, (1e-3 + 1e-5) / 2, 1e-5, 1e-5],
        rtol=1e-5,
    )


def test_rate_equals_keras_cosine_decay():
    ours = WarmUpCosineDecayScheduler(0.01, total_steps=50, warmup_steps=8, minimum=0.002)
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=42, alpha=0.2, warmup_target=0.01, warmup_steps=8
    )
    np.testing.assert_allclose(values(ours, range(60)), values(theirs, range(60)), rtol=2e-5)


def test_without_warm_up_the_rate_starts_at_the_peak():
    assert values(WarmUpCosineDecayScheduler(0.5, total_steps=4), [0]) == [0.5]


def test_minimum_equal_to_peak_is_a_constant_rate():
    schedule = WarmUpCosineDecayScheduler(0.25, total_steps=9, minimum=0.25)
    assert values(schedule, range(12)) == [0.25] * 12


def test_a_training_of_warm_up_alone_reaches_the_peak():
    schedule = WarmUpCosineDecayScheduler(1.0, total_steps=4, warmup_steps=4)
    assert values(schedule, [2, 3]) == [0.5, 0.75]


def test_config_round_trip():
    schedule = WarmUpCosineDecayScheduler(0.01, total_steps=50, warmup_steps=8, minimum=0.002)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is WarmUpCosineDecayScheduler
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"peak": 0.1, "total_steps": 5, "minimum": 0.2}, "need 0 <= minimum <= peak"),
        ({"peak": 0.1, "total_steps": 5, "warmup_steps": 6}, "warmup_steps = 6"),
        ({"peak": 0.1, "total_steps": 0}, "total_steps = 0"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmUpCosineDecayScheduler(**arguments)


def test_ramp_at_its_corners():
    ramp = [linear_ramp(epoch, 5, 15, 0.2, 0.5) for epoch in [0, 5, 10, 15, 99]]
    np.testing.assert_allclose(ramp, [0.2, 0.2, 0.35, 0.5, 0.5])


def test_ramp_without_length_jumps():
    assert [linear_ramp(epoch, 3, 3, 1.0, 0.3) for epoch in [2, 3]] == [1.0, 0.3]
    assert linear_ramp(0, 0, 0, 1.0, 0.3) == 0.3


def test_logit_cap_widens_and_is_gone_at_its_release():
    caps = [logit_cap_release(epoch, 5.0, 4) for epoch in range(6)]
    np.testing.assert_allclose(caps, [5, 20 / 3, 10, 20, 0, 0])
    assert logit_cap_release(0, 0.0, 4) == 0
    assert logit_cap_release(0, 5.0, 0) == 0

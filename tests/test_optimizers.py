import keras
import numpy as np
import pytest
from keras import layers, ops

from models.training.optimizers import AveragedAdam


def small_model(dropout=0.3, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="tanh"),
            layers.Dropout(dropout, seed=1),
            layers.Dense(3),
        ]
    )


def data(num=48):
    rng = np.random.default_rng(0)
    return rng.normal(size=(num, 4)).astype("float32"), rng.integers(0, 3, num)


def fit(optimizer, epochs=2, dropout=0.3, **compile_arguments):
    model = small_model(dropout)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_arguments,
    )
    model.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def average_and_closed_form(decay, num_steps):
    """Returns the average after some steps, and the sum of weights that it must be."""
    weight = keras.Variable(np.array([1.0, -2.0], "float32"))
    optimizer = AveragedAdam(0.1, average_decay=decay)
    optimizer.build([weight])
    weights, decays = [], []
    for t in range(num_steps):
        optimizer.apply([ops.convert_to_tensor(np.array([1.0, t - 3.0], "float32"))], [weight])
        weights.append(weight.numpy().astype("float64"))
        decays.append(min(decay, (1 + t) / (10 + t)) if t else 0.0)
    kept = np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)  # product of all later decays
    shares = (1 - np.array(decays)) * kept
    assert np.isclose(shares.sum(), 1)
    return optimizer.averages()[0], shares @ np.array(weights)


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_average_is_the_closed_form_with_its_ramp(decay):
    ours, expected = average_and_closed_form(decay, num_steps=20)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_no_variable_is_given_to_a_step_twice():
    model = fit(AveragedAdam(0.1, average_decay=0.9), epochs=1)
    variables = [id(v) for v in [*model.variables, *model.optimizer.variables]]
    assert len(set(variables)) == len(variables)


def test_average_of_one_step_is_the_weights_whatever_was_loaded_before():
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer = AveragedAdam(0.1, average_decay=0.999)
    optimizer.build([weight])
    weight.assign([3.0, 4.0])
    optimizer.apply([ops.ones(2)], [weight])
    np.testing.assert_array_equal(optimizer.averages()[0], weight.numpy())


@pytest.mark.parametrize("decay", [0.0, 0.99])
@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"steps_per_execution": 5}])
def test_the_steps_are_those_of_plain_adam(arguments, decay):
    ours = fit(AveragedAdam(0.01, average_decay=decay), **arguments)
    plain = fit(keras.optimizers.Adam(0.01), **arguments)
    for a, b in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("limit", [0.01, 1e3])
def test_clipped_steps_are_those_of_plain_adam(limit):
    ours = fit(AveragedAdam(0.01, global_clipnorm=limit))
    plain = fit(keras.optimizers.Adam(0.01, global_clipnorm=limit))
    for a, b in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_switched_off_no_average_is_kept():
    def size(decay):
        return sum(v.numpy().size for v in fit(AveragedAdam(0.01, decay)).optimizer.variables)

    assert size(0.9) - size(0.0) == small_model().count_params()


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 0.01}])
@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"steps_per_execution": 4},
        {"steps_per_execution": 4, "jit_compile": True},
    ],
)
def test_compiled_and_grouped_steps_give_the_same_averages(arguments, clip):
    # Without dropout, which draws other masks under XLA.
    expected = fit(AveragedAdam(0.01, average_decay=0.9, **clip), dropout=0.0)
    ours = fit(AveragedAdam(0.01, average_decay=0.9, **clip), dropout=0.0, **arguments)
    assert int(ours.optimizer.iterations) == int(expected.optimizer.iterations)
    for a, b in zip(ours.optimizer.averages(), expected.optimizer.averages(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_norm_of_the_whole_gradient_is_clipped():
    # Adam hides the gradient's scale, but not in its first moment: 0.1 times the gradient.
    optimizer = AveragedAdam(0.1, average_decay=0.9, global_clipnorm=1.0)
    weights = [keras.Variable(np.zeros(2, "float32")) for _ in range(2)]
    optimizer.build(weights)
    optimizer.apply([ops.convert_to_tensor([3.0, 0.0]), ops.convert_to_tensor([0.0, 4.0])], weights)
    np.testing.assert_allclose(optimizer.momentum.numpy(), [0.06, 0.0, 0.0, 0.08], rtol=1e-5)


def test_averages_are_taken_after_the_constraints():
    weight = keras.Variable(np.array([0.05], "float32"))
    weight.constraint = keras.constraints.NonNeg()
    optimizer = AveragedAdam(0.1, average_decay=0.9)
    optimizer.build([weight])
    for _ in range(5):
        optimizer.apply([ops.ones(1)], [weight])
    assert optimizer.averages()[0] >= 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_averages_are_saved_and_loaded_with_the_model(tmp_path):
    model = fit(AveragedAdam(0.01, average_decay=0.9))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.average_decay == 0.9
    for a, b in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_config_round_trip():
    optimizer = AveragedAdam(0.01, average_decay=0.9, global_clipnorm=1.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is AveragedAdam
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"average_decay": 1.0}, r"average_decay must be in \[0, 1\), got 1.0"),
        ({"beta_2": -0.1}, r"beta_2 must be in \[0, 1\), got -0.1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AveragedAdam(**arguments)


def test_weights_must_have_one_dtype():
    weights = [keras.Variable([1.0], dtype=dtype) for dtype in ("float32", "float16")]
    with pytest.raises(ValueError, match="one dtype, got float16, float32"):
        AveragedAdam().build(weights)


def test_other_weights_than_those_it_was_built_with_are_refused():
    weights = [keras.Variable(np.zeros(2, "float32")) for _ in range(2)]
    optimizer = AveragedAdam(0.1)
    optimizer.build(weights)
    with pytest.raises(ValueError, match="all 2 weights .* got 1 that are not the same"):
        optimizer.apply([ops.ones(2)], weights[:1])
    with pytest.raises(ValueError, match="got 2 that are not the same"):
        optimizer.apply([ops.ones(2)] * 2, weights[::-1])


def test_a_weight_without_gradient_stays():
    weights = [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    optimizer = AveragedAdam(0.1, average_decay=0.9)
    for _ in range(2):
        optimizer.apply([None, ops.ones(2)], weights)
    np.testing.assert_array_equal(weights[0].numpy(), 1)
    assert np.all(weights[1].numpy() < 0.9)

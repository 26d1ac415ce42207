import keras
import numpy as np
import pytest
from keras import ops
from random_blocks import assert_same, gradients

from models.layers.mlstm_cell import mlstm_cell

BATCH, TIME, HEADS = 3, 11, 2


def plain_loop(q, k, v, i, f, segments):
    """The equations without stabiliser, one step after another; the memory starts empty."""
    k = k / np.sqrt(k.shape[-1])
    c, n, outputs = 0.0 * k[:, :, 0, :, None] * v[:, :, 0, None], 0.0 * k[:, :, 0], []
    for t in range(q.shape[2]):
        fresh = t > 0 and segments[:, :, t] > segments[:, :, t - 1]
        keep = ops.sigmoid(f[:, :, t]) * (1.0 - np.asarray(fresh, "float64"))
        write = ops.exp(i[:, :, t])[..., None]
        c = keep[..., None, None] * c + write[..., None] * k[:, :, t, :, None] * v[:, :, t, None]
        n = keep[..., None] * n + write * k[:, :, t]
        size = ops.maximum(ops.abs(ops.sum(n * q[:, :, t], axis=-1)), 1.0)
        outputs.append(ops.einsum("bhk,bhkv->bhv", q[:, :, t], c) / size[..., None])
    return ops.stack(outputs, axis=2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_chunks_with_resets_have_values_and_gradients_of_the_plain_recurrence(chunk):
    rng = np.random.default_rng(0)
    q, k, v = 2 * rng.normal(size=(3, BATCH, HEADS, TIME, 4))
    i, f = 2 * rng.normal(size=(2, BATCH, HEADS, TIME))
    segments = np.cumsum(rng.random((BATCH, 1, TIME)) < 0.25, axis=-1).astype("int32")
    weight = rng.normal(size=q.shape)

    def chunked(*tensors):
        h, _ = mlstm_cell(*tensors, segments=ops.convert_to_tensor(segments), chunk=chunk)
        return ops.sum(weight * h)

    value, got = gradients(chunked, [q, k, v, i, f])
    plain, expected = gradients(
        lambda *tensors: ops.sum(weight * plain_loop(*tensors, segments)), [q, k, v, i, f]
    )
    assert_same(value, plain, 1e-4)  # the plain one has no epsilon
    for mine, theirs in zip(got, expected, strict=True):
        assert_same(mine, theirs, 1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_chunks_have_values_and_gradients_of_one_chunk_with_a_state_before_and_after(chunk, resets):
    rng = np.random.default_rng(0)
    q, k, v = 2 * rng.normal(size=(3, BATCH, HEADS, TIME, 4))
    i, f = 2 * rng.normal(size=(2, BATCH, HEADS, TIME))
    start = [rng.normal(size=s) for s in [(BATCH, HEADS, 4, 4), (BATCH, HEADS, 4), (BATCH, HEADS)]]
    segments = np.cumsum(rng.random((BATCH, 1, TIME)) < 0.2, axis=-1).astype("int32")
    options = {"segments": ops.convert_to_tensor(segments)} if resets else {}

    def function(length):
        def call(q, k, v, i, f, *state):
            h, last = mlstm_cell(q, k, v, i, f, list(state), chunk=length, **options)
            return sum(ops.sum(ops.sin(x)) for x in (h, *last))

        return gradients(call, [q, k, v, i, f, *start])

    value, got = function(chunk)
    plain, expected = function(TIME)
    assert_same(value, plain, 1e-11)
    for mine, theirs in zip(got, expected, strict=True):
        assert_same(mine, theirs, 1e-10)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="differentiates by tape")
@pytest.mark.parametrize("chunk", [None, 512])
@pytest.mark.parametrize("sign", [-1, 1, None])
def test_values_and_gradients_are_finite_at_any_gates_over_512_steps(sign, chunk):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 1, 512, 4)).astype("float32")
    i, f = (200 * rng.choice([-1, 1], size=(2, 2, 1, 512))).astype("float32")
    if sign:  # all low: an empty memory throughout; all high: nothing is ever forgotten
        i[:], f[:] = 200 * sign, 200

    def function(*tensors):
        h, last = mlstm_cell(*tensors, chunk=chunk)
        return ops.sum(ops.square(h)) + sum(ops.sum(s) for s in last[:2])

    value, parts = tf.function(gradients, autograph=False)(function, [q, k, v, i, f])
    assert np.all(np.isfinite(value)) and all(np.all(np.isfinite(p)) for p in parts)

"""The loop over time, for each backend: one that can be trained under XLA everywhere.

`keras.ops.scan` cannot be differentiated under XLA on TensorFlow, because its loop has no maximum
length. There the loop is a `while_loop` with `maximum_iterations` that reads and writes
TensorArrays, which keeps time and memory of the gradient linear in the length.
"""

from collections.abc import Callable, Sequence

import keras
from keras import ops


def scan(
    step: Callable, state: Sequence, inputs: Sequence, outputs_like: Sequence, reverse: bool = False
) -> tuple[list, list]:
    """Returns the last state and the stacked outputs of a loop over the first axis.

    Args:
        step: from (state, inputs of one step) to (state, outputs), lists of tensors.
        state: tensors before the first step; shapes and dtypes stay.
        inputs: tensors (time, ...).
        outputs_like: for each output a tensor of the shape and dtype that one step gives.
        reverse: whether to go from the last input to the first; outputs keep their places.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _scan_tensorflow(step, list(state), list(inputs), outputs_like, reverse)
    if backend == "jax":
        import jax

        return jax.lax.scan(step, list(state), list(inputs), reverse=reverse)
    return _scan_unrolled(step, list(state), list(inputs), reverse)


def weighted_sums(shares, parts, start):
    """Returns S before each step, stacked, and S after the last, of S' = share S + part.

    The gradient is a loop of the same form backwards; an automatic one, that copies what it saved
    at each step, took six times as long at 128 steps under XLA.

    Args:
        shares: tensor (time, ..., 1, 1).
        parts: tensor (time, ..., rows, columns).
        start: S before the first step, (..., rows, columns).
    """

    def step(state, inputs):
        share, part = inputs
        return [share * state[0] + part], state

    @with_gradient
    def run(shares, parts, start):
        (last,), (before,) = scan(step, [start], [shares, parts], [start])

        def gradient(upstream):
            d_before, d_last = upstream
            (d_start,), (d_parts,) = scan(
                step, [d_last], [shares, d_before], [d_last], reverse=True
            )
            d_shares = ops.sum(d_parts * before, axis=(-2, -1), keepdims=True)
            return d_shares, d_parts, d_start

        return (before, last), gradient

    return run(shares, parts, start)


def with_gradient(run: Callable) -> Callable:
    """Returns a function of tensors whose gradient is written by hand.

    Args:
        run: from tensors to (outputs, gradient): a tuple of tensors, and a function from the
            gradients of these, a tuple, to those of the arguments.
    """
    if keras.backend.backend() == "torch":  # where that of Keras takes a single output alone
        return _with_gradient_torch(run)

    @ops.custom_gradient
    def function(*args):
        outputs, gradient = run(*args)

        def from_upstream(*upstream):  # JAX hands over one tuple
            return gradient(upstream[0] if isinstance(upstream[0], tuple) else upstream)

        return outputs, from_upstream

    return function


def tanh(x):
    """Returns the hyperbolic tangent in the dtype of x: keras.ops.tanh on JAX gives float32."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.numpy.tanh(x)
    return ops.tanh(x)


def _scan_tensorflow(step, state, inputs, outputs_like, reverse):
    import tensorflow as tf

    known = inputs[0].shape[0]
    length = tf.shape(inputs[0])[0] if known is None else known
    sources = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs
    ]
    sinks = [tf.TensorArray(o.dtype, length, element_shape=o.shape) for o in outputs_like]

    def body(count, state, sinks):
        place = length - 1 - count if reverse else count
        state, outputs = step(state, [source.read(place) for source in sources])
        sinks = [sink.write(place, o) for sink, o in zip(sinks, outputs, strict=True)]
        return count + 1, state, sinks

    _, state, sinks = tf.while_loop(
        lambda count, *_: count < length, body, (0, state, sinks), maximum_iterations=length
    )
    return state, [
        tf.ensure_shape(sink.stack(), [known, *o.shape])
        for sink, o in zip(sinks, outputs_like, strict=True)
    ]


def _scan_unrolled(step, state, inputs, reverse):
    places = range(inputs[0].shape[0])
    outputs = [None] * len(places)
    for place in reversed(places) if reverse else places:
        state, outputs[place] = step(state, [x[place] for x in inputs])
    return state, [ops.stack(values) for values in zip(*outputs, strict=True)]


def _with_gradient_torch(run):
    import torch  # pyright: ignore[reportMissingImports]  # only where it is the backend

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            outputs, ctx.gradient = run(*args)
            # Others than those that `gradient` holds: a circle through them would never be freed.
            return tuple(output.detach() for output in outputs)

        @staticmethod
        def backward(ctx, *upstream):
            return ctx.gradient(upstream)

    return Function.apply

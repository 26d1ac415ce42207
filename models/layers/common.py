"""Parts that both xLSTM blocks share: norms, causal convolution, block-diagonal products."""

import math

from keras import initializers, ops
from keras.backend import backend, standardize_dtype

from models.layers.recurrence import tanh, with_gradient

NORM_EPSILON = 1e-5


def width_of(factor: float, units: int) -> int:
    """Returns factor * units rounded up to a multiple of 64, as in the official package."""
    return 64 * math.ceil(factor * units / 64)


def small_init(units: int) -> initializers.Initializer:
    """Returns N(0, 2 / (5 units)) (Nguyen and Salazar 2019)."""
    return initializers.RandomNormal(stddev=math.sqrt(2 / (5 * units)))


def wang_init(units: int, num_blocks: int) -> initializers.Initializer:
    """Returns N(0, (2 / (num_blocks sqrt(units)))^2), for projections back to the stream."""
    return initializers.RandomNormal(stddev=2 / (num_blocks * math.sqrt(units)))


def torch_conv_init(taps: int) -> initializers.Initializer:
    """Returns U(-1/sqrt(taps), 1/sqrt(taps))."""
    return initializers.RandomUniform(-1 / math.sqrt(taps), 1 / math.sqrt(taps))


def scaled(x, scale):
    """Returns x (batch, time, channels) times scale (channels,).

    The gradient for scale is a sum over batch and time, here as products with ones: under XLA on a
    CPU it takes a quarter of the time of a sum into which the factors are fused.
    """

    @with_gradient
    def run(x, scale):
        def gradient(upstream):
            (dy,) = upstream
            return dy * scale, _sum_of_steps(dy * x)

        return (x * scale,), gradient

    return run(x, ops.reshape(scale, (-1,)))[0]  # the value of a variable


def shifted(x, bias):
    """Returns x (batch, time, channels) plus bias (channels,); its gradient is as in `scaled`."""

    @with_gradient
    def run(x, bias):
        def gradient(upstream):
            (dy,) = upstream
            return dy, _sum_of_steps(dy)

        return (x + bias,), gradient

    return run(x, ops.reshape(bias, (-1,)))[0]


def _sum_of_steps(x):
    rows = ops.reshape(ops.cast(x, cell_dtype(x.dtype)), (-1, x.shape[-1]))
    ones = ops.ones((2, ops.shape(rows)[0]), rows.dtype)  # with one row XLA fuses it again
    return ops.cast(ops.matmul(ones, rows)[0], x.dtype)


def layer_norm(x, scale):
    """Returns x (batch, time, channels) normalised over the channels, times scale; no shift."""
    return scaled(_normalised(x), scale)


def _normalised(x):
    """Returns x less its mean and through its deviation, over the last axis.

    Half precision has no room for the slope of 1 / sqrt at NORM_EPSILON, 1.6e7.
    """
    wide = ops.cast(x, cell_dtype(x.dtype))
    # keras.ops.mean on JAX takes float64 through float32.
    mean = ops.sum(wide, axis=-1, keepdims=True) / x.shape[-1]
    centred = wide - mean
    variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / x.shape[-1]
    return ops.cast(centred * ops.rsqrt(variance + NORM_EPSILON), x.dtype)


def soft_cap(x, cap):
    """Returns cap * tanh(x / cap), or x where the cap is None."""
    return x if not cap else cap * tanh(x / cap)


def silu(x):
    """Returns x sigmoid(x).

    The gradient reads the result and not x, which XLA would compute anew for it, and it ends in a
    division, which XLA computes once, and not wherever it is read. There exp(-x) is bounded, so
    that infinity is never multiplied by 0.
    """
    largest = 6e4 if standardize_dtype(x.dtype) == "float16" else 1e38

    @with_gradient
    def run(x):
        decay = ops.exp(-x)
        y = x / (1 + decay)

        def gradient(upstream):
            (dy,) = upstream
            finite = ops.minimum(decay, largest)
            return (dy * (1 + y * finite) / (1 + finite),)

        return (y,), gradient

    return run(x)[0]


def causal_conv(x, kernel, bias, state=None, segments=None):
    """Returns the depthwise causal convolution, (batch, time, channels), and its last inputs.

    Shifted multiply-adds: the convolution op is fourteen times slower under XLA on a CPU.

    Args:
        x: (batch, time, channels).
        kernel: (taps, channels); the last tap is for the current step.
        bias: (channels,).
        state: the taps - 1 inputs before the first, (batch, taps - 1, channels); None: zeros.
        segments: int32 (batch, time), rising by 1 at each reset; None: no reset.
    """
    taps, time = kernel.shape[0], x.shape[1]
    if state is None:
        past = ops.pad(x, ((0, 0), (taps - 1, 0), (0, 0)))
    else:
        past = ops.concatenate([ops.cast(state, x.dtype), x], axis=1)
    if segments is not None:
        before = ops.pad(segments, ((0, 0), (taps - 1, 0)))
    kernel = ops.convert_to_tensor(kernel)
    y = 0
    for tap in range(taps):
        part = scaled(past[:, tap : tap + time], kernel[tap])
        if segments is not None and tap < taps - 1:
            same = before[:, tap : tap + time] == segments
            part = part * ops.cast(same, part.dtype)[..., None]
        y = y + part
    last = past[:, time:]
    if segments is not None:  # inputs before a reset are no past of the steps to come
        same = before[:, time:] == segments[:, -1:]
        last = last * ops.cast(same, last.dtype)[..., None]
    return shifted(y, bias), last


def block_diagonal(kernel):
    """Returns the dense matrix (blocks * in, blocks * out) of kernel (blocks, in, out).

    One dense product with zeros off the blocks beats many small ones on a CPU at usual widths.
    """
    blocks, inner, outer = kernel.shape
    eye = ops.eye(blocks, dtype=kernel.dtype)
    dense = kernel[:, :, None, :] * eye[:, None, :, None]
    return ops.reshape(dense, (blocks * inner, blocks * outer))


def heads_norm(h, scale, num_heads: int):
    """Returns h (batch, time, width) normalised within each head and step, times scale."""
    split = ops.reshape(h, (-1, h.shape[1], num_heads, h.shape[2] // num_heads))
    return scaled(ops.reshape(_normalised(split), (-1, h.shape[1], h.shape[2])), scale)


def cell_dtype(compute_dtype) -> str:
    """Returns the dtype of gates and memory: float32 at least, since they hold logarithms."""
    return "float64" if standardize_dtype(compute_dtype) == "float64" else "float32"


def widest_dtype() -> str:
    """Returns the dtype of sums whose order must not show; JAX has no float64 by default."""
    return "float32" if backend() == "jax" else "float64"

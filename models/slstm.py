"""The sLSTM block (Beck et al. 2024, arXiv 2405.04517, section 2.2 and figure 10).

Glossary of the equations: i, f, z, o gates and cell input; c cell, n normaliser, m stabiliser (a
logarithm), h output; R recurrent weights, block-diagonal by head. Pre-activations are i_pre, ...

    m' = max(log sigmoid(f_pre) + m, i_pre)                               (eq. 15)
    a = exp(log sigmoid(f_pre) + m - m'),  b = exp(i_pre - m')            (eq. 16, 17)
    c' = a c + b tanh(z_pre),  n' = a n + b                               (eq. 8, 9)
    h' = sigmoid(o_pre) c' / n'                                           (eq. 10)

The forget gate is the sigmoid one of the official package, not the exponential variant. An empty
memory has n = 0 and counts as m = -infinity, for every element by itself, so that the first step
gives n' = 1 at any gate value.
"""

import math

import keras
import numpy as np
from keras import initializers, layers, ops

from models.recurrence import scan, tanh
from models.xlstm_parts import (
    block_diagonal,
    causal_conv,
    cell_dtype,
    heads_norm,
    layer_norm,
    small_init,
    soft_cap,
    torch_conv_init,
    wang_init,
    width_of,
)

EMPTY = -1e30  # log of an empty memory: finite, so that differences of two are no NaN


def slstm_cell(pre, recurrent, state, *, cap=None, mask=None, reset=None, valid=None):
    """Returns outputs (batch, time, units) and the last state of the sLSTM recurrence.

    The gradient is written by hand. With r = c / n, alpha = a n / n' and beta = b / n', the cell
    is the weighted mean r' = alpha r + beta z, and h' = o r'. Let dr and e be the gradients for r'
    and log n'. Then those of the logarithms of b and a are

        di = beta (dr (z - r') + e),  dl = alpha (dr (r - r') + e)

    and the step before gets alpha dr and e = dl: there is no difference of large terms, as there
    is between those of c and n. All factors are made outside the loop, and the recurrent weights'
    gradient is one product after it. m is a constant, which is exact: c / n does not depend on it.

    Args:
        pre: gate pre-activations (batch, time, 4 * units), i, f, z, o one after another.
        recurrent: dense matrix (units, 4 * units) from h to the gates.
        state: h, c, n, m, each (batch, units).
        cap: soft cap of the i and f pre-activations; None: none.
        mask: scales of the recurrent input (batch, units), the same at all times; None: ones.
        reset: bool (batch, time), whether the state is emptied before the step; None: never.
        valid: bool (batch, time), false: the step passes the state on; None: always true.
    """
    h, c, n, m = state
    dtype = pre.dtype
    empty = n == 0
    m = ops.where(empty, ops.cast(EMPTY, dtype), m)
    r = c / ops.where(empty, ops.ones_like(n), n)
    mask = ops.ones_like(h) if mask is None else mask
    steps = [ops.transpose(pre, (1, 0, 2))]  # (time, batch, 4 * units)
    for flag in (reset, valid):
        if flag is not None:
            steps.append(ops.cast(ops.transpose(flag)[..., None], dtype))  # (time, batch, 1)
    flagged = reset is not None, valid is not None

    @ops.custom_gradient
    def run(recurrent, mask, h, r, n, m, *steps):
        last, saved = _forward(recurrent, mask, [h, r, n, m], steps, cap, *flagged)

        def gradient(*args, upstream=None):
            if upstream is None:  # JAX hands over one tuple
                upstream = args[0] if len(args) == 1 else args
            dy, dh, dr, dn, _ = upstream
            # log n gets n times what n gets; m is a constant.
            last_gradients = dy, dh, dr, dn * last[2]
            return _backward(last_gradients, saved, recurrent, mask, h, r, n, steps, *flagged)

        return (saved[0], *last), gradient

    y, h, r, n, m = run(recurrent, mask, h, r, n, m, *steps)
    return ops.transpose(y, (1, 0, 2)), [h, r * n, n, m]


def _flags(steps, has_reset: bool, has_valid: bool):
    """Returns pre, keeps (0 at a reset) and valid of the steps; None where there is no flag."""
    rest = list(steps[1:])
    keeps = 1 - rest.pop(0) if has_reset else None
    return steps[0], keeps, rest.pop(0) if has_valid else None


def _forward(recurrent, mask, state, steps, cap, has_reset: bool, has_valid: bool):
    """Returns the last state; for each step h, r, alpha, beta, z, o, slope of log sigmoid(f)."""
    units = state[0].shape[-1]
    like = ops.zeros_like(state[0])

    def step(state, inputs):
        h, r, n, m = state
        pre, keeps, valid = _flags(inputs, has_reset, has_valid)
        if has_reset:
            h, r, n = h * keeps, r * keeps, n * keeps
            m = ops.where(keeps > 0, m, ops.full_like(m, EMPTY))
        gates = pre + ops.matmul(h * mask, recurrent)  # (batch, 4 * units)
        i, f, z, o = (gates[:, k * units : (k + 1) * units] for k in range(4))
        i, f = soft_cap(i, cap), soft_cap(f, cap)
        kept = m + ops.log_sigmoid(f)
        m_new = ops.maximum(kept, i)
        a, b = ops.exp(kept - m_new) * n, ops.exp(i - m_new)
        n_new = a + b
        alpha, beta = a / n_new, b / n_new
        z, o = tanh(z), ops.sigmoid(o)
        r_new = alpha * r + beta * z
        h_new = o * r_new
        slope = ops.sigmoid(-f)
        extra = []
        if cap:
            slope = slope * (1 - ops.square(f / cap))
            extra = [1 - ops.square(i / cap)]
        if has_valid:
            h_new, r_new, n_new, m_new = (
                ops.where(valid > 0, new, old)
                for new, old in zip((h_new, r_new, n_new, m_new), (h, r, n, m), strict=True)
            )
        return [h_new, r_new, n_new, m_new], [h_new, r_new, alpha, beta, z, o, slope, *extra]

    return scan(step, state, steps, [like] * (8 if cap else 7))


def _backward(upstream, saved, recurrent, mask, h0, r0, n0, steps, has_reset, has_valid):
    """Returns the gradients for recurrent, mask, h, r, n, m and the steps."""
    h, r, alpha, beta, z, o, slope, *extra = saved
    _, keeps, valid = _flags(steps, has_reset, has_valid)
    h_before = ops.concatenate([h0[None], h[:-1]])
    r_before = ops.concatenate([r0[None], r[:-1]])
    if has_reset:
        h_before, r_before = h_before * keeps, r_before * keeps
    to_o, to_r = r * o * (1 - o), o
    if has_valid:  # a step that is passed over keeps everything and gets nothing
        alpha = ops.where(valid > 0, alpha, ops.ones_like(alpha))
        beta, slope, to_o, to_r = (
            ops.where(valid > 0, x, ops.zeros_like(x)) for x in (beta, slope, to_o, to_r)
        )
    # di + dl = e: the smaller is computed, the other is the rest. So no rounding errors add up in
    # their sums over time, of which that for the input gate's bias is exactly 0.
    keeps_more = alpha > beta
    lesser = ops.minimum(alpha, beta)
    lesser_r = ops.where(keeps_more, beta * (z - r), alpha * (r_before - r))
    factors = [
        ops.cast(keeps_more, alpha.dtype),
        lesser,
        lesser_r,
        alpha,
        slope,
        beta * (1 - z * z),
        to_o,
        to_r,
    ]
    dy, dh, dr, e = upstream
    backwards = ops.transpose(recurrent)
    options = [x for x in (extra[0] if extra else None, keeps, valid) if x is not None]

    def step(state, inputs):
        dh, dr, e = state
        dy, keeps_more, lesser, lesser_r, alpha, slope, to_z, to_o, to_r, *options = inputs
        dh = dh + dy
        dr = dr + dh * to_r
        few = lesser * e + lesser_r * dr
        di = ops.where(keeps_more > 0, few, e - few)
        dl = e - di
        if extra:
            di = di * options[0]
        gates = ops.concatenate([di, dl * slope, dr * to_z, dh * to_o], axis=-1)
        dh_before = ops.matmul(gates, backwards) * mask
        if has_valid:
            dh_before = dh_before + dh * (1 - options[-1])
        dr = dr * alpha
        if has_reset:
            keeps = options[1] if extra else options[0]
            dh_before, dr, dl = dh_before * keeps, dr * keeps, dl * keeps
        return [dh_before, dr, dl], [gates]

    (dh, dr, e), (gates,) = scan(
        step, [dh, dr, e], [dy, *factors, *options], [ops.zeros_like(steps[0][0])], reverse=True
    )
    safe = ops.where(n0 == 0, ops.ones_like(n0), n0)
    d_recurrent = ops.einsum("tbu,tbg->ug", h_before * mask, gates)
    rest = [ops.zeros_like(x) for x in steps[1:]]
    return d_recurrent, ops.zeros_like(mask), dh, dr, e / safe, e, gates, *rest


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class ForgetBias(initializers.Initializer):
    """Initialises sLSTM forget biases: from 5 down to -7 within each head, later blocks steeper.

    5 - 12 (j / (head_dim - 1))^(0.3 + 1.3 block_index / (num_blocks - 1)), as in the official
    package; exponent 0.3 where there is one block.

    Args:
        num_heads: heads, each with the same values.
        block_index: place of the block in the stack, from 0.
        num_blocks: blocks of the stack.
    """

    def __init__(self, num_heads: int, block_index: int = 0, num_blocks: int = 1):
        self.num_heads, self.block_index, self.num_blocks = num_heads, block_index, num_blocks

    def __call__(self, shape, dtype=None):
        """Returns the biases, of shape (units,)."""
        head_dim = shape[0] // self.num_heads
        ratio = self.block_index / (self.num_blocks - 1) if self.num_blocks > 1 else 0.0
        place = np.arange(head_dim) / max(head_dim - 1, 1)
        values = 5 - 12 * place ** (0.3 + 1.3 * ratio)
        return ops.convert_to_tensor(np.tile(values, self.num_heads), dtype or "float32")

    def get_config(self):
        """Returns the arguments of the initialiser."""
        return {
            "num_heads": self.num_heads,
            "block_index": self.block_index,
            "num_blocks": self.num_blocks,
        }


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class SLSTMBlock(layers.Layer):
    """A residual sLSTM block: norm, convolution, gates, recurrence, head norm; norm, feed-forward.

    x1 = x + HeadNorm(sLSTM(LN(x))), y = x1 + FeedForward(LN(x1)), as in the official package
    2.0.6. Call with `inputs` (batch, time, units); optional call arguments: `initial_state` (a
    list as `initial_state(batch_size)` or an earlier call returns), `return_state`, `reset` (bool
    (batch, time): empty the memory before these steps), `mask` (bool (batch, time): false steps
    change neither the memory nor the output of later steps).

    Args:
        num_heads: heads; must divide units.
        conv_kernel_size: taps of the causal convolution before the i and f gates; 0: none.
        ff_factor: width of the feed-forward part by units, rounded up to a multiple of 64.
        ff_activation: "gelu" (exact) or "silu".
        ff_bias: whether the feed-forward part has biases.
        recurrent_dropout: rate on the recurrent input h, one mask for each sequence (Gal and
            Ghahramani 2016, arXiv 1512.05287).
        kernel_regularizer: of the input, convolution and feed-forward kernels; never of biases,
            norms or recurrent weights.
        gate_soft_cap: soft cap of the i and f pre-activations; None: none.
        block_index: place in the stack, for the initial forget biases.
        ff_units: width of the feed-forward part; None: from `ff_factor`.
        num_blocks: blocks of the stack, for the initial values.
        seed: of the dropout masks.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        num_heads: int = 4,
        conv_kernel_size: int = 4,
        ff_factor: float = 1.3,
        ff_activation: str = "gelu",
        ff_bias: bool = False,
        recurrent_dropout: float = 0.0,
        kernel_regularizer=None,
        gate_soft_cap: float | None = None,
        block_index: int = 0,
        ff_units: int | None = None,
        num_blocks: int = 1,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout must be in [0, 1), got {recurrent_dropout}")
        if ff_activation not in ("gelu", "silu"):
            raise ValueError(f"ff_activation must be 'gelu' or 'silu', got {ff_activation!r}")
        self.num_heads = num_heads
        self.conv_kernel_size = conv_kernel_size
        self.ff_factor = ff_factor
        self.ff_activation = ff_activation
        self.ff_bias = ff_bias
        self.recurrent_dropout = recurrent_dropout
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.gate_soft_cap = gate_soft_cap
        self.block_index = block_index
        self.ff_units = ff_units
        self.num_blocks = num_blocks
        self.seed = seed
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(seed) if recurrent_dropout else None

    def build(self, input_shape):
        """Makes the weights for inputs (batch, time, units)."""
        units, heads = input_shape[-1], self.num_heads
        if units % heads:
            raise ValueError(f"num_heads must divide the width {units}, got {heads}")
        head_dim, inner = units // heads, self.ff_units or width_of(self.ff_factor, units)
        self.units = units
        small, back = small_init(units), wang_init(units, self.num_blocks)
        self.pre_norm_scale = self._vector("pre_norm_scale", units, "ones")
        if self.conv_kernel_size:
            taps = torch_conv_init(self.conv_kernel_size)
            self.conv_kernel = self._kernel("conv_kernel", (self.conv_kernel_size, units), taps)
            self.conv_bias = self._vector("conv_bias", units, taps)
        gates = (heads, head_dim, head_dim)
        self.gate_kernels = [
            self._kernel(f"{gate}_kernel", gates, small_init(units)) for gate in "ifzo"
        ]
        self.recurrent_kernels = [
            self.add_weight(shape=gates, initializer="zeros", name=f"{gate}_recurrent_kernel")
            for gate in "ifzo"
        ]
        forget = ForgetBias(heads, self.block_index, self.num_blocks)
        self.gate_biases = [
            self._vector(f"{gate}_bias", units, forget if gate == "f" else "zeros")
            for gate in "ifzo"
        ]
        self.head_norm_scale = self._vector("head_norm_scale", units, "ones")
        self.ff_norm_scale = self._vector("ff_norm_scale", units, "ones")
        self.ff_gate_kernel = self._kernel("ff_gate_kernel", (units, inner), small)
        self.ff_up_kernel = self._kernel("ff_up_kernel", (units, inner), small_init(units))
        self.ff_down_kernel = self._kernel("ff_down_kernel", (inner, units), back)
        if self.ff_bias:
            self.ff_gate_bias = self._vector("ff_gate_bias", inner, "zeros")
            self.ff_up_bias = self._vector("ff_up_bias", inner, "zeros")
            self.ff_down_bias = self._vector("ff_down_bias", units, "zeros")
        self.built = True

    def _kernel(self, name, shape, initializer):
        return self.add_weight(
            shape=shape, initializer=initializer, regularizer=self.kernel_regularizer, name=name
        )

    def _vector(self, name, width, initializer):
        return self.add_weight(shape=(width,), initializer=initializer, name=name)

    def initial_state(self, batch_size: int):
        """Returns an empty state: h, c, n, m (batch, units), and the last convolution inputs."""
        dtype = cell_dtype(self.compute_dtype)
        zeros = [ops.zeros((batch_size, self.units), dtype) for _ in range(4)]
        past = (batch_size, max(self.conv_kernel_size - 1, 0), self.units)
        return [*zeros, ops.zeros(past, self.compute_dtype)]

    def call(
        self,
        inputs,
        initial_state=None,
        return_state=False,
        reset=None,
        mask=None,
        training=False,
    ):
        """Returns outputs (batch, time, units), and the last state if `return_state`."""
        x = layer_norm(inputs, self.pre_norm_scale)
        y, state = self.transform(x, initial_state, reset, mask, training)
        x = inputs + y
        x = x + self._feed_forward(layer_norm(x, self.ff_norm_scale))
        return (x, state) if return_state else x

    def step(self, inputs, state):
        """Returns outputs (batch, units) of one step, and the next state."""
        y, state = self(inputs[:, None], initial_state=state, return_state=True)
        return y[:, 0], state

    def transform(self, x, state=None, reset=None, mask=None, training=False):
        """Returns the sLSTM layer of x alone, without norm, residual and feed-forward; state."""
        batch = ops.shape(x)[0]
        state = self.initial_state(batch) if state is None else state
        if mask is not None:
            x = x * ops.cast(mask, x.dtype)[..., None]
        a, past = x, state[4]
        if self.conv_kernel_size:
            segments = None if reset is None else ops.cumsum(ops.cast(reset, "int32"), axis=1)
            a, past = causal_conv(x, self.conv_kernel, self.conv_bias, state[4], segments)
            a = ops.silu(a)
        w_i, w_f, w_z, w_o = (ops.convert_to_tensor(k) for k in self.gate_kernels)
        pre = ops.concatenate(
            [
                ops.matmul(a, ops.concatenate([block_diagonal(w_i), block_diagonal(w_f)], -1)),
                ops.matmul(x, ops.concatenate([block_diagonal(w_z), block_diagonal(w_o)], -1)),
            ],
            axis=-1,
        ) + ops.concatenate(self.gate_biases, axis=-1)  # (batch, time, 4 * units)
        recurrent = ops.concatenate(
            [block_diagonal(ops.convert_to_tensor(k)) for k in self.recurrent_kernels], axis=-1
        )
        dtype = cell_dtype(self.compute_dtype)
        h, last = slstm_cell(
            ops.cast(pre, dtype),
            ops.cast(recurrent, dtype),
            state[:4],
            cap=self.gate_soft_cap,
            mask=self._dropout_mask(batch, dtype, training),
            reset=reset,
            valid=mask,
        )
        h = heads_norm(ops.cast(h, self.compute_dtype), self.head_norm_scale, self.num_heads)
        return h, [*last, past]

    def _dropout_mask(self, batch, dtype, training):
        if not (training and self.recurrent_dropout):
            return None
        ones = ops.ones((batch, self.units), dtype)
        return keras.random.dropout(ones, self.recurrent_dropout, seed=self.seed_generator)

    def _feed_forward(self, x):
        gate = ops.matmul(x, self.ff_gate_kernel)
        up = ops.matmul(x, self.ff_up_kernel)
        if self.ff_bias:
            gate, up = gate + self.ff_gate_bias, up + self.ff_up_bias
        if self.ff_activation == "silu":
            gate = ops.silu(gate)
        else:  # keras.ops.gelu on TensorFlow has a float32 constant, 3e-9 off in float64
            gate = 0.5 * gate * (1 + ops.erf(gate * math.sqrt(0.5)))
        down = ops.matmul(gate * up, self.ff_down_kernel)
        return down + self.ff_down_bias if self.ff_bias else down

    def compute_output_shape(self, input_shape, **kwargs):
        """Returns the shape of the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """Returns the arguments of the layer."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "conv_kernel_size": self.conv_kernel_size,
            "ff_factor": self.ff_factor,
            "ff_activation": self.ff_activation,
            "ff_bias": self.ff_bias,
            "recurrent_dropout": self.recurrent_dropout,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "gate_soft_cap": self.gate_soft_cap,
            "block_index": self.block_index,
            "ff_units": self.ff_units,
            "num_blocks": self.num_blocks,
            "seed": self.seed,
        }

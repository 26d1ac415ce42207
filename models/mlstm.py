"""The mLSTM block (Beck et al. 2024, arXiv 2405.04517, section 2.3 and figure 11).

Glossary of the equations: q, k, v query, key, value; i, f gate pre-activations, one of each for
every head; C matrix memory, n normaliser, m stabiliser (a logarithm), h output. With
F(s, t) = sum of log sigmoid(f_u) over s < u <= t:

    h_t = sum_s S(t, s) v_s / (max(|sum_s S(t, s)|, exp(-m_t)) + 1e-6)
    S(t, s) = q_t . k_s / sqrt(head_dim) exp(F(s, t) + i_s - m_t),  m_t = max_s F(s, t) + i_s

which is the recurrence C' = f C + i k v^T, n' = f n + i k, h = C q / max(|n . q|, 1) (eq. 19-27),
stabilised. It is computed chunk by chunk. Within a chunk let F_t be the sum from its first step
and a_s = i_s - F_s: the weight of s at t is exp(a_s - M_t), where M_t is the largest of a_1 .. a_t
and of the m that the chunk began with, and m_t = F_t + M_t. Sums never run over more than a chunk,
so that large gates lose no precision. One chunk is the parallel form, chunks of one step are the
recurrent form.
"""

import math

import keras
import numpy as np
from keras import initializers, layers, ops

from models.recurrence import scan
from models.xlstm_parts import (
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
CELL_EPSILON = 1e-6
_ONE_CHUNK, _CHUNK = 64, 32
_LARGEST_EXPONENT = 80.0


def mlstm_cell(q, k, v, i, f, state=None, *, segments=None, chunk=None):
    """Returns h (batch, heads, time, head_dim) and the last state C, n, m.

    Args:
        q: queries (batch, heads, time, head_dim).
        k: keys, of the same shape.
        v: values, of the same shape.
        i: input gate pre-activations (batch, heads, time).
        f: forget gate pre-activations (batch, heads, time).
        state: C (batch, heads, head_dim, head_dim), key channel first, with 1 / sqrt(head_dim)
            inside, n (batch, heads, head_dim), m (batch, heads); None: empty.
        segments: int32 (batch, 1, time), from 0, rising by 1 where the memory is emptied before a
            step.
        chunk: steps of a chunk, any number. None: up to 64 steps are one chunk, more are chunks
            of 32, whose sums are short enough for gates of any size.
    """
    time = q.shape[2]
    length = min(chunk or (time if time <= _ONE_CHUNK else _CHUNK), time)
    num_chunks = -(-time // length)
    if num_chunks == 1:
        return _one_chunk(q, k, v, i, f, state, segments)
    spare = num_chunks * length - time
    if spare:  # steps that write nothing and forget nothing
        q, k, v = (ops.pad(x, ((0, 0), (0, 0), (0, spare), (0, 0))) for x in (q, k, v))
        i = ops.pad(i, ((0, 0), (0, 0), (0, spare)), constant_values=EMPTY)
        f = ops.pad(f, ((0, 0), (0, 0), (0, spare)), constant_values=-EMPTY)
        if segments is not None:
            last = ops.repeat(segments[..., -1:], spare, axis=-1)
            segments = ops.concatenate([segments, last], axis=-1)
    if state is None:
        state = empty_state(ops.shape(q)[0], q.shape[1], q.shape[3], q.dtype)
    inputs = [_in_chunks(x, num_chunks) for x in (q, k, v, i, f)]
    if segments is not None:
        parts = _in_chunks(segments, num_chunks)
        # Counted from the end of the chunk before, whose memory segment 0 may use.
        before = ops.concatenate([ops.zeros_like(parts[:1, ..., -1:]), parts[:-1, ..., -1:]])
        inputs.append(parts - before)

    def step(state, parts):
        h, state = _one_chunk(*parts[:5], state, parts[5] if len(parts) > 5 else None)
        return state, [h]

    state, (h,) = scan(step, list(state), inputs, [ops.zeros_like(inputs[0][0])])
    h = ops.moveaxis(h, 0, 2)  # (batch, heads, chunks, length, head_dim)
    h = ops.reshape(h, (-1, q.shape[1], num_chunks * length, q.shape[3]))
    return h[:, :, :time], state


def _in_chunks(x, num_chunks: int):
    """Returns x (batch, heads, time, ...) as (chunks, batch, heads, length, ...)."""
    length = x.shape[2] // num_chunks
    return ops.moveaxis(ops.reshape(x, (-1, x.shape[1], num_chunks, length, *x.shape[3:])), 2, 0)


def _one_chunk(q, k, v, i, f, state, segments):
    """Returns h and the state after a chunk."""
    scale = 1 / math.sqrt(q.shape[-1])
    length = f.shape[-1]
    lower = np.tril(np.ones((length, length), bool))  # (t, s)
    # F_t as a product: XLA's cumulative sum and its gradient cost a third of the whole cell.
    forgotten = ops.matmul(ops.log_sigmoid(f), ops.cast(lower.T, f.dtype))  # (..., length)
    # Counted from the middle of the chunk, F is half as large and twice as precise.
    middle = forgotten[..., length // 2 : length // 2 + 1]
    forgotten = forgotten - middle
    a = i - forgotten
    seen = ops.convert_to_tensor(lower)
    if segments is not None:
        seen = seen & (segments[..., :, None] == segments[..., None, :])
    # Below EMPTY, so that steps that are not seen weigh nothing even beside empty ones.
    logs = ops.where(seen, a[..., None, :], ops.cast(2 * EMPTY, a.dtype))  # (..., t, s)
    largest = _running_max(a) if segments is None else ops.max(logs, axis=-1)  # M_t
    if state is not None:
        carried = state[2][..., None] + middle  # (batch, heads, 1)
        if segments is not None:
            carried = ops.where(segments == 0, carried, ops.cast(EMPTY, a.dtype))
        largest = ops.maximum(largest, carried)
    shift = ops.stop_gradient(largest)
    weights = ops.exp(logs - shift[..., None]) * (scale * ops.matmul(q, ops.swapaxes(k, -1, -2)))
    h = ops.matmul(weights, v)  # (..., t, head_dim)
    norm = ops.sum(weights, axis=-1)  # (..., t)
    if state is not None:
        share = ops.exp(carried - shift)  # of the carried memory, (..., t)
        h = h + share[..., None] * ops.matmul(q, state[0])
        norm = norm + share * ops.sum(q * state[1][..., None, :], axis=-1)
    # A constant exponent above the clip: exp would overflow, and 0 * inf in its gradient is NaN.
    least = ops.exp(ops.minimum(-(forgotten + shift), _LARGEST_EXPONENT))
    bound = ops.maximum(ops.abs(norm), least) + CELL_EPSILON
    # h depends on M through the epsilon alone: a factor 1 that has this gradient.
    factor = 1 - ops.stop_gradient(CELL_EPSILON / bound) * (largest - shift)
    h = h * (factor / bound)[..., None]

    write = ops.exp(logs[..., -1, :] - shift[..., -1:]) * scale  # (..., s)
    written = k * write[..., None]
    c = ops.matmul(ops.swapaxes(written, -1, -2), v)
    n = ops.sum(written, axis=-2)
    if state is not None:
        c = c + share[..., -1, None, None] * state[0]
        n = n + share[..., -1, None] * state[1]
    factor = 1 - (largest - shift)[..., -1, None]  # 1, with the gradient of exp(shift - largest)
    return h, [c * factor[..., None], n * factor, forgotten[..., -1] + largest[..., -1]]


def _running_max(a):
    """Returns the largest of a_1 .. a_t for each t, (..., time), in log2(time) steps."""
    step = 1
    while step < a.shape[-1]:
        before = [(0, 0)] * (len(a.shape) - 1) + [(step, 0)]
        a = ops.maximum(a, ops.pad(a[..., :-step], before, constant_values=2 * EMPTY))
        step *= 2
    return a


def empty_state(batch_size, num_heads: int, head_dim: int, dtype):
    """Returns an empty memory C, n, m."""
    return [
        ops.zeros((batch_size, num_heads, head_dim, head_dim), dtype),
        ops.zeros((batch_size, num_heads, head_dim), dtype),
        ops.full((batch_size, num_heads), EMPTY, dtype),
    ]


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class LinearSpacing(initializers.Initializer):
    """Initialises a vector to evenly spaced values from `start` to `stop`."""

    def __init__(self, start: float, stop: float):
        self.start, self.stop = start, stop

    def __call__(self, shape, dtype=None):
        """Returns the values, of shape (width,)."""
        values = np.linspace(self.start, self.stop, shape[0])
        return ops.convert_to_tensor(values, dtype or "float32")

    def get_config(self):
        """Returns the arguments of the initialiser."""
        return {"start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class MLSTMBlock(layers.Layer):
    """A residual mLSTM block: norm, up-projection, convolution, matrix memory, gated projection.

    y = x + W_down((HeadNorm(mLSTM(u)) + skip a) silu(z)) with (u, z) = W_up LN(x) and
    a = silu(conv(u)), as in the official package 2.0.6. Call with `inputs` (batch, time, units);
    optional call arguments: `initial_state` (a list as `initial_state(batch_size)` or an earlier
    call returns), `return_state`, `reset` (bool (batch, time): empty the memory before these
    steps), `mask` (bool (batch, time): false steps change neither the memory nor the output of
    later steps).

    Args:
        num_heads: heads; must divide the inner width.
        proj_factor: inner width by units, rounded up to a multiple of 64.
        qkv_block_size: channels of a block of the block-diagonal q, k and v projections.
        conv_kernel_size: taps of the causal convolution.
        use_bias: whether the projections have biases.
        recurrent_dropout: rate on q, k and v, one mask for each sequence (Gal and Ghahramani
            2016, arXiv 1512.05287); there is no path from h to h.
        kernel_regularizer: of the projection and convolution kernels; never of biases, norms,
            skip or gates.
        gate_soft_cap: soft cap of the gate pre-activations; None: none.
        chunk_size: steps of a chunk; None: see `mlstm_cell`.
        inner_units: inner width; None: from `proj_factor`.
        num_blocks: blocks of the stack, for the initial values.
        seed: of the dropout masks.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        num_heads: int = 4,
        proj_factor: float = 2.0,
        qkv_block_size: int = 4,
        conv_kernel_size: int = 4,
        use_bias: bool = False,
        recurrent_dropout: float = 0.0,
        kernel_regularizer=None,
        gate_soft_cap: float | None = None,
        chunk_size: int | None = None,
        inner_units: int | None = None,
        num_blocks: int = 1,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout must be in [0, 1), got {recurrent_dropout}")
        if conv_kernel_size < 1 or (chunk_size is not None and chunk_size < 1):
            raise ValueError(
                f"conv_kernel_size and chunk_size must be >= 1, got {conv_kernel_size} and "
                f"{chunk_size}"
            )
        self.num_heads = num_heads
        self.proj_factor = proj_factor
        self.qkv_block_size = qkv_block_size
        self.conv_kernel_size = conv_kernel_size
        self.use_bias = use_bias
        self.recurrent_dropout = recurrent_dropout
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.gate_soft_cap = gate_soft_cap
        self.chunk_size = chunk_size
        self.inner_units = inner_units
        self.num_blocks = num_blocks
        self.seed = seed
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(seed) if recurrent_dropout else None

    def build(self, input_shape):
        """Makes the weights for inputs (batch, time, units)."""
        units = input_shape[-1]
        inner = self.inner_units or width_of(self.proj_factor, units)
        for name, number in [
            ("num_heads", self.num_heads),
            ("qkv_block_size", self.qkv_block_size),
        ]:
            if inner % number:
                raise ValueError(f"{name} must divide the inner width {inner}, got {number}")
        self.inner, self.head_dim = inner, inner // self.num_heads
        whole_blocks = self.head_dim % self.qkv_block_size == 0
        self.num_groups = self.num_heads if whole_blocks else 1  # of the q, k and v products
        small, taps = small_init(units), torch_conv_init(self.conv_kernel_size)
        self.norm_scale = self._vector("norm_scale", units, "ones")
        self.up_kernel = self._kernel("up_kernel", (units, 2 * inner), small)
        self.conv_kernel = self._kernel("conv_kernel", (self.conv_kernel_size, inner), taps)
        self.conv_bias = self._vector("conv_bias", inner, taps)
        block = (inner // self.qkv_block_size, self.qkv_block_size, self.qkv_block_size)
        self.qkv_kernels = [self._kernel(f"{n}_kernel", block, small_init(units)) for n in "qkv"]
        self.gate_kernel = self.add_weight(
            shape=(3 * inner, 2 * self.num_heads), initializer="zeros", name="gate_kernel"
        )
        self.input_gate_bias = self._vector(
            "input_gate_bias", self.num_heads, initializers.RandomNormal(stddev=0.1)
        )
        self.forget_gate_bias = self._vector(
            "forget_gate_bias", self.num_heads, LinearSpacing(3.0, 6.0)
        )
        self.head_norm_scale = self._vector("head_norm_scale", inner, "ones")
        self.skip_scale = self._vector("skip_scale", inner, "ones")
        self.down_kernel = self._kernel(
            "down_kernel", (inner, units), wang_init(units, self.num_blocks)
        )
        if self.use_bias:
            self.up_bias = self._vector("up_bias", 2 * inner, "zeros")
            self.qkv_biases = [self._vector(f"{n}_bias", inner, "zeros") for n in "qkv"]
            self.down_bias = self._vector("down_bias", units, "zeros")
        self.built = True

    def _kernel(self, name, shape, initializer):
        return self.add_weight(
            shape=shape, initializer=initializer, regularizer=self.kernel_regularizer, name=name
        )

    def _vector(self, name, width, initializer):
        return self.add_weight(shape=(width,), initializer=initializer, name=name)

    def initial_state(self, batch_size: int):
        """Returns an empty state: C, n, m, and the last inputs of the convolution."""
        dtype = cell_dtype(self.compute_dtype)
        past = ops.zeros((batch_size, self.conv_kernel_size - 1, self.inner), self.compute_dtype)
        return [*empty_state(batch_size, self.num_heads, self.head_dim, dtype), past]

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
        x = layer_norm(inputs, self.norm_scale)
        y, state = self.transform(x, initial_state, reset, mask, training)
        y = inputs + y
        return (y, state) if return_state else y

    def transform(self, x, state=None, reset=None, mask=None, training=False):
        """Returns the mLSTM layer of x alone, without norm and residual; and the last state."""
        x = ops.matmul(x, self.up_kernel)
        if self.use_bias:
            x = x + self.up_bias
        u, z = x[..., : self.inner], x[..., self.inner :]
        if mask is not None:
            u = u * ops.cast(mask, u.dtype)[..., None]
        segments = None if reset is None else ops.cumsum(ops.cast(reset, "int32"), axis=1)
        past = None if state is None else state[3]
        a, past = causal_conv(u, self.conv_kernel, self.conv_bias, past, segments)
        a = ops.silu(a)
        memory = None if state is None else state[:3]
        h, memory = self._memory(a, u, memory, segments, mask, training)
        h = heads_norm(h, self.head_norm_scale, self.num_heads) + self.skip_scale * a
        y = ops.matmul(h * ops.silu(z), self.down_kernel)
        if self.use_bias:
            y = y + self.down_bias
        return y, [*memory, past]

    def step(self, inputs, state):
        """Returns outputs (batch, units) of one step, and the next state."""
        y, state = self(inputs[:, None], initial_state=state, return_state=True)
        return y[:, 0], state

    def _memory(self, a, u, state, segments, mask, training):
        """Returns h (batch, time, inner) and the last C, n, m."""
        # A head's q, k and v depend on its own channels alone: products by head, with the heads
        # first, cost a quarter of those of all channels, and most of the transposes.
        heads, depth, time = self.num_groups, self.inner // self.num_groups, a.shape[1]
        w_q, w_k, w_v = (self._by_group(w) for w in self.qkv_kernels)  # (heads, depth, depth)
        qk = ops.matmul(self._groups_first(a), ops.concatenate([w_q, w_k], axis=-1))
        v = ops.matmul(self._groups_first(u), w_v)
        qkv = ops.concatenate([qk, v], axis=-1)  # (heads, batch * time, 3 * depth)
        if self.use_bias:
            bias = ops.reshape(ops.concatenate(self.qkv_biases, axis=-1), (3, heads, depth))
            qkv = qkv + ops.reshape(ops.transpose(bias, (1, 0, 2)), (heads, 1, 3 * depth))
        if training and self.recurrent_dropout:
            ones = ops.ones((heads, ops.shape(a)[0], 1, 3 * depth), qkv.dtype)
            mask_qkv = keras.random.dropout(ones, self.recurrent_dropout, seed=self.seed_generator)
            qkv = ops.reshape(qkv, (heads, -1, time, 3 * depth)) * mask_qkv
            qkv = ops.reshape(qkv, (heads, -1, 3 * depth))
        to_gates = ops.reshape(self.gate_kernel, (3, heads, depth, 2 * self.num_heads))
        to_gates = ops.transpose(to_gates, (1, 0, 2, 3))
        to_gates = ops.reshape(to_gates, (heads, 3 * depth, 2 * self.num_heads))
        gates = ops.sum(ops.matmul(qkv, to_gates), axis=0)
        gates = ops.reshape(gates, (-1, time, 2 * self.num_heads))
        dtype = cell_dtype(self.compute_dtype)
        gates = ops.cast(gates, dtype) + ops.cast(
            ops.concatenate([self.input_gate_bias, self.forget_gate_bias]), dtype
        )
        gates = ops.transpose(soft_cap(gates, self.gate_soft_cap), (0, 2, 1))
        i, f = gates[:, : self.num_heads], gates[:, self.num_heads :]  # (batch, heads, time)
        if mask is not None:
            i = ops.where(mask[:, None], i, ops.cast(EMPTY, dtype))
            f = ops.where(mask[:, None], f, ops.cast(-EMPTY, dtype))
        qkv = ops.cast(ops.reshape(qkv, (heads, -1, time, 3 * depth)), dtype)
        q, k, v = (self._heads(x, time) for x in ops.split(qkv, 3, axis=-1))
        if segments is not None:
            segments = segments[:, None]
        h, state = mlstm_cell(q, k, v, i, f, state, segments=segments, chunk=self.chunk_size)
        h = ops.reshape(ops.transpose(h, (0, 2, 1, 3)), (-1, time, self.inner))
        return ops.cast(h, self.compute_dtype), state

    def _by_group(self, kernel):
        """Returns a block-diagonal kernel as (groups, depth, depth)."""
        kernel = ops.convert_to_tensor(kernel)  # (blocks, size, size)
        size, blocks = kernel.shape[1], kernel.shape[0] // self.num_groups
        eye = ops.eye(blocks, dtype=kernel.dtype)[:, None, :, None]
        kernel = ops.reshape(kernel, (self.num_groups, blocks, size, 1, size)) * eye
        return ops.reshape(kernel, (self.num_groups, blocks * size, blocks * size))

    def _groups_first(self, x):
        """Returns x (batch, time, inner) as (groups, batch * time, depth)."""
        x = ops.reshape(x, (-1, self.num_groups, self.inner // self.num_groups))
        return ops.transpose(x, (1, 0, 2))

    def _heads(self, x, time):
        """Returns x (groups, batch, time, depth) as (batch, heads, time, head_dim)."""
        if self.num_groups == self.num_heads:
            return ops.transpose(x, (1, 0, 2, 3))
        x = ops.reshape(ops.transpose(x, (1, 2, 0, 3)), (-1, time, self.num_heads, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_shape(self, input_shape, **kwargs):
        """Returns the shape of the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """Returns the arguments of the layer."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "proj_factor": self.proj_factor,
            "qkv_block_size": self.qkv_block_size,
            "conv_kernel_size": self.conv_kernel_size,
            "use_bias": self.use_bias,
            "recurrent_dropout": self.recurrent_dropout,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "gate_soft_cap": self.gate_soft_cap,
            "chunk_size": self.chunk_size,
            "inner_units": self.inner_units,
            "num_blocks": self.num_blocks,
            "seed": self.seed,
        }

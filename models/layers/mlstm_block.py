"""The mLSTM block (Beck et al. 2024, arXiv 2405.04517, section 2.3 and figure 11)."""

import keras
import numpy as np
from keras import initializers, ops

from models.layers.common import (
    causal_conv,
    cell_dtype,
    heads_norm,
    scaled,
    silu,
    small_init,
    soft_cap,
    torch_conv_init,
    wang_init,
    width_of,
)
from models.layers.dropout import dropout_mask
from models.layers.mlstm_cell import EMPTY, empty_state, mlstm_cell
from models.layers.residual_block import ResidualBlock


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class LinearSpacing(initializers.Initializer):
    """Initialises a vector to evenly spaced values from `start` to `stop`."""

    def __init__(self, start: float, stop: float):
        self.start, self.stop = start, stop

    def __call__(self, shape, dtype=None):
        values = np.linspace(self.start, self.stop, shape[0])
        return ops.convert_to_tensor(values, dtype or "float32")

    def get_config(self):
        return {"start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class MLSTMBlock(ResidualBlock):
    """A residual mLSTM block: norm, up-projection, convolution, matrix memory, gated projection.

    y = x + W_down((HeadNorm(mLSTM(u)) + skip a) silu(z)) with (u, z) = W_up LN(x) and
    a = silu(conv(u)), as in the official package 2.0.6. Call arguments and outputs are those of
    `ResidualBlock`. Recurrent dropout is on q, k and v: there is no path from h to h.

    Args:
        num_heads: heads; must divide the inner width.
        proj_factor: inner width by units, rounded up to a multiple of 64.
        qkv_block_size: channels of a block of the block-diagonal q, k and v projections.
        conv_kernel_size: taps of the causal convolution.
        use_bias: whether the projections have biases.
        chunk_size: steps of a chunk; None: see `mlstm_cell`.
        inner_units: inner width; None: from `proj_factor`.
        **kwargs: the other arguments of `ResidualBlock`.

    Examples:
        >>> block = MLSTMBlock(num_heads=2)
        >>> x = np.ones((4, 20, 16), "float32")
        >>> y, state = block(x, return_state=True)
        >>> after, state = block.step(x[:, -1], state)  # one bar more
        >>> tuple(y.shape), tuple(after.shape)
        ((4, 20, 16), (4, 16))
    """

    def __init__(
        self,
        num_heads: int = 4,
        proj_factor: float = 2.0,
        qkv_block_size: int = 4,
        conv_kernel_size: int = 4,
        use_bias: bool = False,
        chunk_size: int | None = None,
        inner_units: int | None = None,
        **kwargs,
    ):
        super().__init__(num_heads=num_heads, conv_kernel_size=conv_kernel_size, **kwargs)
        if conv_kernel_size < 1 or (chunk_size is not None and chunk_size < 1):
            raise ValueError(
                f"conv_kernel_size and chunk_size must be >= 1, got {conv_kernel_size} and "
                f"{chunk_size}"
            )
        self.proj_factor = proj_factor
        self.qkv_block_size = qkv_block_size
        self.use_bias = use_bias
        self.chunk_size = chunk_size
        self.inner_units = inner_units

    def build(self, input_shape):
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

    def initial_state(self, batch_size: int):
        """Returns an empty state: C, n, m, and the last inputs of the convolution."""
        dtype = cell_dtype(self.compute_dtype)
        past = ops.zeros((batch_size, self.conv_kernel_size - 1, self.inner), self.compute_dtype)
        return [*empty_state(batch_size, self.num_heads, self.head_dim, dtype), past]

    def transform(self, x, state=None, reset=None, mask=None, training=False):
        """Returns the mLSTM layer of x alone, without norm and residual; and the last state."""
        up_kernel = ops.convert_to_tensor(self.up_kernel)
        u = ops.matmul(x, up_kernel[:, : self.inner])
        z = ops.matmul(self.kept(x), up_kernel[:, self.inner :])
        if self.use_bias:
            u, z = u + self.up_bias[: self.inner], z + self.up_bias[self.inner :]
        if mask is not None:
            u = u * ops.cast(mask, u.dtype)[..., None]
        segments = None if reset is None else ops.cumsum(ops.cast(reset, "int32"), axis=1)
        past = None if state is None else state[3]
        a, past = causal_conv(u, self.conv_kernel, self.conv_bias, past, segments)
        a = silu(a)
        memory = None if state is None else state[:3]
        h, memory = self._memory(a, u, memory, segments, mask, training)
        h = heads_norm(h, self.head_norm_scale, self.num_heads)
        h = h + scaled(self.kept(a), self.skip_scale)
        y = ops.matmul(h * silu(z), self.down_kernel)
        if self.use_bias:
            y = y + self.down_bias
        return y, [*memory, past]

    def _memory(self, a, u, state, segments, mask, training):
        """Returns h (batch, time or 1, inner) and the last C, n, m."""
        # A head's q, k and v depend on its own channels alone: products by head, with the heads
        # first, cost a quarter of those of all channels, and nothing is transposed for the cell.
        groups, depth = self.num_groups, self.inner // self.num_groups
        batch, time = ops.shape(a)[0], a.shape[1]
        a, u = self._groups_first(a), self._groups_first(u)  # (groups, batch * time, depth)
        qkv = [
            ops.matmul(x, self._by_group(kernel))
            for x, kernel in zip((a, a, u), self.qkv_kernels, strict=True)
        ]
        if self.use_bias:
            biases = (ops.reshape(b, (groups, 1, depth)) for b in self.qkv_biases)
            qkv = [x + bias for x, bias in zip(qkv, biases, strict=True)]
        if training and self.recurrent_dropout:
            shape = (groups, batch, 1, 3 * depth)
            rate, seed = self.recurrent_dropout, self.seed_generator
            masks = ops.split(dropout_mask(shape, rate, seed, qkv[0].dtype), 3, axis=-1)
            qkv = [
                ops.reshape(ops.reshape(x, (groups, -1, time, depth)) * m, (groups, -1, depth))
                for x, m in zip(qkv, masks, strict=True)
            ]
        # Products with the gates first: transposed later, each that reads them would gather them.
        to_gates = ops.reshape(self.gate_kernel, (3, groups, depth, 2 * self.num_heads))
        to_gates = ops.swapaxes(to_gates, -1, -2)
        gates = sum(ops.matmul(to_gates[p], ops.swapaxes(x, -1, -2)) for p, x in enumerate(qkv))
        gates = ops.reshape(ops.sum(gates, axis=0), (2 * self.num_heads, -1, time))
        dtype = cell_dtype(self.compute_dtype)
        biases = ops.concatenate([self.input_gate_bias, self.forget_gate_bias])
        gates = ops.cast(gates, dtype) + ops.cast(ops.reshape(biases, (-1, 1, 1)), dtype)
        gates = soft_cap(gates, self.gate_soft_cap)
        i, f = gates[: self.num_heads], gates[self.num_heads :]  # (heads, batch, time)
        if mask is not None:
            i = ops.where(mask, i, ops.cast(EMPTY, dtype))
            f = ops.where(mask, f, ops.cast(-EMPTY, dtype))
        q, k, v = (ops.cast(self._heads(x, time), dtype) for x in qkv)
        if segments is not None:
            segments = segments[None]
        if state is not None:
            state = [ops.swapaxes(x, 0, 1) for x in state]
        h, state = mlstm_cell(
            q,
            k,
            v,
            i,
            f,
            state,
            segments=segments,
            chunk=self.chunk_size,
            last_only=not self.return_sequences,
        )
        h = ops.reshape(ops.transpose(h, (1, 2, 0, 3)), (-1, h.shape[2], self.inner))
        return ops.cast(h, self.compute_dtype), [ops.swapaxes(x, 0, 1) for x in state]

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
        """Returns x (groups, batch * time, depth) as (heads, batch, time, head_dim)."""
        heads = self.num_heads // self.num_groups
        x = ops.reshape(x, (self.num_groups, -1, time, heads, self.head_dim))
        return x[:, :, :, 0] if heads == 1 else ops.transpose(x[0], (2, 0, 1, 3))

    def get_config(self):
        names = ("proj_factor", "qkv_block_size", "use_bias", "chunk_size", "inner_units")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

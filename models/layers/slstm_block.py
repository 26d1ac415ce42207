"""The sLSTM block (Beck et al. 2024, arXiv 2405.04517, section 2.2 and figure 10)."""

import math

import keras
import numpy as np
from keras import initializers, ops

from models.layers.common import (
    block_diagonal,
    causal_conv,
    cell_dtype,
    heads_norm,
    layer_norm,
    shifted,
    silu,
    small_init,
    torch_conv_init,
    wang_init,
    width_of,
)
from models.layers.dropout import dropout_mask
from models.layers.residual_block import ResidualBlock
from models.layers.slstm_cell import slstm_cell


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
        head_dim = shape[0] // self.num_heads
        ratio = self.block_index / (self.num_blocks - 1) if self.num_blocks > 1 else 0.0
        place = np.arange(head_dim) / max(head_dim - 1, 1)
        values = 5 - 12 * place ** (0.3 + 1.3 * ratio)
        return ops.convert_to_tensor(np.tile(values, self.num_heads), dtype or "float32")

    def get_config(self):
        return {name: getattr(self, name) for name in ("num_heads", "block_index", "num_blocks")}


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class SLSTMBlock(ResidualBlock):
    """A residual sLSTM block: norm, convolution, gates, recurrence, head norm; norm, feed-forward.

    x1 = x + HeadNorm(sLSTM(LN(x))), y = x1 + FeedForward(LN(x1)), as in the official package
    2.0.6. Call arguments and outputs are those of `ResidualBlock`. Recurrent dropout is on the
    recurrent input h.

    Args:
        num_heads: heads; must divide units.
        conv_kernel_size: taps of the causal convolution before the i and f gates; 0: none.
        ff_factor: width of the feed-forward part by units, rounded up to a multiple of 64.
        ff_activation: "gelu" (exact) or "silu".
        ff_bias: whether the feed-forward part has biases.
        ff_units: width of the feed-forward part; None: from `ff_factor`.
        block_index: place in the stack, for the initial forget biases.
        **kwargs: the other arguments of `ResidualBlock`.

    Examples:
        >>> block = SLSTMBlock(num_heads=2, return_sequences=False)
        >>> tuple(block(np.ones((4, 20, 16), "float32")).shape)  # of the last step alone
        (4, 16)
    """

    def __init__(
        self,
        num_heads: int = 4,
        conv_kernel_size: int = 4,
        ff_factor: float = 1.3,
        ff_activation: str = "gelu",
        ff_bias: bool = False,
        ff_units: int | None = None,
        block_index: int = 0,
        **kwargs,
    ):
        super().__init__(num_heads=num_heads, conv_kernel_size=conv_kernel_size, **kwargs)
        if ff_activation not in ("gelu", "silu"):
            raise ValueError(f"ff_activation must be 'gelu' or 'silu', got {ff_activation!r}")
        self.ff_factor = ff_factor
        self.ff_activation = ff_activation
        self.ff_bias = ff_bias
        self.ff_units = ff_units
        self.block_index = block_index

    def build(self, input_shape):
        units, heads = input_shape[-1], self.num_heads
        if units % heads:
            raise ValueError(f"num_heads must divide the width {units}, got {heads}")
        head_dim, inner = units // heads, self.ff_units or width_of(self.ff_factor, units)
        self.units = units
        small, back = small_init(units), wang_init(units, self.num_blocks)
        self.norm_scale = self._vector("norm_scale", units, "ones")
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

    def initial_state(self, batch_size: int):
        """Returns an empty state: h, c, n, m (batch, units), and the last convolution inputs."""
        dtype = cell_dtype(self.compute_dtype)
        zeros = [ops.zeros((batch_size, self.units), dtype) for _ in range(4)]
        past = (batch_size, max(self.conv_kernel_size - 1, 0), self.units)
        return [*zeros, ops.zeros(past, self.compute_dtype)]

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
            a = silu(a)
        kernels = [block_diagonal(ops.convert_to_tensor(k)) for k in self.gate_kernels]
        pre = []  # of i and f, of z and o: (time, batch, 2 * units)
        for inputs, first in (a, 0), (x, 2):
            kernel = ops.concatenate(kernels[first : first + 2], axis=-1)
            bias = ops.concatenate(self.gate_biases[first : first + 2], axis=-1)
            pre.append(shifted(ops.matmul(ops.transpose(inputs, (1, 0, 2)), kernel), bias))
        recurrent = ops.concatenate(
            [block_diagonal(ops.convert_to_tensor(k)) for k in self.recurrent_kernels], axis=-1
        )
        dtype = cell_dtype(self.compute_dtype)
        h, last = slstm_cell(
            [ops.cast(part, dtype) for part in pre],
            ops.cast(recurrent, dtype),
            state[:4],
            cap=self.gate_soft_cap,
            mask=self._dropout_mask(batch, dtype, training),
            reset=None if reset is None else ops.transpose(reset),
            valid=None if mask is None else ops.transpose(mask),
        )
        h = ops.transpose(h, (1, 0, 2))
        h = ops.cast(self.kept(h), self.compute_dtype)
        return heads_norm(h, self.head_norm_scale, self.num_heads), [*last, past]

    def _dropout_mask(self, batch, dtype, training):
        if not (training and self.recurrent_dropout):
            return None
        shape = (batch, self.units)
        return dropout_mask(shape, self.recurrent_dropout, self.seed_generator, dtype)

    def finish(self, x):
        return x + self._feed_forward(layer_norm(x, self.ff_norm_scale))

    def _feed_forward(self, x):
        gate = ops.matmul(x, self.ff_gate_kernel)
        up = ops.matmul(x, self.ff_up_kernel)
        if self.ff_bias:
            gate, up = gate + self.ff_gate_bias, up + self.ff_up_bias
        if self.ff_activation == "silu":
            gate = silu(gate)
        else:  # keras.ops.gelu on TensorFlow has a float32 constant, 3e-9 off in float64
            gate = 0.5 * gate * (1 + ops.erf(gate * math.sqrt(0.5)))
        down = ops.matmul(gate * up, self.ff_down_kernel)
        return down + self.ff_down_bias if self.ff_bias else down

    def get_config(self):
        names = ("ff_factor", "ff_activation", "ff_bias", "ff_units", "block_index")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

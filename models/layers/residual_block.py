"""The Keras layer that both xLSTM blocks are: pre-norm, cell, residual, state, configuration."""

import keras
from keras import layers, ops

from models.layers.common import layer_norm


class ResidualBlock(layers.Layer):
    """A residual block of an xLSTM stack: y = x + transform(LN(x)), then what `finish` adds.

    Call with `inputs` (batch, time, units). Optional call arguments: `initial_state` (a list as
    `initial_state(batch_size)` or an earlier call returns), `return_state`, `reset` (bool
    (batch, time): empty the memory before these steps), `mask` (bool (batch, time): false steps
    change neither the memory nor the output of later steps). Returns (batch, time, units), or of
    the last step alone (batch, units) where `return_sequences` is false; and the last state if
    `return_state`.

    Args:
        num_heads: heads of the cell.
        conv_kernel_size: taps of the causal convolution.
        recurrent_dropout: rate on the recurrent path, one mask for each sequence (Gal and
            Ghahramani 2016, arXiv 1512.05287).
        kernel_regularizer: of the kernels that are not recurrent; never of biases, norms or gates.
        gate_soft_cap: soft cap of the exponential and forget gates' pre-activations; None: none.
        return_sequences: whether every step's output is returned. Without, nothing but the memory
            is computed for the earlier steps.
        num_blocks: blocks of the stack, for the initial values.
        seed: of the dropout masks.
        **kwargs: those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        num_heads: int = 4,
        conv_kernel_size: int = 4,
        recurrent_dropout: float = 0.0,
        kernel_regularizer=None,
        gate_soft_cap: float | None = None,
        return_sequences: bool = True,
        num_blocks: int = 1,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout must be in [0, 1), got {recurrent_dropout}")
        self.num_heads = num_heads
        self.conv_kernel_size = conv_kernel_size
        self.recurrent_dropout = recurrent_dropout
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.gate_soft_cap = gate_soft_cap
        self.return_sequences = return_sequences
        self.num_blocks = num_blocks
        self.seed = seed
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(seed) if recurrent_dropout else None

    def call(
        self,
        inputs,
        initial_state=None,
        return_state=False,
        reset=None,
        mask=None,
        training=False,
    ):
        x = layer_norm(inputs, self.norm_scale)
        y, state = self.transform(x, initial_state, reset, mask, training)
        y = self.finish(self.kept(inputs) + y)
        if not self.return_sequences:
            y = y[:, 0]
        return (y, state) if return_state else y

    def transform(self, x, state=None, reset=None, mask=None, training=False):
        """Returns the cell's layer of normalised x for the steps kept, and the last state."""
        raise NotImplementedError

    def finish(self, x):
        """Returns the block's output for the sum of its input and its cell's layer."""
        return x

    def kept(self, x):
        """Returns x (batch, time, ...) at the steps whose output is wanted."""
        return x if self.return_sequences else x[:, -1:]

    def step(self, inputs, state):
        """Returns outputs (batch, units) of one step, and the next state."""
        y, state = self(inputs[:, None], initial_state=state, return_state=True)
        return ops.reshape(y, ops.shape(inputs)), state

    def compute_output_shape(self, input_shape, **kwargs):
        batch, time, units = input_shape
        return (batch, time, units) if self.return_sequences else (batch, units)

    def compute_output_spec(self, inputs, initial_state=None, return_state=False, **others):
        """Returns outputs, and a state if asked for, without values."""
        if not return_state:
            return super().compute_output_spec(inputs)
        # Keras follows the call, which takes it a while.
        return keras.Operation.compute_output_spec(
            self, inputs, initial_state=initial_state, return_state=True, **others
        )

    def compute_mask(self, inputs, mask=None):
        return mask if self.return_sequences else None

    def get_config(self):
        names = ("num_heads", "conv_kernel_size", "recurrent_dropout", "gate_soft_cap")
        names += ("return_sequences", "num_blocks", "seed")
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        arguments = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **arguments, "kernel_regularizer": regularizer}

    def _kernel(self, name, shape, initializer):
        return self.add_weight(
            shape=shape, initializer=initializer, regularizer=self.kernel_regularizer, name=name
        )

    def _vector(self, name, width, initializer):
        return self.add_weight(shape=(width,), initializer=initializer, name=name)

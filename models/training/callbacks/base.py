"""The callback whose state goes into a checkpoint, and copies of variables."""

from typing import Any

import keras
import numpy as np


def copy_of(variable: keras.Variable) -> np.ndarray:
    """Returns the present value of a variable as an array of its own.

    `ops.convert_to_numpy` warns with NumPy 2 for a variable, because its `__array__` lacks `copy`.
    """
    return np.array(variable.numpy())


class StatefulCallback(keras.callbacks.Callback):
    """A callback that starts anew with each `fit`, unless a state was set just before.

    Keras's own callbacks forget what they know in `on_train_begin`, so that a resumed run would
    differ from one that was never interrupted (`EarlyStopping` counts its patience anew). Here
    `set_state` announces a continuation, and the next `on_train_begin` keeps what was set.
    """

    def __init__(self):
        super().__init__()
        self._continues = False
        self.reset()

    def on_train_begin(self, logs=None):
        """Forgets the last training, unless a state was set for this one."""
        if not self._continues:
            self.reset()
        self._continues = False

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` gave; the next `fit` goes on from there."""
        self.load(state)
        self._continues = True

    def reset(self) -> None:
        """Sets the state of a callback that has seen no training."""

    def get_state(self) -> dict[str, Any]:
        """Returns the state: JSON values, NumPy arrays, and lists and dictionaries of them."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Sets the state from what `get_state` returned."""

"""Adam that also keeps an exponential moving average of the weights, on the device."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class AveragedAdam(keras.optimizers.Adam):
    """Adam with an average of the trainable weights, updated after every step.

    After the first step (t = 0) the averages are the weights. After each later step they move by
    1 - min(average_decay, (1 + t) / (10 + t)) towards them: the ramp forgets the untrained
    weights quickly. The averages are optimizer variables: updated inside the compiled step, so
    exact under `jit_compile` and `steps_per_execution`, and saved and restored with the
    optimizer. Before the first step they mean nothing (all 0), so that weights may be loaded up
    to then.

    Keras's `use_ema` is not used, because it has no ramp, averages before the constraints are
    applied, and overwrites the weights by the averages at the end of every `fit`.

    Args:
        learning_rate: a number or a schedule.
        average_decay: decay of the average for each step, in [0, 1); 0 for plain Adam.
        name: the optimizer's name.
        **kwargs: those of `keras.optimizers.Adam`.

    Raises:
        ValueError: where the decay is out of range, or combined with `use_ema` or
            `gradient_accumulation_steps`, which count steps in another way.
    """

    def __init__(self, learning_rate=0.001, average_decay=0.0, name="averaged_adam", **kwargs):
        if not 0 <= average_decay < 1:
            raise ValueError(f"average_decay must be in [0, 1), got {average_decay}")
        for other in ("use_ema", "gradient_accumulation_steps"):
            if average_decay and kwargs.get(other):
                raise ValueError(f"average_decay cannot be combined with {other}")
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.average_decay = float(average_decay)
        self._averaged = list  # returns the weights that `averages` are of
        self.averages = []

    def build(self, var_list):
        """Adds the averages behind Adam's own variables."""
        if self.built:
            return
        super().build(var_list)
        if self.average_decay:
            weights = list(var_list)
            # Behind a function: Keras would count a list of variables among the optimizer's own,
            # and on JAX a training step must not be given a variable twice.
            self._averaged = lambda: weights
            self.averages = self.add_optimizer_variables(var_list, "average")

    def apply(self, grads, trainable_variables=None):
        """Updates the weights as Adam does, then the averages."""
        super().apply(grads, trainable_variables)
        if not self.average_decay or len(grads) == 0:
            return
        step = ops.cast(self.iterations, "float32") - 1  # apply has counted this step already
        decay = ops.minimum(self.average_decay, (1 + step) / (10 + step))
        decay = ops.where(step > 0, decay, 0.0)
        for average, variable in zip(self.averages, self._averaged(), strict=True):
            share = ops.cast(1 - decay, variable.dtype)
            average.assign_add(share * ops.subtract(variable, average))

    def get_config(self):
        """Returns the arguments of the optimizer."""
        return {**super().get_config(), "average_decay": self.average_decay}

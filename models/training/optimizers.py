"""Adam over one vector of all weights, which also keeps their exponential moving average."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="xlstm_classifier")
class AveragedAdam(keras.optimizers.Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) with an average of the trainable weights.

    The steps are those of `keras.optimizers.Adam`. All weights are updated as one vector: a step
    of many small arrays takes longer to compile and to run.

    After the first step (t = 0) the average is the weights. After each later step it moves by
    1 - min(average_decay, (1 + t) / (10 + t)) towards them: the ramp forgets the untrained
    weights quickly. The average is a variable of the optimizer: updated inside the compiled step,
    so exact under `jit_compile` and `steps_per_execution`, and saved and restored with the
    optimizer. Before the first step it means nothing (all 0), so that weights may be loaded up
    to then.

    Keras's `use_ema` is not used, because it has no ramp, averages before the constraints are
    applied, and overwrites the weights by the averages at the end of every `fit`.

    Args:
        learning_rate: a number or a schedule.
        average_decay: decay of the average for each step, in [0, 1); 0: none is kept.
        beta_1: decay of the first moment of the gradient, in [0, 1).
        beta_2: decay of the second moment, in [0, 1).
        epsilon: added to the root of the second moment.
        global_clipnorm: largest norm of the whole gradient; None: it is not clipped.
        name: the optimizer's name.

    Raises:
        ValueError: where a decay is out of range; and, once built, where the weights have not all
            one dtype.

    Examples:
        >>> weight = keras.Variable([1.0])
        >>> optimizer = AveragedAdam(0.1, average_decay=0.9)
        >>> optimizer.build([weight])
        >>> for _ in range(2):
        ...     optimizer.apply([np.array([3.0], "float32")])
        >>> print(np.round(weight.numpy(), 3), np.round(optimizer.averages()[0], 3))
        [0.8] [0.818]
    """

    def __init__(
        self,
        learning_rate=0.001,
        average_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        global_clipnorm: float | None = None,
        name: str = "averaged_adam",
    ):
        decays = {"average_decay": average_decay, "beta_1": beta_1, "beta_2": beta_2}
        for argument, decay in decays.items():
            if not 0 <= decay < 1:
                raise ValueError(f"{argument} must be in [0, 1), got {decay}")
        super().__init__(learning_rate=learning_rate, global_clipnorm=global_clipnorm, name=name)
        self.average_decay = float(average_decay)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        # Behind a function: Keras would count a list of variables among the optimizer's own, and
        # on JAX a training step must not be given a variable twice.
        self._weights = list

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        weights = list(variables)
        dtypes = sorted({weight.dtype for weight in weights})
        if len(dtypes) > 1:
            raise ValueError(f"the weights must all have one dtype, got {', '.join(dtypes)}")
        self._weights = lambda: weights
        size = sum(int(np.prod(weight.shape)) for weight in weights)
        names = ["momentum", "velocity", *(["average"] if self.average_decay else [])]
        for name in names:
            setattr(self, name, self.add_variable((size,), dtype=(dtypes or [None])[0], name=name))

    def apply(self, grads, trainable_variables=None):
        """Updates the weights, then their average.

        Args:
            grads: gradients of all weights, in the order in which the optimizer was built; None
                counts as 0.
            trainable_variables: the weights; needed where the optimizer is not built.

        Raises:
            ValueError: where the weights are others than those that the optimizer was built with.
        """
        if not self.built:
            self.build(trainable_variables)
        weights = self._weights()
        variables = weights if trainable_variables is None else list(trainable_variables)
        if [id(weight) for weight in variables] != [id(weight) for weight in weights]:
            raise ValueError(
                f"all {len(weights)} weights that the optimizer was built with are updated, in "
                f"that order; got {len(variables)} that are not the same"
            )
        if not weights:
            return
        dtype = self.momentum.dtype
        pairs = zip(grads, weights, strict=True)
        gradient = _vector([ops.zeros(w.shape, dtype) if g is None else g for g, w in pairs])
        gradient = ops.cast(gradient, dtype)
        if self.global_clipnorm is not None:
            norm = ops.sqrt(ops.sum(ops.square(gradient)))
            gradient = gradient * (self.global_clipnorm / ops.maximum(norm, self.global_clipnorm))
        step = ops.cast(self.iterations, dtype)
        rate = ops.cast(self.learning_rate, dtype) * ops.sqrt(1 - ops.power(self.beta_2, step + 1))
        rate = rate / (1 - ops.power(self.beta_1, step + 1))
        momentum = self.momentum + (gradient - self.momentum) * (1 - self.beta_1)
        velocity = self.velocity + (ops.square(gradient) - self.velocity) * (1 - self.beta_2)
        self.momentum.assign(momentum)
        self.velocity.assign(velocity)
        values = _vector([ops.convert_to_tensor(weight) for weight in weights])
        values = values - rate * momentum / (ops.sqrt(velocity) + self.epsilon)
        for weight, value in zip(weights, _parts(values, weights), strict=True):
            weight.assign(value if weight.constraint is None else weight.constraint(value))
        if self.average_decay:
            if any(weight.constraint is not None for weight in weights):
                values = _vector([ops.convert_to_tensor(weight) for weight in weights])
            decay = ops.minimum(self.average_decay, (1 + step) / (10 + step))
            decay = ops.cast(ops.where(step > 0, decay, 0.0), dtype)
            self.average.assign(self.average + (1 - decay) * (values - self.average))
        self.iterations.assign_add(1)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]

    def averages(self) -> list[np.ndarray]:
        """Returns the average of each weight."""
        return [np.array(part) for part in _parts(self.average.numpy(), self._weights())]

    def get_config(self):
        names = ("average_decay", "beta_1", "beta_2", "epsilon")
        inherited = super().get_config()
        kept = ("name", "learning_rate", "global_clipnorm")
        return {**{n: inherited[n] for n in kept}, **{n: getattr(self, n) for n in names}}


def _vector(arrays):
    return ops.concatenate([ops.reshape(array, (-1,)) for array in arrays])


def _parts(vector, weights):
    """Returns the parts of a vector in the shapes of the weights."""
    ends = np.cumsum([int(np.prod(weight.shape)) for weight in weights])
    parts = ops.split(vector, ends[:-1].tolist()) if len(weights) > 1 else [vector]
    return [ops.reshape(part, w.shape) for part, w in zip(parts, weights, strict=True)]

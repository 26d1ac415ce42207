"""Predicts on JAX with all devices of all processes, a part of the windows on each."""

import weakref

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_steps: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # compiled prediction of each model


def predict(model, windows) -> np.ndarray:
    """Returns the outputs of a distributed model, with the windows divided over all devices.

    Args:
        model: made after `distribute`.
        windows: in order, with `num_rows` and `part(number, count)`, as in
            `data.batches.datasets`.

    Returns:
        the same outputs in all processes, (windows, ...).
    """
    count, num_rows = jax.process_count(), windows.num_rows
    size = -(-num_rows // count)
    part = windows.part(jax.process_index(), count)
    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("rows",))
    everywhere, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("rows",)))
    if model not in _steps:
        same = weakref.proxy(model)  # the dictionary must not keep it
        _steps[model] = jax.jit(lambda *state: same.stateless_call(*state, training=False)[0])
    weights = [
        [jax.device_put(np.asarray(variable.value), everywhere) for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    like = model.outputs[0]
    made, outputs = 0, np.zeros((size, *like.shape[1:]), like.dtype)
    at_once = -(-part.batch_size // len(devices)) * len(devices)
    for index in range(len(part)):
        x = part[index][0]
        full = np.zeros((at_once, *x.shape[1:]), x.dtype)  # another shape would be compiled again
        full[: len(x)] = x
        answers = _steps[model](*weights, jax.device_put(full, divided))
        kept = min(len(x), size - made)
        outputs[made : made + kept] = np.asarray(answers)[:kept]
        made += kept
    return process_allgather(outputs, tiled=True)[:num_rows] if count > 1 else outputs

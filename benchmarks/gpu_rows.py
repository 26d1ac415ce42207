"""What benchmarks/gpu.py measures in a process with JAX, each a function of plain numbers."""

import statistics
import time
from dataclasses import asdict, replace

import numpy as np
from gpu_work import work_of

_SECONDS = 1.5  # of calls to take the median of
_MOST_CALLS = 50
FEATURES, SPARE_BARS = 30, 29  # of the default market; a sequence's bars before its labels


def median_seconds(call, seconds: float = _SECONDS) -> float:
    """Returns the median seconds of a call that waits for its end, after two that are not timed."""
    call()
    call()
    times = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < _MOST_CALLS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def ceilings(side: int, numbers: int, turns: int) -> dict:
    """Returns what the device can do, as `gpu_work.Ceilings` has it, and what it is.

    Args:
        side: of the square matrices.
        numbers: float32 ones that are copied.
        turns: of the loop, and kernels in a row.
    """
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)

    def rate(dtype: str) -> float:
        a, b = (jax.random.normal(jax.random.key(k), (side, side), dtype) for k in (0, 1))
        return 2 * side**3 / median_seconds(lambda: _end(product(a, b)))

    x = jax.random.normal(jax.random.key(0), (numbers,))
    copy = jax.jit(lambda x: x + 1)
    small = jax.random.normal(jax.random.key(0), (64, 64)) / 8

    def turn(h, _):
        return jnp.tanh(h @ small), None

    @jax.jit
    def loop(h):
        return jax.lax.scan(turn, h, length=turns)[0]

    @jax.jit
    def row(h):
        for _ in range(turns // 4):
            h = h @ small
        return h

    return {
        "flops": {dtype: rate(dtype) for dtype in ("float32", "bfloat16")},
        "bandwidth": 8 * numbers / median_seconds(lambda: _end(copy(x))),
        "turn": median_seconds(lambda: _end(loop(small))) / turns,
        "launch": median_seconds(lambda: _end(row(small))) / (turns // 4),
        "step": _least_step(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def step(units: int, batch: int, policy: str, labels: int = 60, heads: int = 4) -> dict:
    """Returns seconds and work of a training step of the default run, its bars on the device.

    It is Keras's own step: dropout, loss, clipped Adam, averaged weights, metrics and all.

    Args:
        units: width of the network.
        batch: sequences.
        policy: of Keras, "float32" or "mixed_bfloat16".
        labels: of a sequence.
        heads: of a block.
    """
    import jax
    import keras

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    bars = labels + min(labels, SPARE_BARS + 1) - 1
    model = _classifier(units, bars, labels, heads)
    rng = np.random.default_rng(0)
    x = jax.device_put(rng.normal(size=(batch, bars, FEATURES)).astype("float32"))
    y = jax.device_put(rng.integers(0, 3, (batch, labels)).astype("int32"))
    seconds = _step_seconds(model, x, y)

    def loss(weights, others, x, y):
        logits, _ = model.stateless_call(weights, others, x, training=True)
        return model.loss(y, logits)

    parts = model.trainable_variables, model.non_trainable_variables
    given = ([variable.value for variable in part] for part in parts)
    work = work_of(jax.grad(loss), *given, x, y)
    return {"seconds": seconds, "count": batch * labels, "work": asdict(replace(work, steps=1))}


def _step_seconds(model, x, y) -> float:
    """Returns the median seconds of a step of `fit`, where its batch lies on the device."""
    import keras

    times = []

    def look(*_):
        _end([variable.value for variable in model.trainable_variables])
        times.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_epoch_begin=look, on_epoch_end=look)

    def trained(steps: int) -> float:
        batches = ((x, y) for _ in range(steps))
        model.fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[clock])
        return (times[-1] - times[-2]) / steps

    trained(2)
    steps = int(min(max(_SECONDS / trained(3), 3), 200))
    return statistics.median(trained(steps) for _ in range(3))


def _least_step() -> float:
    """Returns the seconds of a step of a model of one weight: what Keras takes by itself."""
    import jax
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse", jit_compile=True)
    return _step_seconds(model, *(jax.device_put(np.ones((1, 1), "float32")) for _ in "xy"))


def _classifier(units: int, bars: int, labels: int, heads: int):
    """Returns the compiled network of the default run, by the flags of now."""
    from config import load
    from recipe.run.settings import network_settings, training_settings

    flags = load(XLSTM_UNITS=units, XLSTM_HEADS=heads)
    network, training = network_settings(flags), training_settings(flags)
    model = network.build(bars, FEATURES, class_prior=[0.3, 0.4, 0.3], labels_per_sequence=labels)
    optimizer = training.optimizer.build(training.epochs, 1000)
    model.compile(optimizer, training.loss.build(3), jit_compile=True)
    return model


def mlstm(width: int, heads: int, batch: int, time_steps: int, chunk: int | None) -> dict:
    """Returns seconds and work of the mLSTM cell, forward and backward, in float32.

    Args:
        width: of q, k and v of a head.
        heads: of each sequence.
        batch: sequences.
        time_steps: of each.
        chunk: steps of a chunk; None: as the product chooses it.
    """
    from models.layers.mlstm_cell import mlstm_cell

    def loss(q, k, v, i, f, upstream):
        return (mlstm_cell(q, k, v, i, f, chunk=chunk)[0] * upstream).sum()

    shape = (heads, batch, time_steps)
    wide, narrow = (*shape, width), shape
    arrays = _normal(wide, wide, wide, narrow, narrow, wide)
    arrays[4] = arrays[4] + 4  # remember for some fifty steps, as trained ones do
    return _both_ways(loss, range(5), arrays, batch * time_steps)


def slstm(width: int, heads: int, batch: int, time_steps: int) -> dict:
    """Returns seconds and work of the sLSTM cell, forward and backward, in float32.

    Args:
        width: of a head.
        heads: of each sequence.
        batch: sequences.
        time_steps: of each.
    """
    import jax.numpy as jnp

    from models.layers.common import block_diagonal
    from models.layers.slstm_cell import slstm_cell

    units = width * heads

    def loss(i_and_f, z_and_o, kernels, upstream):
        recurrent = jnp.concatenate([block_diagonal(kernel) for kernel in kernels], axis=-1)
        empty = [jnp.zeros((batch, units))] * 4
        return (slstm_cell((i_and_f, z_and_o), recurrent, empty)[0] * upstream).sum()

    two, one = (time_steps, batch, 2 * units), (time_steps, batch, units)
    arrays = _normal(two, two, (4, heads, width, width), one)
    arrays[2] = arrays[2] / width**0.5
    return _both_ways(loss, range(3), arrays, batch * time_steps)


def _both_ways(loss, wanted, arrays, count: int) -> dict:
    import jax

    gradient = jax.grad(loss, argnums=tuple(wanted))
    work = work_of(gradient, *arrays)
    compiled = jax.jit(gradient)
    seconds = median_seconds(lambda: _end(compiled(*arrays)))
    return {"seconds": seconds, "count": count, "work": asdict(work)}


def _normal(*shapes) -> list:
    import jax

    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def _end(arrays):
    import jax

    return jax.block_until_ready(arrays)


KINDS = {"ceilings": ceilings, "step": step, "mlstm": mlstm, "slstm": slstm}

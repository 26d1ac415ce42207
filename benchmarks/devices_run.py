"""What benchmarks/devices.py measures, in a process of its own: one of a training's, or the only.

Prints a line of JSON where it is process 0.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import config  # noqa: E402
from recipe.cli.backend import prepare_process, start_backend  # noqa: E402
from recipe.devices import processes  # noqa: E402

REDUCED = 100  # times that the gradients are reduced alone
MADE = 30  # batches that are made alone
READ = 500  # batches that are read before memory is looked at


def main(options: argparse.Namespace) -> dict:
    """Returns the figures of a part."""
    prepare_process()
    import jax
    import keras

    start_backend()
    keras.mixed_precision.set_dtype_policy(options.dtype)
    found = {"device": jax.devices()[0].device_kind, "platform": jax.default_backend()}
    flags = config.load(options.set)
    from recipe.run.market import read_market
    from recipe.run.settings import run_settings

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        before = memory()
        market, _info = read_market(options.data, flags)
        if options.part == "memory":
            return found | memory_of(run_settings(flags), market, before)
        return found | speed_of(run_settings(flags), market, options.epochs)


def speed_of(settings, market, epochs: int) -> dict:
    """Returns how fast a training is, what the reduction of its gradients takes, and its rows."""
    import keras
    import numpy as np

    from recipe.run.training import assemble

    training = assemble(settings, market, 0)
    batches, model = training.batches, training.classifier
    tell = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: batches.set_epoch(epoch))
    model.fit(
        batches.stream(),
        epochs=1 + epochs,
        shuffle=False,
        verbose=0,
        callbacks=[tell, training.timer],
    )
    seconds = [epoch["training"] for epoch in training.timer.epochs[1:]]
    shapes = [variable.shape for variable in model.trainable_variables]
    return {
        "labels_per_second": batches.labels_per_epoch / statistics.median(seconds),
        "step_ms": 1e3 * statistics.median(seconds) / len(batches),
        "parameters": int(sum(np.prod(shape) for shape in shapes)),
        "reduce_ms": 1e3 * reduction(shapes),
        "own_rows_ms": 1e3 * making(batches, batches.rows),
        "all_rows_ms": 1e3 * making(batches, slice(None)),
    }


def reduction(shapes) -> float:
    """Returns the seconds that the mean of gradients over all devices takes, alone."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.devices()
    if len(devices) == 1:
        return 0.0
    mesh = Mesh(np.array(devices), ("device",))
    own, same = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("device",), ()))
    gradients = [
        jax.make_array_from_callback(
            (len(devices), *shape),
            own,
            lambda _index, shape=shape: np.ones((1, *shape), np.float32),
        )
        for shape in shapes
    ]
    mean = jax.jit(lambda tree: [each.mean(axis=0) for each in tree], out_shardings=same)
    taken = []
    for _ in range(REDUCED):
        begun = time.perf_counter()
        jax.block_until_ready(mean(gradients))
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def making(batches, own: slice) -> float:
    """Returns the seconds that these rows of a batch take to make."""
    before, batches.rows = batches.rows, own
    taken = []
    for number in range(MADE):
        begun = time.perf_counter()
        batches[number % len(batches)]
        taken.append(time.perf_counter() - begun)
    batches.rows = before
    return statistics.median(taken)


def memory_of(settings, market, before: dict[str, float]) -> dict:
    """Returns the megabytes of every process after it has read many batches of its rows."""
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    from recipe.run.training import assemble

    with_market = memory()
    batches = assemble(settings, market, 0).batches
    for number in range(READ):
        batches[number % len(batches)]
    now = memory()
    own = np.array([*(each["anonymous"] for each in (before, with_market, now)), now["file"]])
    each = np.atleast_2d(process_allgather(own) if jax.process_count() > 1 else own)
    rows = {
        name: getattr(market, name).nbytes / 1e6
        for name in ("timestamps", "symbols", "forward_return", "trade_return")
    }
    return {
        "rows": len(market.symbols),
        "features_mb": market.features.nbytes / 1e6,
        "columns_mb": sum(rows.values()),
        "processes": [
            dict(zip(("before", "market", "batches", "file"), values.tolist(), strict=True))
            for values in each
        ],
    }


def memory() -> dict[str, float]:
    """Returns the resident megabytes of this process: its own, and those of files it maps."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {"anonymous": sizes["Anonymous"], "file": sizes["Rss"] - sizes["Anonymous"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["speed", "memory"], default="speed")
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    asked = parser.parse_args()
    with processes.together(asked.coordinator, asked.processes, asked.process, str):
        figures = main(asked)
        if processes.is_first():
            print("figures", json.dumps(figures), flush=True)

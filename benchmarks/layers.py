"""Measures the xLSTM blocks beside the official package and plain LSTMs; writes a table.

`python benchmarks/layers.py` starts one process for each contestant and lets them run in turns, one
at a time, so that all meet the same moods of the machine; ratios within a run count, not times of
different runs. It needs the `bench` extra and `pip install --no-deps xlstm==2.0.6`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from recipe.cli.backend import prepare_process  # noqa: E402

prepare_process()  # as train_model.py does; for each contestant

from layers_peers import (  # noqa: E402
    CLASSES,
    FEATURES,
    HEADS,
    LENGTH,
    UNITS,
    data,
    theirs,
)

from core.memory import keep_freed_memory  # noqa: E402

BATCHES, BLOCKS, GROWTH = (64, 256), ("m", "s", "ms"), (64, 256, 1024, 4096)
GROWTH_BATCH = 16
OURS = ("ours, XLA", "ours, graph")
EVERY_STEP = (
    "ours, XLA, every step"  # the last block too computes what the classifier does not read
)
OFFICIAL = ("official", "official, stacked once")
SCALE = ("keras LSTM", "torch LSTM")


def our_model(blocks, length, every_step):
    """Returns the Keras model."""
    import keras

    from models.layers.mlstm_block import MLSTMBlock
    from models.layers.slstm_block import SLSTMBlock
    from models.xlstm_rl_model import build_xlstm_classifier

    keras.utils.set_random_seed(0)
    inputs = keras.Input((length, FEATURES))
    if blocks == "lstm":
        x = keras.layers.LSTM(UNITS)(keras.layers.Dense(UNITS)(inputs))
    elif every_step:
        x = keras.layers.Dense(UNITS)(inputs)
        for block in (SLSTMBlock if letter == "s" else MLSTMBlock for letter in blocks):
            x = block(HEADS, num_blocks=len(blocks))(x)
        x = keras.layers.LayerNormalization(epsilon=1e-5)(x[:, -1])
    else:
        return build_xlstm_classifier(
            length, FEATURES, units=UNITS, blocks=blocks, num_heads=HEADS, num_classes=CLASSES
        )
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def ours(blocks, batch, length, jit_compile, every_step):
    """Returns functions for a training step and for inference."""
    import keras
    import tensorflow as tf

    from models.training.optimizers import AveragedAdam

    model = our_model(blocks, length, every_step)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = AveragedAdam(1e-3, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    x, y = (tf.constant(a) for a in data(batch, length))

    @tf.function(jit_compile=jit_compile)
    def train(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients)
        return value

    infer = tf.function(lambda x: model(x, training=False), jit_compile=jit_compile)
    return lambda: float(train(x, y)), lambda: infer(x).numpy()


def make(contestant, blocks, batch, length):
    if contestant in (*OURS, EVERY_STEP):
        return ours(blocks, batch, length, contestant != OURS[1], contestant == EVERY_STEP)
    if contestant in OFFICIAL:
        return theirs(blocks, batch, length, contestant == OFFICIAL[1])
    if contestant == "torch LSTM":
        return theirs("lstm", batch, length, False)
    return ours("lstm", batch, length, True, False)


def work(contestant: str) -> None:
    """Answers requests on standard input, one JSON line each, until it ends."""
    keep_freed_memory()  # this, too
    made = {}
    for line in sys.stdin:
        blocks, batch, length, kind, calls = key = json.loads(line)
        key = tuple(key[:3])
        if key not in made:
            made[key] = make(contestant, *key)
        function = made[key][kind == "inference"]
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        # ru_maxrss would count the parent too: a child begins with its size.
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps([statistics.median(times), peak]), flush=True)


class Worker:
    """A contestant's process.

    Args:
        contestant: its name.
    """

    def __init__(self, contestant: str):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", contestant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, blocks, batch, length, kind, calls):
        """Returns the median seconds of some calls, and the process's peak memory in MiB."""
        self.process.stdin.write(json.dumps([blocks, batch, length, kind, calls]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return tuple(json.loads(answer)) if answer else (float("nan"), float("nan"))

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def compare(rounds: int, calls: int):
    """Returns the median seconds by (contestant, blocks, batch, kind), and those of first calls."""
    workers = {name: Worker(name) for name in (*OURS, EVERY_STEP, *OFFICIAL, *SCALE)}
    cases = [
        (name, blocks, batch, kind)
        for blocks in (*BLOCKS, "lstm")
        for batch in BATCHES
        for kind in ("training", "inference")
        for name in workers
        if (blocks == "lstm") == (name in SCALE) and not (name == OFFICIAL[1] and "s" not in blocks)
    ]
    first, times = {}, {case: [] for case in cases}
    for name, blocks, batch, kind in cases:
        first[name, blocks, batch, kind], _ = workers[name].ask(blocks, batch, LENGTH, kind, 1)
        workers[name].ask(blocks, batch, LENGTH, kind, 1)
    for _ in range(rounds):
        for name, blocks, batch, kind in cases:
            seconds, _ = workers[name].ask(blocks, batch, LENGTH, kind, calls)
            times[name, blocks, batch, kind].append(seconds)
    for worker in workers.values():
        worker.close()
    return {case: statistics.median(values) for case, values in times.items()}, first


def grow(contestant: str, lengths, rounds: int):
    """Returns for each length the seconds of a training step and the peak memory in MiB."""
    workers = {length: Worker(contestant) for length in lengths}
    times, peaks = {length: [] for length in lengths}, {}
    for turn in range(rounds + 1):
        for length, worker in workers.items():
            seconds, peaks[length] = worker.ask("ms", GROWTH_BATCH, length, "training", 1 + turn)
            times[length].append(seconds)
    for worker in workers.values():
        worker.close()
    return {length: (statistics.median(times[length][1:]), peaks[length]) for length in lengths}


def products(blocks: str, batch: int) -> float:
    """Returns seconds of the matrix products of a training step alone: three for each weight."""
    import tensorflow as tf

    inner, ff = 2 * UNITS, 128
    dense = {"m": [(UNITS, 2 * inner), (inner, UNITS)], "s": [(UNITS, 2 * ff), (ff, UNITS)]}
    rows = batch * LENGTH
    total = 0.0
    pairs = [(FEATURES, UNITS)] + [pair for letter in blocks for pair in dense[letter]]
    if "m" in blocks:  # q, k, v in blocks of 4, as one small product per block; gates
        pairs += [(4, 3 * inner), (3 * inner, 2 * HEADS)]
    if "s" in blocks:  # input gates by head
        pairs += [(UNITS // HEADS, 4 * UNITS)]
    for inside, outside in pairs:
        total += 3 * _product_seconds(tf, (rows, inside), (inside, outside))
    head = inner // HEADS
    if "m" in blocks:  # q k^T and S v: each once forwards and twice backwards
        shape = (batch * HEADS, LENGTH, head)
        total += 6 * _product_seconds(tf, shape, (batch * HEADS, head, LENGTH))
    if "s" in blocks:  # the recurrent product of every step, forwards and backwards; then one
        steps = 2 * LENGTH
        total += _product_seconds(tf, (batch, UNITS // HEADS), (16, 4 * UNITS), steps)
        total += _product_seconds(tf, (UNITS // HEADS, rows), (rows, 4 * UNITS))
    return total


def _product_seconds(tf, left, right, repeats=1) -> float:
    a, b = tf.random.normal((repeats, *left)), tf.random.normal(right)
    function = tf.function(lambda a, b: [tf.matmul(x, b) for x in tf.unstack(a)][-1])
    if repeats > 1:
        function = tf.function(lambda a, b: tf.stack([x @ b for x in tf.unstack(a)]))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        function(a, b).numpy()
        times.append(time.perf_counter() - start)
    return min(times)


def table(times, first) -> str:
    """Returns the comparison in Markdown."""
    lines = ["| blocks | batch | step | ours, XLA | ours, graph | official | ratio | every step |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---:|"]
    for blocks in BLOCKS:
        for batch in BATCHES:
            for kind in ("training", "inference"):
                mine = [times[name, blocks, batch, kind] for name in OURS]
                other = min(
                    times.get((name, blocks, batch, kind), float("inf")) for name in OFFICIAL
                )
                cells = [f"{1e3 * s:.1f} ({batch / s:,.0f}/s)" for s in (*mine, other)]
                cells.append(f"{other / min(mine):.2f}")
                cells.append(f"{other / times[EVERY_STEP, blocks, batch, kind]:.2f}")
                lines.append(f"| {blocks} | {batch} | {kind} | {' | '.join(cells)} |")
    lines += ["", "| for scale | batch | training ms | inference ms |", "|---|---:|---:|---:|"]
    for name in SCALE:
        for batch in BATCHES:
            pair = [times[name, "lstm", batch, kind] for kind in ("training", "inference")]
            lines.append(f"| {name} | {batch} | {1e3 * pair[0]:.1f} | {1e3 * pair[1]:.1f} |")
    compile_seconds = max(first[OURS[0], "ms", batch, "training"] for batch in BATCHES)
    lines += [
        "",
        f"First training call of `ms` with XLA, compilation in it: {compile_seconds:.1f} s.",
    ]
    return "\n".join(lines)


def growth_table(growth) -> str:
    """Returns the growth in Markdown."""
    lines = ["| contestant | time steps | step ms | µs per token | peak MiB | KiB per token more |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, rows in growth.items():
        before = None
        for length, (seconds, peak) in rows.items():
            token = 1e6 * seconds / (length * GROWTH_BATCH)
            cells = [name, str(length), f"{1e3 * seconds:.0f}", f"{token:.1f}", f"{peak:.0f}", ""]
            if before is not None:
                more = 1024 * (peak - before[1]) / (GROWTH_BATCH * (length - before[0]))
                cells[-1] = f"{more:.0f}"
            before = length, peak
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", metavar="CONTESTANT", help="used by itself: a child process")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--part", choices=["compare", "growth", "products"], help="only this")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    if arguments.part in (None, "compare"):
        print(table(*compare(arguments.rounds, arguments.calls)), flush=True)
    if arguments.part in (None, "products"):
        for blocks in BLOCKS:
            figures = [f"{batch}: {1e3 * products(blocks, batch):.1f} ms" for batch in BATCHES]
            print(f"products alone, {blocks}, by batch: {', '.join(figures)}", flush=True)
    if arguments.part in (None, "growth"):
        growth = {name: grow(name, GROWTH, 3) for name in OURS}
        growth[OFFICIAL[1]] = grow(OFFICIAL[1], GROWTH[:3], 2)
        print(growth_table(growth), flush=True)


if __name__ == "__main__":
    main()

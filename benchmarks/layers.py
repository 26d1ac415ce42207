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
THREADS = 2
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, str(THREADS))

import numpy as np  # noqa: E402

UNITS, HEADS, FEATURES, LENGTH, CLASSES = 64, 4, 25, 60, 3
BATCHES, BLOCKS, GROWTH = (64, 256), ("m", "s", "ms"), (64, 256, 1024, 4096)
GROWTH_BATCH = 16
OURS = ("ours, XLA", "ours, graph")
EVERY_STEP = (
    "ours, XLA, every step"  # the last block too computes what the classifier does not read
)
OFFICIAL = ("official", "official, stacked once")
SCALE = ("keras LSTM", "torch LSTM")


def data(batch, length, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, length, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, size=batch).astype("int32")


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

    model = our_model(blocks, length, every_step)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
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


def theirs(blocks, batch, length, stacked):
    """Returns functions for a training step and for inference, with torch."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    body = _torch_lstm() if blocks == "lstm" else _official(blocks, length, stacked)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Linear(FEATURES, UNITS)
            self.body, self.head = body, torch.nn.Linear(UNITS, CLASSES)

        def forward(self, x):
            return self.head(self.body(self.embedding(x))[:, -1])

    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = data(batch, length)
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    def infer():
        with torch.inference_mode():
            return model(x).numpy()

    return train, infer


def _torch_lstm():
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(UNITS, UNITS, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0]

    return Outputs()


def _official(blocks, length, stacked):
    import torch
    import xlstm
    from xlstm.blocks.slstm import cell

    if stacked and "s" in blocks:
        cell.slstm_forward = stacked_once
        assert stacked_once in vars(cell).values()
    config = xlstm.xLSTMBlockStackConfig(
        mlstm_block=xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig(num_heads=HEADS)),
        slstm_block=xlstm.sLSTMBlockConfig(
            slstm=xlstm.sLSTMLayerConfig(backend="vanilla", num_heads=HEADS),
            feedforward=xlstm.FeedForwardConfig(proj_factor=1.3, act_fn="gelu"),
        ),
        context_length=length,
        num_blocks=len(blocks),
        embedding_dim=UNITS,
        slstm_at=[place for place, letter in enumerate(blocks) if letter == "s"],
    )
    if "m" not in blocks:
        config.mlstm_block = None
    if "s" not in blocks:
        config.slstm_block = None
    stack = xlstm.xLSTMBlockStack(config)
    assert isinstance(stack, torch.nn.Module)
    return stack


def make(contestant, blocks, batch, length):
    if contestant in (*OURS, EVERY_STEP):
        return ours(blocks, batch, length, contestant != OURS[1], contestant == EVERY_STEP)
    if contestant in OFFICIAL:
        return theirs(blocks, batch, length, contestant == OFFICIAL[1])
    if contestant == "torch LSTM":
        return theirs("lstm", batch, length, False)
    return ours("lstm", batch, length, True, False)


def stacked_once(x, states, R, b, pointwise_forward, constants=None):  # noqa: N803
    """Returns what the official sLSTM loop does; the states are collected, then stacked once."""
    import torch

    batch, num_heads, head_dim = x.shape[1], R.shape[0], R.shape[2]
    num_gates = R.shape[1] // head_dim
    kernel = R.transpose(1, 2).reshape(1, num_heads, head_dim, num_gates * head_dim)
    all_states, all_gates = [states], []
    for step in x.unbind(dim=0):
        recurrent = states[0].reshape(batch, num_heads, 1, -1).matmul(kernel)
        recurrent = recurrent.reshape(batch, num_heads, num_gates, -1).transpose(1, 2)
        states, gates = pointwise_forward(
            step, recurrent.reshape(batch, -1), b, states, constants=constants or {}
        )
        all_states.append(states)
        all_gates.append(gates)
    return torch.stack(all_states, dim=1), states, torch.stack(all_gates)


def work(contestant: str) -> None:
    """Answers requests on standard input, one JSON line each, until it ends."""
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
                other = min(times.get((name, blocks, batch, kind), np.inf) for name in OFFICIAL)
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

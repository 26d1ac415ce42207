"""Latency of shipped models: onnxruntime and Keras side by side, and the time to a first answer.

    python benchmarks/serving.py [--rounds 15] [--blocks m s ms msmm] [--out benchmarks/serving.md]

Needs the extra `export`. The networks have the default flags' size and untrained weights, which
cost the same. All contestants of a row take turns in one process.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import serve_onnx  # noqa: E402
import tensorflow as tf  # noqa: E402

from config import Flags  # noqa: E402
from data.bars.synthetic import random_walk  # noqa: E402
from data.features.features import feature_names  # noqa: E402
from models.calibration import RestoreProbabilities  # noqa: E402
from models.deployable import make_deployable, save_model  # noqa: E402
from models.xlstm_rl_model import build_xlstm_classifier  # noqa: E402
from recipe.serve.onnx_file import write_onnx  # noqa: E402

FLAGS = Flags()
FEATURES = feature_names(True)
CONTRACT = {
    "class_names": ["SELL", "HOLD", "BUY"],
    "feature_names": list(FEATURES),
    "sequence_length": FLAGS.SEQUENCE_LENGTH,
    "max_gap_bars": FLAGS.MAX_GAP_BARS,
    "intraday": True,
    "interval_seconds": 900.0,
}
IN_KERAS = """
import sys
from data.bars.read import read_bars
from models.deployable import load_classifier
from recipe.serve.predict import classify_latest
classify_latest(load_classifier(sys.argv[1]), read_bars(sys.argv[2])).to_csv(sys.stdout)
"""


def network(blocks: str) -> keras.Model:
    classifier = build_xlstm_classifier(
        FLAGS.SEQUENCE_LENGTH,
        len(FEATURES),
        units=FLAGS.XLSTM_UNITS,
        num_heads=FLAGS.XLSTM_HEADS,
        blocks=blocks,
        feature_mean=np.zeros(len(FEATURES)),
        feature_variance=np.ones(len(FEATURES)),
    )
    loss = {"alpha": FLAGS.AFL_ALPHA, "gamma": FLAGS.AFL_GAMMA, "smoothing": FLAGS.CLASS_SMOOTHING}
    restoration = RestoreProbabilities(**loss, ce_weight=FLAGS.CE_WEIGHT_END)
    return make_deployable(classifier, restoration, CONTRACT)


def milliseconds(contestants: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Returns the median of each contestant, called in turns."""
    times = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if number:  # the first call compiles
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def latencies(blocks: str, folder: Path, rounds: int) -> list[str]:
    model, path = network(blocks), folder / f"{blocks}.onnx"
    write_onnx(model, CONTRACT, path)
    session, graph = serve_onnx.open_model(str(path)), tf.function(model)
    rows = []
    for num in (1, 1000):
        windows = np.random.default_rng(0).normal(size=(num, *model.input_shape[1:]))
        windows = windows.astype("float32")
        found = milliseconds(
            {
                "onnxruntime": partial(serve_onnx.probabilities_of, session, windows),
                "tf.function": partial(graph, windows),  # on a CPU it returns when it is done
                "predict": partial(model.predict, windows, batch_size=1024, verbose=0),
            },
            rounds,
        )
        rows.append(f"| {blocks} | {num:,} | " + " | ".join(f"{t:.2f}" for t in found.values()))
        rows[-1] += " |"
    return rows


def first_answers(folder: Path, rounds: int) -> dict[str, float]:
    """Returns seconds from the start of a process to its answer for the newest bar."""
    model, bars = network(FLAGS.XLSTM_BLOCKS), folder / "bars.parquet"
    random_walk(4, 1000).to_parquet(bars)
    save_model(model, folder / "model.keras")
    write_onnx(model, CONTRACT, folder / "model.onnx")
    example = str(ROOT / "examples" / "serve_onnx.py")
    commands = {
        "onnxruntime": [example, folder / "model.onnx", bars, "--newest"],
        "Keras": ["-c", IN_KERAS, folder / "model.keras", bars],
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(command: list) -> None:
        words = [sys.executable, *map(str, command)]
        subprocess.run(words, env=environment, check=True, capture_output=True)

    calls = {name: partial(run, command) for name, command in commands.items()}
    return {name: t / 1000 for name, t in milliseconds(calls, rounds).items()}


def report(options: argparse.Namespace) -> str:
    libraries = ("keras", "tensorflow", "onnxruntime", "tf2onnx", "numpy")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    load = "unknown" if not hasattr(os, "getloadavg") else f"{os.getloadavg()[1]:.1f}"
    with tempfile.TemporaryDirectory() as place:
        rows = [row for b in options.blocks for row in latencies(b, Path(place), options.rounds)]
        seconds = first_answers(Path(place), min(options.rounds, 7))
    lines = [
        "# Latency of a shipped model",
        "",
        f"Written by `python benchmarks/serving.py`. {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores; Python {platform.python_version()}, {found}. Load average of the "
        f"machine over the last five minutes before: {load}. Windows of {FLAGS.SEQUENCE_LENGTH} "
        f"bars of {len(FEATURES)} features, {FLAGS.XLSTM_UNITS} units, {FLAGS.XLSTM_HEADS} heads; "
        f"milliseconds of a call, medians of {options.rounds} rounds.",
        "",
        "| blocks | windows | onnxruntime | Keras, `tf.function` | Keras, `predict` |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        "Seconds from the start of a process to the answers for the newest bars of 4 symbols of "
        f"1,000 bars, `{FLAGS.XLSTM_BLOCKS}`:",
        "",
        *(f"* {name}: {value:.2f}" for name, value in seconds.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--blocks", nargs="+", default=["m", "s", "ms", "msmm"])
    parser.add_argument("--out", type=Path, help="a file for the table; default: the screen alone")
    options = parser.parse_args()
    text = report(options)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

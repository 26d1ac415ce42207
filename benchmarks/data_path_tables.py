"""The tables of benchmarks/data_path.py, and the timing of their contestants in turns."""

import os
import platform
import statistics
import time

import numpy as np
from data_path_memory import LIMIT, LIMITED_BARS, LIMITED_SYMBOLS

from data.market.labels import METHODS

ROUNDS, CALLS = 25, 40


def _medians(calls) -> dict[str, float]:
    """Returns milliseconds of a call: medians over rounds in which the contestants take turns."""
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((time.perf_counter() - begun) / CALLS * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def speed_table(title: str, calls, notes) -> str:
    lines = [f"## {title}\n", "| | ms per batch | set up, s | |", "|---|---|---|---|"]
    for name, milliseconds in _medians(calls).items():
        text, seconds = notes[name]
        lines.append(f"| {name} | {milliseconds:.3f} | {seconds:.2f} | {text} |")
    return "\n".join([*lines, ""])


def reading_table(seconds) -> str:
    lines = ["## Reading 717,690 five-minute bars of 10 symbols\n", "| | seconds |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in seconds.items()]
    return "\n".join([*lines, ""])


def memory_table(memory) -> str:
    features = memory[METHODS[0]]["features"]
    lines = [
        "## Memory of the same run\n",
        f"Peaks in a process of its own above the imports and a first run over a small file (for "
        f"which 10 MB of library code are read), in float32 feature arrays of {features:.0f} MB.\n",
        f"| stage | {' | '.join(f'{method} labels' for method in memory)} |",
        "|---|" + "---|" * len(memory),
    ]
    for stage in list(memory[METHODS[0]]["stages"])[1:]:
        above = [
            (told["stages"][stage] - told["stages"]["imports"]) / told["features"]
            for told in memory.values()
        ]
        lines.append(f"| {stage} | {' | '.join(f'{value:.2f}' for value in above)} |")
    return "\n".join([*lines, ""])


def limited_table(limited) -> str:
    lines = [
        f"## {LIMITED_SYMBOLS * LIMITED_BARS / 1e6:.0f} million rows in bounded memory\n",
        f"Generated bars; at most {LIMIT / 1e9:.1f} GB of private memory beyond the imports.\n",
        "| features | outcome | rows made, s | ms per batch | private memory left, MB |",
        "|---|---|---|---|---|",
    ]
    for name, told in limited.items():
        figures = [
            f"{told[key]:.1f}" if key in told else ""
            for key in ("seconds", "milliseconds", "private")
        ]
        size = f" of {told['features']:.0f} MB" if "features" in told else ""
        lines.append(f"| {name}{size} | {told['outcome']} | {' | '.join(figures)} |")
    return "\n".join([*lines, ""])


def head() -> str:
    import imblearn
    import keras
    import tensorflow as tf

    return (
        "# The data path, measured\n\n"
        "Written by `python benchmarks/data_path.py`. All contestants of a table ran in turns in "
        f"one process; medians of {ROUNDS} rounds of {CALLS} batches. Linux {platform.machine()}, "
        f"{os.cpu_count()} cores; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Keras {keras.__version__}, TensorFlow {tf.__version__}, imbalanced-learn "
        f"{imblearn.__version__}. Load average of the machine, not idle otherwise, over the "
        f"last five minutes: {os.getloadavg()[1]:.1f}.\n"
    )

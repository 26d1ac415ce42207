"""What it costs to predict windows one by one: by part of the network, and with a thread a core.

    python benchmarks/predict_windows.py [--windows 20000] [--units 32]

An untrained network of the default shape. Milliseconds are of processors, for 256 windows; ratios
are of one run: the products of queries and keys as they were, written over, against those cut out
of a wider array (models/layers/mlstm_cell.py), and one thread against one a core by the clock.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from recipe.cli.backend import prepare_process, start_backend  # noqa: E402

prepare_process()  # as train_model.py does

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402

from core import threads  # noqa: E402
from models.layers import mlstm_cell  # noqa: E402
from models.prediction import AT_ONCE, predict_windows  # noqa: E402
from models.xlstm_rl_model import build_xlstm_classifier  # noqa: E402

LENGTH, FEATURES, ROUNDS = 60, 25, 3


def written_over(q, k):
    """Returns q_t . k_s as they are without a column more."""
    return ops.matmul(q, ops.swapaxes(k, -1, -2))


class Total(keras.layers.Layer):
    """Sums over time, so that nothing but the sum is copied out."""

    def call(self, x):
        """Returns the sums, (batch, channels)."""
        return ops.sum(x, axis=1)

    def compute_output_shape(self, shape):
        """Returns (batch, channels)."""
        return (shape[0], shape[-1])


def up_to(model: keras.Model, name: str) -> keras.Model:
    """Returns the model as far as one of its layers, compiled by XLA."""
    output = model.get_layer(name).output
    part = keras.Model(model.inputs, Total()(output) if len(output.shape) == 3 else output)
    part.jit_compile = True
    return part


def costs(model: keras.Model, x: np.ndarray) -> tuple[float, float]:
    """Returns milliseconds of processors for 256 windows, and windows a second by the clock."""
    predict_windows(model, x[:AT_ONCE])
    cpu, wall = [], []
    for _ in range(ROUNDS):
        began = time.process_time(), time.perf_counter()
        predict_windows(model, x)
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return 1000 * AT_ONCE * min(cpu) / len(x), len(x) / min(wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--units", type=int, default=32)
    options = parser.parse_args()
    start_backend()
    bars = np.random.default_rng(0).normal(size=(options.windows + LENGTH - 1, FEATURES))
    view = np.lib.stride_tricks.sliding_window_view(bars.astype(np.float32), LENGTH, axis=0)
    x = np.ascontiguousarray(np.swapaxes(view, 1, 2))
    keras.utils.set_random_seed(0)
    model = build_xlstm_classifier(LENGTH, FEATURES, units=options.units)
    cores, threads.num_cores = threads.num_cores(), lambda: 1
    for name in ("embedding", "mlstm_0", "classifier"):
        print(f"up to {name:<12} {costs(up_to(model, name), x)[0]:7.1f} ms")
    alone = costs(up_to(model, "classifier"), x)
    threads.num_cores = lambda: cores
    together = costs(up_to(model, "classifier"), x)
    print(f"{cores} threads: {together[1]:,.0f} windows/s, {together[1] / alone[1]:.2f} times one")
    threads.num_cores, mlstm_cell._products = lambda: 1, written_over
    before = costs(up_to(model, "classifier"), x)[0]
    print(f"products written over: {before:.1f} ms, {before / alone[0]:.2f} times")


if __name__ == "__main__":
    main()

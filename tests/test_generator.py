import subprocess
import sys
from pathlib import Path

import numpy as np

from data.batches.generator import balanced_batch_generator

ROOT = Path(__file__).parent.parent


def market(num_windows=600, num_symbols=4, seed=0, shares=(0.2, 0.6, 0.2)):
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(shares), num_windows, p=shares).astype("int32")
    return labels, np.sort(rng.integers(num_symbols, size=num_windows)).astype("int16")


def test_the_generator_yields_the_plan_s_windows_without_keras():
    labels, symbols = market(90)
    features = np.arange(200, dtype="float32").reshape(100, 2)
    ends = np.arange(10, 100)
    options = {"sequence_length": 3, "batch_size": 9, "seed": 1}
    batches = list(
        balanced_batch_generator(features, ends, labels, symbols, num_epochs=2, **options)
    )
    assert len(batches) == 20
    for x, y in batches:
        assert x.shape == (9, 3, 2) and x.dtype == np.float32
        assert y.dtype == np.int32 and np.bincount(y).tolist() == [3, 3, 3]
        rows = (x[:, -1, 0] / 2).astype(int)
        np.testing.assert_array_equal(labels[rows - 10], y)
    endless = balanced_batch_generator(features, ends, labels, symbols, **options)
    np.testing.assert_array_equal(next(endless)[0], batches[0][0])


def test_the_generator_yields_sequences_with_many_labels():
    labels, symbols = market(90)
    features = np.arange(200, dtype="float32").reshape(100, 2)
    ends = np.arange(10, 100)
    options = {"sequence_length": 6, "batch_size": 4, "seed": 1, "labels_per_sequence": 5}
    batches = list(
        balanced_batch_generator(
            features, ends, labels, symbols, class_ratios=(1, 2, 1), num_epochs=2, **options
        )
    )
    num_batches = len(batches) // 2
    x, y, w = (np.concatenate(p) for p in zip(*batches[:num_batches], strict=True))
    assert x.shape[1:] == (8, 2) and y.shape[1:] == w.shape[1:] == (5,)
    rows = (x[:, -5:, 0] / 2).astype(int)[w > 0]
    np.testing.assert_array_equal(np.sort(rows), ends)
    np.testing.assert_array_equal(labels[rows - 10], y[w > 0])
    np.testing.assert_allclose(np.bincount(y[w > 0], w[w > 0]), [22.5, 45, 22.5], rtol=1e-5)
    assert not np.array_equal(batches[0][0], batches[num_batches][0])


def test_the_generator_needs_no_keras():
    code = (
        "import sys, data.batches.generator; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

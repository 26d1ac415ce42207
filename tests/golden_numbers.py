"""Golden numbers: their files, their tolerances, and outputs and gradients on any backend."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

KINDS = [
    "mlstm_core",
    "mlstm_core_state",
    "mlstm_cell",
    "mlstm_layer",
    "mlstm_block",
    "slstm_cell",
    "slstm_cell_state",
    "slstm_layer",
    "slstm_block",
    "stack",
    "extreme_mlstm_core",
    "extreme_mlstm_lowgate",
    "extreme_slstm_cell",
    "extreme_slstm_lowgate",
    "extreme_stack",
    "init",
]
HERE = Path(__file__).parent / "golden"
MORE = os.environ.get("XLSTM_GOLDEN_DIR")
FILES = sorted(HERE.glob("*.npz")) + (sorted(Path(MORE).glob("*.npz")) if MORE else [])
SAME, OTHER = (1e-9, 1e-7), (1e-6, 2e-5)  # float64: outputs, gradients

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)
elif keras.backend.backend() == "torch":
    import torch  # pyright: ignore[reportMissingImports]


def kind_of(path):
    return max((kind for kind in KINDS if path.stem.startswith(kind)), key=len)


def files(*kinds):
    """Returns the files of these kinds, as parameters of a test."""
    return [pytest.param(path, id=path.stem) for path in FILES if kind_of(path) in kinds]


def load(path, dtype):
    """Returns the arrays of a file by group, and its description."""
    with np.load(path) as archive:
        meta = json.loads(str(archive["meta"]))
        arrays = {name: archive[name] for name in archive.files if name != "meta"}
    groups = {}
    for name, array in arrays.items():
        group, _, rest = name.partition(".")
        cast = dtype if group in ("in", "param", "cot") else "float64"
        groups.setdefault(group, {})[rest] = np.asarray(array, cast)
    return groups, meta


def tolerances(path, dtype, same_form):
    kind = kind_of(path)
    if dtype == "float64":
        return SAME if same_form else OTHER
    if kind == "extreme_mlstm_core":
        return 1e-4, 3e-4
    if kind == "extreme_stack":
        return 5e-5, 5e-3
    # The gradient of b_i of this mLSTM cell is 0.001, a sum of terms whose sizes add up to 13: two
    # units in the last place of these are 1.3e-4 with AVX-512 and 1.2e-4 on PyTorch.
    gradients = 2e-4 if kind == "mlstm_cell" else 1e-4
    return (5e-5 if kind.startswith("extreme") else 2e-5), gradients


def assert_close(got, expected, tolerance, name):
    got = np.asarray(ops.convert_to_numpy(got), "float64")
    assert np.all(np.isfinite(got)), f"{name} is not finite"
    error = np.max(np.abs(got - expected)) / np.max(np.abs(expected))
    assert error <= tolerance, f"{name}: {error:.2e} > {tolerance:.0e}"


def assert_gradients_close(got, expected, tolerance):
    largest = max(np.max(np.abs(array)) for array in expected.values())
    for name, reference in expected.items():
        value = np.asarray(ops.convert_to_numpy(got[name]), "float64")
        assert np.all(np.isfinite(value)), f"gradient of {name} is not finite"
        error = np.max(np.abs(value - reference)) / (np.max(np.abs(reference)) + 1e-3 * largest)
        assert error <= tolerance, f"gradient of {name}: {error:.2e} > {tolerance:.0e}"


def run(function, tensors, variables, cotangent):
    """Returns the outputs of a function of tensors, and the gradients for tensors and variables.

    The gradients are those of sum(first output * cotangent).
    """
    return runner(function, variables)(tensors, cotangent)


def runner(function, variables=(), jit=False):
    """Returns `run` as a function of (tensors, cotangent), compiled once for all calls of it."""
    variables = list(variables)

    def convert(tensors):
        return [ops.convert_to_tensor(t) for t in tensors]

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit)
        def traced(tensors, cotangent):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                outputs = function(*tensors)
                loss = ops.sum(outputs[0] * cotangent)
            return outputs, tape.gradient(loss, [*tensors, *(v.value for v in variables)])

        return lambda tensors, cotangent: traced(convert(tensors), tf.convert_to_tensor(cotangent))

    if keras.backend.backend() == "torch":

        def eager(tensors, cotangent):
            leaves = [t.detach().requires_grad_() for t in convert(tensors)]
            outputs = function(*leaves)
            wanted = [*leaves, *(v.value for v in variables)]
            weighted = ops.sum(outputs[0] * ops.convert_to_tensor(cotangent))
            return outputs, torch.autograd.grad(weighted, wanted, allow_unused=True)

        return eager

    def loss(tensors, values, cotangent):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            outputs = function(*tensors)
        return ops.sum(outputs[0] * cotangent), outputs

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def call(tensors, cotangent):
        gradients, outputs = compiled(convert(tensors), [v.value for v in variables], cotangent)
        return outputs, [*gradients[0], *gradients[1]]

    return call


def assert_memory_close(got, expected, tolerance):
    c, n, m = (np.asarray(ops.convert_to_numpy(x), "float64") for x in got)
    shift = np.exp(m - expected["m"])
    assert_close(c * shift[..., None, None], expected["C"], tolerance, "C")
    assert_close(n * shift[..., None], expected["n"], tolerance, "n")


# On PyTorch keras.ops.matmul and others give float32 for float64.
DTYPES = ["float32"] if keras.backend.backend() == "torch" else ["float64", "float32"]
BOTH = pytest.mark.parametrize("dtype", DTYPES)
ONE_QUICK = pytest.mark.parametrize(
    "dtype", [DTYPES[0], *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in DTYPES[1:])]
)
GATES = ["i", "f", "z", "o"]

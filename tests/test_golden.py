"""The cells against the numbers of the official package, on any Keras backend."""

import numpy as np
import pytest
from batch_first import slstm_cell
from golden_numbers import (
    BOTH,
    FILES,
    GATES,
    HERE,
    KINDS,
    assert_close,
    assert_gradients_close,
    assert_memory_close,
    files,
    kind_of,
    load,
    run,
    tolerances,
)
from keras import ops

from models.layers.common import block_diagonal, heads_norm
from models.layers.mlstm_cell import mlstm_cell


def test_the_clone_has_every_kind_of_numbers_in_two_megabytes():
    own = [path for path in FILES if path.parent == HERE]
    assert {kind_of(path) for path in own} == set(KINDS)
    assert sum(path.stat().st_size for path in own) <= 2_000_000


CORES = ["mlstm_core", "extreme_mlstm_core", "extreme_mlstm_lowgate"]


@BOTH
@pytest.mark.parametrize("chunk", [None, 1000, 32, 7])
@pytest.mark.parametrize("path", files(*CORES))
def test_mlstm_core_in_chunks_of_any_length(path, chunk, dtype):
    z, _ = load(path, dtype)
    names = ["q", "k", "v", "i", "f"]

    def function(q, k, v, i, f):
        h, state = mlstm_cell(q, k, v, i, f, chunk=chunk)
        return h, *state

    outputs, gradients = run(function, [z["in"][n] for n in names], [], z["cot"]["h"])
    limit, _ = tolerances(path, dtype, same_form=chunk == 1000)
    assert_close(outputs[0], z["out"]["h"], limit, "h")
    # m is a constant in the gradient, so it is of the other form at any chunk length.
    limits = tolerances(path, dtype, same_form=False)
    assert_memory_close(outputs[1:], z["state"], limits[0])
    expected = {n: z["grad"][f"in.{n}"] for n in names}
    assert_gradients_close(dict(zip(names, gradients, strict=True)), expected, limits[1])


@BOTH
@pytest.mark.parametrize("path", files(*CORES))
def test_mlstm_core_step_by_step_and_from_the_middle(path, dtype):
    z, _ = load(path, dtype)
    limit, _ = tolerances(path, dtype, same_form=True)
    q = z["in"]["q"]
    shape = (*q.shape[:2], q.shape[3])
    start = [
        np.zeros((*shape, q.shape[3]), dtype),
        np.zeros(shape, dtype),
        np.zeros(shape[:2], dtype),
    ]
    parts = [ops.convert_to_tensor(z["in"][n]) for n in ("q", "k", "v", "i", "f")]
    h, state = mlstm_cell(*parts, [ops.convert_to_tensor(s) for s in start], chunk=1)
    assert_close(h, z["rec"]["h"], limit, "h")
    assert_memory_close(state, z["state"], limit)
    middle = [ops.cast(ops.convert_to_tensor(z["mid"][n]), dtype) for n in ("C", "n", "m")]
    t = int(z["mid"]["t"])
    h, _ = mlstm_cell(*(p[:, :, t:] for p in parts), middle, chunk=1)
    assert_close(h, z["rec"]["h"][:, :, t:], limit, "h from the middle")


@BOTH
@pytest.mark.parametrize("chunk", [1, 3, 64])
@pytest.mark.parametrize("path", files("mlstm_core_state"))
def test_mlstm_core_from_a_given_state(path, chunk, dtype):
    z, _ = load(path, dtype)
    names = ["q", "k", "v", "i", "f", "C0", "n0", "m0"]

    def function(q, k, v, i, f, *state):
        h, state = mlstm_cell(q, k, v, i, f, list(state), chunk=chunk)
        return h, *state

    outputs, gradients = run(function, [z["in"][n] for n in names], [], z["cot"]["h"])
    limit, _ = tolerances(path, dtype, same_form=chunk == 1)
    assert_close(outputs[0], z["out"]["h"], limit, "h")
    assert_memory_close(outputs[1:], z["state"], limit)
    expected = {n: z["grad"][f"in.{n}"] for n in names}
    _, limit = tolerances(path, dtype, same_form=False)
    assert_gradients_close(dict(zip(names, gradients, strict=True)), expected, limit)


@BOTH
@pytest.mark.parametrize("path", files("mlstm_cell"))
def test_mlstm_cell(path, dtype):
    z, meta = load(path, dtype)
    heads, names = meta["num_heads"], ["q", "k", "v"]
    weights = ["W_i", "b_i", "W_f", "b_f", "gamma_h"]

    def function(q, k, v, w_i, b_i, w_f, b_f, gamma):
        both = ops.concatenate([q, k, v], axis=-1)
        i, f = (
            ops.transpose(ops.matmul(both, w) + b, (0, 2, 1)) for w, b in [(w_i, b_i), (w_f, b_f)]
        )
        q, k, v = (
            ops.transpose(ops.reshape(x, (*x.shape[:2], heads, -1)), (0, 2, 1, 3))
            for x in (q, k, v)
        )
        h, state = mlstm_cell(q, k, v, i, f)
        h = ops.transpose(h, (0, 2, 1, 3))
        return heads_norm(ops.reshape(h, (*h.shape[:2], -1)), gamma, heads), *state

    tensors = [z["in"][n] for n in names] + [z["param"][n] for n in weights]
    outputs, gradients = run(function, tensors, [], z["cot"]["y"])
    assert_close(outputs[0], z["out"]["y"], tolerances(path, dtype, True)[0], "y")
    limits = tolerances(path, dtype, same_form=False)
    assert_memory_close(outputs[1:], z["state"], limits[0])
    keys = [f"in.{n}" for n in names] + [f"param.{n}" for n in weights]
    expected = {key: z["grad"][key] for key in keys}
    assert_gradients_close(dict(zip(keys, gradients, strict=True)), expected, limits[1])


def slstm_run(z, dtype, state=None, start=0):
    """Runs the sLSTM cell from time step `start`; the state's tensors are inputs if given."""
    inputs = [z["in"][f"pre_{g}"][:, start:] for g in GATES]
    recurrent = [z["param"][f"R_{g}"] for g in GATES]
    biases = [z["param"][f"b_{g}"] for g in GATES]
    batch, _, units = inputs[0].shape
    state = [np.zeros((batch, units), dtype)] * 4 if state is None else state

    def function(*tensors):
        pre, kernels, biases, state = (list(tensors[k : k + 4]) for k in (0, 4, 8, 12))
        pre = ops.concatenate([p + b for p, b in zip(pre, biases, strict=True)], axis=-1)
        kernel = ops.concatenate([block_diagonal(k) for k in kernels], axis=-1)
        y, last = slstm_cell(pre, kernel, state)
        return y, *last

    return run(function, [*inputs, *recurrent, *biases, *state], [], z["cot"]["y"][:, start:])


SLSTM_CELLS = ["slstm_cell", "slstm_cell_state", "extreme_slstm_cell", "extreme_slstm_lowgate"]


@BOTH
@pytest.mark.parametrize("path", files(*SLSTM_CELLS))
def test_slstm_cell(path, dtype):
    z, _ = load(path, dtype)
    given = "h0" in z["in"]
    state = [z["in"][f"{n}0"] for n in "hcnm"] if given else None
    outputs, gradients = slstm_run(z, dtype, state)
    limits = tolerances(path, dtype, same_form=True)
    assert_close(outputs[0], z["out"]["y"], limits[0], "y")
    for name, value in zip("hcnm", outputs[1:], strict=True):
        assert_close(value, z["state"][name], limits[0], name)
    keys = [f"in.pre_{g}" for g in GATES] + [f"param.{k}_{g}" for k in "Rb" for g in GATES]
    keys += [f"in.{n}0" for n in "hcnm"] if given else []
    got = dict(zip(keys, gradients[: len(keys)], strict=True))
    assert_gradients_close(got, {key: z["grad"][key] for key in keys}, limits[1])


@BOTH
@pytest.mark.parametrize("path", files(*SLSTM_CELLS))
def test_slstm_cell_goes_on_from_the_middle(path, dtype):
    z, _ = load(path, dtype)
    if "mid" not in z:
        pytest.skip("the file has no state in the middle")
    t = int(z["mid"]["t"])
    outputs, _ = slstm_run(z, dtype, [z["mid"][n].astype(dtype) for n in "hcnm"], t)
    limit, _ = tolerances(path, dtype, same_form=True)
    assert_close(outputs[0], z["out"]["y"][:, t:], limit, "y")

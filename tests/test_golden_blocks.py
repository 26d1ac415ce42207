"""The blocks against the numbers of the official package, on any Keras backend."""

import numpy as np
import pytest
from golden_numbers import (
    BOTH,
    GATES,
    ONE_QUICK,
    assert_close,
    assert_gradients_close,
    assert_memory_close,
    files,
    load,
    run,
    tolerances,
)
from keras import ops

from models.layers.common import layer_norm, width_of
from models.layers.mlstm_block import LinearSpacing, MLSTMBlock
from models.layers.slstm_block import ForgetBias, SLSTMBlock

# Weights of a block by the name of the file's arrays that they are made of, along the last axis.
MLSTM_WEIGHTS = {
    "norm_scale": ["gamma_pre"],
    "up_kernel": ["W_up_x", "W_up_z"],
    "up_bias": ["b_up_x", "b_up_z"],
    "conv_kernel": ["conv_kernel"],
    "conv_bias": ["conv_bias"],
    "gate_kernel": ["W_i", "W_f"],
    "input_gate_bias": ["b_i"],
    "forget_gate_bias": ["b_f"],
    "head_norm_scale": ["gamma_h"],
    "skip_scale": ["skip"],
    "down_kernel": ["W_down"],
    "down_bias": ["b_down"],
    **{f"{n}_kernel": [f"W_{n}"] for n in "qkv"},
    **{f"{n}_bias": [f"b_{n}"] for n in "qkv"},
}
SLSTM_WEIGHTS = {
    "norm_scale": ["gamma_pre"],
    "conv_kernel": ["conv_kernel"],
    "conv_bias": ["conv_bias"],
    "head_norm_scale": ["gamma_h"],
    "ff_norm_scale": ["gamma_ffn"],
    **{f"ff_{n}_kernel": [f"W_ff_{n}"] for n in ("gate", "up", "down")},
    **{f"ff_{n}_bias": [f"b_ff_{n}"] for n in ("gate", "up", "down")},
    **{f"{g}_kernel": [f"W_{g}"] for g in GATES},
    **{f"{g}_recurrent_kernel": [f"R_{g}"] for g in GATES},
    **{f"{g}_bias": [f"b_{g}"] for g in GATES},
}


def make_block(letter, meta, parameters, dtype):
    """Returns a block with the weights of a file; those that the file lacks keep their start."""
    if letter == "m":
        block = MLSTMBlock(
            meta["num_heads"],
            qkv_block_size=meta["qkv_blocksize"],
            conv_kernel_size=meta["conv_kernel_size"],
            use_bias=meta.get("bias", False),
            inner_units=meta["inner_dim"],
            dtype=dtype,
        )
    else:
        block = SLSTMBlock(
            meta["num_heads"],
            conv_kernel_size=meta["conv_kernel_size"],
            ff_units=meta.get("ff_dim"),
            ff_activation=meta.get("ff_act", "gelu")[:4],
            ff_bias=meta.get("ff_bias", False),
            dtype=dtype,
        )
    block.build((None, None, meta["embedding_dim"]))
    for weight in block.weights:
        value = joined(weight, parameters)
        if value is not None:
            weight.assign(value)
    return block


def joined(weight, arrays, prefix=""):
    """Returns the file's arrays that make up a weight, or None if the file has none of them."""
    table = MLSTM_WEIGHTS if "mlstm" in weight.path else SLSTM_WEIGHTS
    names = [prefix + name for name in table[weight.name]]
    if names[0] not in arrays:
        return None
    return np.concatenate([arrays[name] for name in names], axis=-1)


def assert_weight_gradients_close(weights, gradients, z, limit, prefixes=None):
    got, expected = {}, {}
    for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        prefix = "param." + (prefixes[place] if prefixes else "")
        reference = joined(weight, z["grad"], prefix)
        if reference is not None:
            got[weight.path], expected[weight.path] = gradient, reference
    used = sum(array.size for array in expected.values())
    assert used == sum(
        a.size
        for name, a in z["grad"].items()
        if name.startswith("param.") and "gamma_post" not in name
    )
    assert_gradients_close(got, expected, limit)


def assert_block_state_close(letter, state, expected, limit):
    if letter == "m":
        assert_memory_close(state[:3], expected, limit)
        past = state[3]
    else:
        for name, value in zip("hcnm", state[:4], strict=True):
            assert_close(value, expected[name], limit, name)
        past = state[4]
    if "conv" in expected:
        taps = past.shape[1]
        assert_close(past, expected["conv"][:, -taps:], limit, "conv")


LAYERS = ["mlstm_layer", "mlstm_block", "slstm_layer", "slstm_block"]


@BOTH
@pytest.mark.parametrize("path", files(*LAYERS))
def test_layers_and_blocks(path, dtype):
    z, meta = load(path, dtype)
    letter = meta["case"][0]
    block = make_block(letter, meta, z["param"], dtype)
    whole = meta["case"].endswith("block")

    def function(x):
        y, state = block(x, return_state=True) if whole else block.transform(x)
        return y, *state

    outputs, gradients = run(function, [z["in"]["x"]], block.trainable_variables, z["cot"]["y"])
    assert_close(outputs[0], z["out"]["y"], tolerances(path, dtype, True)[0], "y")
    limits = tolerances(path, dtype, same_form=letter == "s")
    assert_block_state_close(letter, outputs[1:], z["state"], limits[0])
    assert_gradients_close({"x": gradients[0]}, {"x": z["grad"]["in.x"]}, limits[1])
    assert_weight_gradients_close(block.trainable_variables, gradients[1:], z, limits[1])


@BOTH
@pytest.mark.parametrize("path", files("mlstm_block", "slstm_block"))
def test_blocks_step_by_step(path, dtype):
    z, meta = load(path, dtype)
    letter = meta["case"][0]
    block = make_block(letter, meta, z["param"], dtype)
    x = ops.convert_to_tensor(z["in"]["x"])
    state, outputs = block.initial_state(x.shape[0]), []
    for t in range(x.shape[1]):
        y, state = block.step(x[:, t], state)
        outputs.append(y)
    limits = tolerances(path, dtype, same_form=letter == "s")
    assert_close(ops.stack(outputs, axis=1), z["rec"]["y"], limits[0], "y")
    assert_block_state_close(letter, state, z["state"], limits[0])


@ONE_QUICK
@pytest.mark.parametrize("path", files("stack", "extreme_stack"))
def test_stacks(path, dtype):
    z, meta = load(path, dtype)
    blocks, weights, prefixes = [], [], []
    for place, letter in enumerate(meta["pattern"]):
        kind = {"m": "mlstm", "s": "slstm"}[letter]
        prefix = f"b{place}."
        own = {n[len(prefix) :]: a for n, a in z["param"].items() if n.startswith(prefix)}
        options = {"embedding_dim": meta["embedding_dim"], **meta[kind]}
        blocks.append(make_block(letter, options, own, dtype))
        weights += blocks[-1].trainable_variables
        prefixes += [prefix] * len(blocks[-1].trainable_variables)

    def function(x, gamma):
        states = []
        for block in blocks:
            x, state = block(x, return_state=True)
            states += state
        return layer_norm(x, gamma), *states

    tensors = [z["in"]["x"], z["param"]["gamma_post"]]
    outputs, gradients = run(function, tensors, weights, z["cot"]["y"])
    same = tolerances(path, dtype, z["in"]["x"].shape[1] <= 64)
    assert_close(outputs[0], z["out"]["y"], same[0], "y")
    limits = tolerances(path, dtype, same_form=False)
    expected = {"x": z["grad"]["in.x"], "gamma_post": z["grad"]["param.gamma_post"]}
    got = dict(zip(expected, gradients[:2], strict=True))
    assert_gradients_close(got, expected, limits[1])
    assert_weight_gradients_close(weights, gradients[2:], z, limits[1], prefixes)
    states = list(outputs[1:])
    for place, letter in enumerate(meta["pattern"]):
        own = {n[3:]: a for n, a in z["state"].items() if n.startswith(f"b{place}.")}
        count = 4 if letter == "m" else 5
        state, states = states[:count], states[count:]
        assert_block_state_close(letter, state, own, limits[0])


@pytest.mark.parametrize("path", files("init"))
def test_initial_values(path):
    z, _ = load(path, "float64")
    for name, values in z["slstm_b_f"].items():
        head_dim, num_blocks, block = (
            int("".join(filter(str.isdigit, part))) for part in name.split(".")
        )
        start = ForgetBias(2, block, num_blocks)((2 * head_dim,), "float64")
        assert_close(start, np.tile(values, 2), 1e-6, name)  # given in float32
    for name, values in z["mlstm_b_f"].items():
        start = LinearSpacing(3.0, 6.0)((int(name.removeprefix("num_heads")),), "float64")
        assert_close(start, values, 1e-6, name)
    for units, inner, ff, ff_wide in z["widths"][""]:
        assert (width_of(2.0, units), width_of(1.3, units), width_of(4 / 3, units)) == (
            inner,
            ff,
            ff_wide,
        )

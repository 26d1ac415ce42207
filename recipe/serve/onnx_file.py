"""Writes a model in Keras as an ONNX file, through tf2onnx, with its contract as metadata."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from core.contract import Contract

INPUT, OUTPUT, METADATA = "window", "probabilities", "contract"
_OPSET = 18  # the newest that tf2onnx 1.17 writes


def write_onnx(model: keras.Model, contract: Contract, path: Path) -> None:
    """Writes the model, whose batch dimension stays free.

    The file takes `window`, float32 (batch, time, features), unscaled, and gives `probabilities`,
    float32 (batch, classes).

    Args:
        model: a deployable model, on the TensorFlow backend.
        contract: becomes the metadata `contract`, as JSON.
        path: of the file.
    """
    import onnx  # pyright: ignore[reportMissingImports]

    _add_log1p()
    with _scaling_as_constants(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras gives NumPy names back that tf2onnx still asks for
        model.export(
            path,
            format="onnx",
            opset_version=_OPSET,
            input_signature=signature(model),
            verbose=False,
        )
    written = onnx.load(path)
    _rename(written.graph)
    written.metadata_props.add(key=METADATA, value=json.dumps(contract))
    onnx.save(written, path)


def _add_log1p() -> None:
    """Teaches tf2onnx log(1 + x), without which it writes a file that no runtime loads."""
    from tf2onnx.handler import tf_op  # pyright: ignore[reportMissingImports]

    @tf_op("Log1p")
    class _Log1p:
        @classmethod
        def version_7(cls, ctx, node, **kwargs):
            one = ctx.make_const(f"{node.name}/one", np.ones((), np.float32)).output[0]
            dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
            total = ctx.make_node("Add", [node.input[0], one], dtypes=[dtype], shapes=[shape])
            node.type = "Log"
            ctx.replace_inputs(node, total.output)


@contextlib.contextmanager
def _scaling_as_constants(model: keras.Model) -> Iterator[None]:
    """Has the scaling hold NumPy arrays: its tensors would become inputs of the file."""
    layers = list(scalings(model))
    before = [(layer.mean, layer.variance) for layer in layers]
    try:
        for layer in layers:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
        yield
    finally:
        for layer, (mean, variance) in zip(layers, before, strict=True):
            layer.mean, layer.variance = mean, variance


def scalings(model: keras.Model) -> Iterator[keras.layers.Normalization]:
    """Yields the scaling layers of a model and of models nested in it."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from scalings(layer)


def signature(model: keras.Model) -> list[keras.InputSpec]:
    """Returns what an exported model takes: windows themselves, and not a list of them."""
    return [keras.InputSpec("float32", (None, *model.input_shape[1:]), name=INPUT)]


def _rename(graph) -> None:
    """Renames output and batch axis as documented in `write_onnx`."""
    (window,), (output,) = graph.input, graph.output
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [OUTPUT if name == output.name else name for name in names]
    output.name = OUTPUT
    for value in (window, output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"

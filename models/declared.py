"""What the config.json of a model file declares: classes, layers, and how much they would take.

The counts are bounds from above: every layer is taken to be as wide as the widest of the file.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.contract import is_count, is_number
from core.errors import printable
from core.i18n import _

PACKAGE = "xlstm_classifier"
CONTRACT = "ModelContract"
NETWORK = "LogitsModel"  # of the builder, not of a run
_LAYERS = ("Functional", "InputLayer", "Normalization", "Dense", "Dropout", "Cropping1D")
_LAYERS += ("LayerNormalization",)
_OTHERS = ("GlorotUniform", "Zeros", "Ones", "Constant", "RandomNormal", "RandomUniform", "L2")
_OTHERS += ("DTypePolicy",)
_OWN_LAYERS = ("MLSTMBlock", "SLSTMBlock", "CappedDense", "RestoreProbabilities", "LogOfMean")
_OWN_LAYERS += ("WindowSummary", "RollingDeviation", "BoostedTrees", "ClippedDense")
_OWN_LAYERS += ("SequenceDropout", CONTRACT)
_OWN_OTHERS = ("PriorBias", "LinearSpacing", "ForgetBias")
_TENSOR = "__keras_tensor__"
_SHAPES = ("batch_shape", "batch_input_shape", "shape", "input_shape", "noise_shape")
_MOST = 1 << 20  # of one width
_CHUNK = 64  # steps, where none is given
_DEEPEST = 64  # levels of a tree


class Foreign(Exception):
    """The file declares what no model of this project has; the text says what."""


@dataclass(frozen=True)
class Declared:
    """What a network would take.

    Attributes:
        weights: numbers in all layers, with what they are expanded to for their products.
        window_values: numbers that one window takes in the largest layer.
        layers: with those of models inside it, each as often as it is called.
        contract: see `ModelContract`.
        input_shape: of the model.
    """

    weights: int
    window_values: int
    layers: int
    contract: Any
    input_shape: tuple[int | None, ...]


def declared(config: Any) -> Declared:
    """Returns what the network of a config.json would take.

    Args:
        config: its value of JSON.

    Raises:
        Foreign: where it is none of a model of this project.
    """
    objects = list(_objects(config))
    if objects and objects[0]["class_name"] in ("Functional", NETWORK):
        if not any(item["class_name"] == CONTRACT for item in objects):
            raise Foreign(
                _(
                    "it has no contract, as a network of build_xlstm_classifier has none: "
                    "keras.models.load_model reads one"
                )
            )
    if not objects or objects[0] is not config or config["class_name"] != "Functional":
        raise Foreign(_("its config.json describes no model"))
    for item in objects:
        _check_class(item)
    layers = [item for item in objects if item["class_name"] in (*_LAYERS, *_OWN_LAYERS)]
    for layer in layers:
        _check_numbers(layer)
    shapes = [shape for item in objects for shape in _shapes(item)]
    values = max((_product(shape) for shape in shapes), default=1)
    widths = [shape[-1] or 1 for shape in shapes if shape]
    widths += [layer["config"].get("units", 1) for layer in layers]
    sizes = [_size(layer, max(widths), values) for layer in layers]
    return Declared(
        weights=sum(weights for weights, _values in sizes),
        window_values=max(values for _weights, values in sizes),
        layers=sum(max(1, len(_list(layer.get("inbound_nodes")))) for layer in layers),
        contract=_only(config, CONTRACT).get("contract"),
        input_shape=tuple(_list(_only(config, "InputLayer").get("batch_shape"))),
    )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yields everything inside that Keras would make an object of, the outermost first."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_class(item: Mapping[str, Any]) -> None:
    name, module = item["class_name"], item.get("module")
    registered = item.get("registered_name")
    if name == _TENSOR and module is None and isinstance(item.get("config"), dict):
        return
    ours = name in (*_OWN_LAYERS, *_OWN_OTHERS) and registered == f"{PACKAGE}>{name}"
    of_keras = (
        name in (*_LAYERS, *_OTHERS)
        and isinstance(module, str)
        and module.partition(".")[0] == "keras"
        and registered in (None, name)
    )
    if not (ours or of_keras) or not isinstance(item.get("config"), dict):
        shown = printable(str(name))
        raise Foreign(_("it has a {name}, which no model of this project has", name=shown))


def _check_numbers(layer: Mapping[str, Any]) -> None:
    config = layer["config"]
    for name, holds in _NUMBERS.items():
        if name in config and not holds(config[name]):
            raise Foreign(_odd(f"{layer['class_name']}.{name}", config[name]))


def _odd(name: str, value: Any) -> str:
    return _("{name} cannot be {value}", name=name, value=printable(repr(value)))


def _shapes(item: Mapping[str, Any]) -> Iterator[list[int | None]]:
    for part in (item["config"], item.get("build_config")):
        if not isinstance(part, dict):
            continue
        for name in _SHAPES:
            value = part.get(name)
            shapes = [] if value is None else [value]
            if isinstance(value, list) and any(isinstance(side, list) for side in value):
                shapes = value
            for shape in shapes:
                if not isinstance(shape, list) or len(shape) > 4 or not all(map(_is_side, shape)):
                    raise Foreign(_odd(name, shape))
                yield shape
        if "shapes_dict" in part:
            raise Foreign(_odd("shapes_dict", part["shapes_dict"]))


def _is_side(value: Any) -> bool:
    return value is None or is_count(value, 0, _MOST)


def _product(shape: list[int | None]) -> int:
    return math.prod(side or 1 for side in shape)


def _size(layer: Mapping[str, Any], width: int, values: int) -> tuple[int, int]:
    """Returns the weights of a layer, and the numbers that one window takes in it."""
    kind, config = layer["class_name"], layer["config"]
    steps = -(-values // width)
    if kind in ("Dense", "CappedDense"):
        units = config.get("units", 1)
        return (width + 1) * units + 1, steps * units
    if kind == "ClippedDense":
        units = config.get("units", 1)
        return (width + 1) * units + 2 * width, 4 * width + units
    if kind == "RollingDeviation":
        return steps**2, 4 * values
    if kind == "BoostedTrees":
        trees = config.get("rounds", 1) * config.get("classes", 1)
        return 6 * trees * config.get("nodes", 1) + config.get("classes", 1), 8 * trees
    if kind == "MLSTMBlock":
        return _mlstm(config, width, steps)
    if kind == "SLSTMBlock":
        ff = config.get("ff_units") or _wide(config.get("ff_factor", 1.3), width)
        weights = 16 * width**2 + 3 * width * ff + ff + 100 * width
        return weights, steps * max(8 * width, 2 * ff)
    return 3 * values, values


def _mlstm(config: Mapping[str, Any], width: int, steps: int) -> tuple[int, int]:
    inner = config.get("inner_units") or _wide(config.get("proj_factor", 2.0), width)
    heads, block = config.get("num_heads", 4), config.get("qkv_block_size", 4)
    depth = -(-inner // heads)
    dense = inner * (depth if depth % block == 0 else inner)
    weights = 3 * width * inner + 3 * dense + inner * (3 * block + 6 * heads + 100)
    chunk = min(config.get("chunk_size") or _CHUNK, steps)
    memories = inner * depth * -(-steps // chunk)
    return weights, max(2 * steps * inner, memories, steps * chunk * heads)


def _wide(factor: float, width: int) -> int:
    return 64 * math.ceil(factor * width / 64)


def _only(config: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Returns the config of the only layer of a class in a model itself."""
    layers = [layer for layer in _list(config["config"].get("layers")) if isinstance(layer, dict)]
    configs = [layer["config"] for layer in layers if layer.get("class_name") == kind]
    if len(configs) != 1:
        raise Foreign(_("it must have one {name}, it has {count}", name=kind, count=len(configs)))
    return configs[0]


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _is_width(value: Any) -> bool:
    return is_count(value, 1, _MOST)


def _is_factor(value: Any) -> bool:
    return is_number(value, 1e-3, 100)


_NUMBERS: dict[str, Callable[[Any], bool]] = {
    "units": _is_width,
    "num_heads": _is_width,
    "qkv_block_size": _is_width,
    "inner_units": _or_none(_is_width),
    "ff_units": _or_none(_is_width),
    "chunk_size": _or_none(_is_width),
    "conv_kernel_size": lambda value: is_count(value, 0, 64),
    "num_blocks": _is_width,
    "block_index": lambda value: is_count(value, 0, _MOST),
    "proj_factor": _is_factor,
    "ff_factor": _is_factor,
    "rounds": _is_width,
    "classes": _is_width,
    "nodes": _is_width,
    "depth": lambda value: is_count(value, 0, _DEEPEST),
    "bars": _is_width,
    "clip": lambda value: is_number(value, 1e-3, 1e6),
    "layers": lambda value: isinstance(value, list),
}

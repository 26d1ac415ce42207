"""What scikit-learn fitted, as plain arrays that a layer of the model computes with."""

from typing import NamedTuple

import numpy as np

from evaluation.baselines.fitted import CLIP, Fitted

_LARGEST = np.finfo(np.float32).max
_SMALLEST = np.finfo(np.float32).tiny  # of the numbers that no processor flushes to 0


class TreeArrays(NamedTuple):
    """Trees, each (trees, nodes) or (trees, nodes, 2), and what they start from, (classes,).

    The trees of a round stand side by side, one for each class. Children are numbers of nodes,
    counted through all trees; a leaf is its own child. Trees with fewer nodes than the largest are
    filled up. The depth is that of the deepest tree: levels below its root.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    children: np.ndarray
    value: np.ndarray
    base: np.ndarray
    depth: int


class LineArrays(NamedTuple):
    """A linear model: columns are standardised by mean and scale, (columns,), and cut off.

    The kernel is (columns, classes), the bias (classes,).
    """

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    clip: float


def tree_arrays(fitted: Fitted) -> TreeArrays:
    """Returns the trees of a `HistGradientBoostingClassifier`, of the rounds that count.

    Raises:
        ValueError: where it saw fewer than three classes.
    """
    estimator = fitted.estimator
    if len(fitted.classes) < 3:
        raise ValueError(f"trees as arrays need three classes, got {fitted.classes.tolist()}")
    grown = estimator._predictors[: fitted.rounds]
    tables = [tree.nodes for of_round in grown for tree in of_round]
    size = max(map(len, tables))
    feature, missing = (np.zeros((len(tables), size), np.int32) for _ in range(2))
    itself = np.arange(len(tables) * size, dtype=np.int32).reshape(len(tables), size, 1)
    children = np.repeat(itself, 2, axis=2)  # (trees, nodes, 2)
    threshold = np.full((len(tables), size), _LARGEST, np.float32)
    value = np.zeros((len(tables), size), np.float32)
    for number, nodes in enumerate(tables):
        value[number, : len(nodes)] = nodes["value"]
        asks = np.flatnonzero(nodes["is_leaf"] == 0)
        feature[number, asks] = nodes["feature_idx"][asks]
        missing[number, asks] = nodes["missing_go_to_left"][asks]
        threshold[number, asks] = same_side(nodes["num_threshold"][asks])
        children[number, asks, 0] = number * size + nodes["left"][asks]
        children[number, asks, 1] = number * size + nodes["right"][asks]
    base = np.ravel(estimator._baseline_prediction).astype(np.float32)
    depth = max(int(nodes["depth"].max()) for nodes in tables)
    return TreeArrays(feature, threshold, missing, children, value, base, depth)


def same_side(thresholds: np.ndarray) -> np.ndarray:
    """Returns thresholds in float32 that any finite float32 is on the same side of as before.

    x <= t of a float32 x and a float64 t is x <= the largest float32 that is not above t. Numbers
    so small that some processors take them for 0 stand for 0 here.
    """
    exact = np.asarray(thresholds, np.float64)
    exact = np.clip(exact, -_LARGEST, _LARGEST)  # an infinite one has all finite numbers below it
    rounded = exact.astype(np.float32)
    rounded = np.where(rounded > exact, np.nextafter(rounded, -_LARGEST), rounded)
    rounded = np.where((rounded > 0) & (rounded < _SMALLEST), np.float32(0), rounded)
    rounded = np.where((rounded < 0) & (rounded > -_SMALLEST), -_SMALLEST, rounded)
    return rounded.astype(np.float32)


def line_arrays(fitted: Fitted) -> LineArrays:
    """Returns the logistic regression of `evaluation.baselines.learners`.

    What float32 rounds off the means goes into the bias.

    Raises:
        ValueError: where it saw fewer than three classes.
    """
    if len(fitted.classes) < 3:
        raise ValueError(f"a line as arrays needs three classes, got {fitted.classes.tolist()}")
    scaler, _clipped, line = (step for _name, step in fitted.estimator.steps)
    mean = scaler.mean_.astype(np.float32)
    kernel = line.coef_.astype(np.float64).T  # (columns, classes)
    bias = line.intercept_ - ((scaler.mean_ - mean) / scaler.scale_) @ kernel
    arrays = (part.astype(np.float32) for part in (mean, scaler.scale_, kernel, bias))
    return LineArrays(*arrays, clip=CLIP)

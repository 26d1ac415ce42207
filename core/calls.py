"""The class that an answer speaks for; needs NumPy alone, so that every runtime can name it."""

from collections.abc import Sequence

import numpy as np

LARGEST_LIFT = "largest lift"  # the name of the rule in contracts
_EQUAL = 2e-7  # relative; float32 probabilities know no more


def calls(probabilities: np.ndarray, prior: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the class with the largest lift p / pi of each window, int64 (windows,).

    Among equal lifts, as those of the prior itself, it is the most probable class.

    Args:
        probabilities: (windows, classes).
        prior: class frequencies pi of the training period, (classes,), all positive.
    """
    probabilities = np.asarray(probabilities, np.float64)
    lifts = probabilities / np.asarray(prior, np.float64)
    largest = lifts >= lifts.max(axis=-1, keepdims=True) * (1 - _EQUAL)
    return np.where(largest, probabilities, -1.0).argmax(axis=-1)


def hardly_called(called: Sequence[float], true: Sequence[float]) -> list[int]:
    """Returns the codes of the classes that are called a fiftieth as often as they come, or never.

    Args:
        called: share of each class in the calls, (classes,).
        true: its share in the labels, (classes,).
    """
    pairs = enumerate(zip(called, true, strict=True))
    return [code for code, (call_share, label_share) in pairs if call_share < label_share / 50]

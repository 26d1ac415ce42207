"""A forecaster's answers: the call and the side of each window, counted against the labels.

There are two kinds of skill, since a market may show when it moves but not where to:

* **direction**: where to. For windows labelled SELL or BUY, is it the side that gained more over
  its prior? Every such window counts, also those called HOLD: so the figure exists however seldom
  a forecaster calls a side, and knowing only the size of moves gives 0.
* **movement**: when. HOLD or not, the call against the label.

Each is Matthews's correlation of a table of two rows and two columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.calls import calls
from data.market.labels import BUY, CLASS_NAMES, HOLD, SELL

_EQUAL = 2e-7  # relative; the limit of float32 probabilities
EVEN = (1 / 3,) * len(CLASS_NAMES)  # with this prior the most probable class is the call


@dataclass(frozen=True)
class Answers:
    """The answers to some windows.

    Attributes:
        calls: class codes, (windows,).
        sides: int8 (windows,), 1 if BUY gained more over its prior than SELL, -1 if SELL did, 0 if
            neither.
    """

    calls: np.ndarray
    sides: np.ndarray


def answers(probabilities: np.ndarray, prior: Sequence[float] | np.ndarray) -> Answers:
    """Returns the calls and sides of probabilities.

        >>> answers(np.array([[0.2, 0.5, 0.3]]), prior=[0.25, 0.5, 0.25]).calls
        array([2])

    Args:
        probabilities: in class order, (windows, 3).
        prior: class frequencies of the training period, all positive, (3,), or a row for each
            window, (windows, 3), if they come from several folds.
    """
    lifts = np.asarray(probabilities, np.float64) / np.asarray(prior, np.float64)
    buy, sell = lifts[:, BUY], lifts[:, SELL]
    differ = np.abs(buy - sell) > _EQUAL * np.maximum(buy, sell)
    return Answers(calls(probabilities, prior), (np.sign(buy - sell) * differ).astype(np.int8))


def directions(blocks: np.ndarray, labels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns the table of true against predicted sides of each block, SELL first, (blocks, 2, 2).

    Windows that did not move are left out. A window without a predicted side counts half for each
    side, so a forecaster that never predicts one has an MCC of 0.
    """
    moved = np.asarray(labels) != HOLD
    rows = 2 * blocks + (labels == BUY)
    bought = (1 + np.asarray(sides, np.float64)) / 2
    size = 2 * _num_blocks(blocks)
    counts = [np.bincount(rows, moved * share, size) for share in (1 - bought, bought)]
    return np.stack(counts, axis=-1).reshape(-1, 2, 2)


def movements(blocks: np.ndarray, labels: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Returns for each block whether it moved (rows) against the prediction, (blocks, 2, 2).

    HOLD comes first.
    """
    return _counts(blocks, labels != HOLD, calls != HOLD, 2)


def confusions(blocks: np.ndarray, labels: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Returns a confusion matrix for each block, (blocks, 3, 3), rows true."""
    return _counts(blocks, labels, calls, len(CLASS_NAMES))


def tables(blocks: np.ndarray, labels: np.ndarray, answers: Answers) -> dict[str, np.ndarray]:
    """Returns the tables of each block: `direction`, `movement`, and `classes`, all three.

    Args:
        blocks: the number of each window's block of time, 0.. without holes, (windows,).
        labels: class codes, (windows,).
        answers: to the same windows.

    Raises:
        ValueError: where they do not describe the same windows.
    """
    sizes = len(blocks), len(labels), len(answers.calls), len(answers.sides)
    if len(set(sizes)) > 1:
        raise ValueError(f"need a timestamp, a label and an answer for each window, got {sizes}")
    return {
        "direction": directions(blocks, labels, answers.sides),
        "movement": movements(blocks, labels, answers.calls),
        "classes": confusions(blocks, labels, answers.calls),
    }


def _counts(blocks: np.ndarray, true: np.ndarray, called: np.ndarray, num_kinds: int) -> np.ndarray:
    cells = (blocks * num_kinds + true) * num_kinds + called
    shape = (_num_blocks(blocks), num_kinds, num_kinds)
    return np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def _num_blocks(blocks: np.ndarray) -> int:
    return int(blocks.max()) + 1

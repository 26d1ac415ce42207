"""Compares the probabilities of two models for the same windows."""

from dataclasses import dataclass

import numpy as np

from evaluation.metrics import losses
from evaluation.verdict import interval

_WIDEST = 100.0  # nats: no mean NLL is so large


@dataclass(frozen=True)
class Paired:
    """The mean NLL of two models on the same windows.

    Attributes:
        nll: of the first, in nats.
        other: of the second.
        interval: 95 % interval of the difference, from a jackknife over blocks of time.
        error: standard error of the difference.
        num_blocks: blocks of time.
    """

    nll: float
    other: float
    interval: tuple[float, float]
    error: float
    num_blocks: int

    @property
    def difference(self) -> float:
        """NLL of the first minus that of the second; negative if the first is better."""
        return self.nll - self.other

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse by more than a standard error; also true if unknown."""
        return self.num_blocks < 2 or self.difference > self.error


def paired(labels: np.ndarray, model: np.ndarray, other: np.ndarray, blocks: np.ndarray) -> Paired:
    """Compares two models, leaving out each block of time in turn (Kuensch 1989).

    Args:
        labels: class codes of the windows, (windows,).
        model: probabilities of the first, (windows, classes).
        other: of the second.
        blocks: number of each window's block of time, 0.. without holes, (windows,).
    """
    of_model, of_other = losses(labels, model), losses(labels, other)
    totals, counts = np.bincount(blocks, of_model - of_other), np.bincount(blocks)
    difference, num_blocks = float(totals.sum() / counts.sum()), len(counts)
    if num_blocks < 2:
        return Paired(
            float(of_model.mean()), float(of_other.mean()), (-_WIDEST, _WIDEST), _WIDEST, num_blocks
        )
    without = (totals.sum() - totals) / (counts.sum() - counts)
    low, high = interval(difference, without, widest=_WIDEST)
    error = float(np.sqrt((num_blocks - 1) * np.var(without)))
    return Paired(float(of_model.mean()), float(of_other.mean()), (low, high), error, num_blocks)

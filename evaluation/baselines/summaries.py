"""Windows as the learners see them: a few numbers for each feature."""

from dataclasses import dataclass

import numpy as np

SUMMARIES = 4  # of each feature in a window


@dataclass(frozen=True)
class Windows:
    """Windows as the learners see them.

    Attributes:
        x: summaries, float32 or the same in float64 (windows, columns).
        labels: class codes, (windows,).
        blocks: number of each window's block of time, as long as a window with its label,
            (windows,).
    """

    x: np.ndarray
    labels: np.ndarray
    blocks: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Windows":
        """Returns some of them."""
        return Windows(self.x[chosen], self.labels[chosen], self.blocks[chosen])


def window_summary(x: np.ndarray, sums: type[np.floating] | None = None) -> np.ndarray:
    """Returns a few numbers for each feature of each window, float32 (batch, 4 * features).

    The last bar, the mean and standard deviation over the window, and the mean over its last
    quarter: level, scale, and what changed lately.

    Args:
        x: windows, (batch, time, features).
        sums: the type that sums are taken in; None: that of x. In float64 the summary does not
            depend on the order of a sum, and is that of the layer in a blend to the last digit:
            values that recur every day lie on thresholds of trees.
    """
    late = x[:, -max(1, x.shape[1] // 4) :]  # (batch, time / 4, features)
    means = [part.mean(axis=1, dtype=sums) for part in (x, late)]
    parts = [x[:, -1], means[0], x.std(axis=1, dtype=sums), means[1]]
    return np.concatenate(parts, axis=1).astype(np.float32)

"""What the label of a training window weighs: by how unique it is, and by its age."""

import numpy as np

from data.market.labels import average_uniqueness

_MOST_HALVINGS = 40  # a label that is older still weighs as much: a class may have old ones alone


def label_weights(
    ends: np.ndarray, times: np.ndarray, *, horizon: int = 0, half_life: int = 0
) -> np.ndarray | None:
    """Returns what the windows weigh, of mean 1, float32 (windows,); None: all the same.

    Args:
        ends: end rows of the windows, (windows,).
        times: of these rows, datetime64 (windows,).
        horizon: bars of a label, to weigh by the average uniqueness; 0: that does not count.
        half_life: bars after which a label weighs half; 0: the age does not count.
    """
    weights = np.ones(len(ends))
    if horizon:
        weights *= average_uniqueness(ends, horizon)
    if half_life:
        weights *= 0.5 ** np.minimum(ages(times) / half_life, _MOST_HALVINGS)
    if not (horizon or half_life):
        return None
    return (weights / weights.mean()).astype(np.float32)


def ages(times: np.ndarray) -> np.ndarray:
    """Returns how many later bars of any symbol there are, int64 (windows,).

    Bars are counted, not hours: a night or a weekend makes a label no older.
    """
    known, places = np.unique(times, return_inverse=True)
    return len(known) - 1 - places

"""Augments batches of training windows lightly: noise, a time mask, a shift to earlier bars.

Only training batches are augmented, and only as they are drawn, so memory is bounded by a batch.
"""

import numpy as np
from scipy.special import ndtri

# The Gaussian in 65,536 equally likely levels (at most 4.3 standard deviations): looking up random
# 16-bit numbers takes a sixth of the time of drawing normal ones, which was most of a batch's.
_LEVELS = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
_LEVELS = (_LEVELS / _LEVELS.std()).astype(np.float32)
_NOISE_CHUNK = 1 << 15  # values


def augment_sequences_batched(
    x: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_std: float = 0.0,
    mask_prob: float = 0.0,
    mask_max_t: int = 0,
    feature_std: np.ndarray | None = None,
    fill: np.ndarray | None = None,
    out: np.ndarray | None = None,
    rows: slice = slice(None),
    batch_size: int | None = None,
) -> np.ndarray:
    """Returns windows with Gaussian noise and masked bars; `x` itself if both are off.

    The noise comes first, so masked bars show `fill` exactly. The input is never modified, unless
    it is given as `out` too.

    Args:
        x: float32 (batch, time, features).
        rng: of this batch.
        noise_std: standard deviation of the noise in those of each feature; 0: off.
        mask_prob: share of the windows that get a mask; 0: off.
        mask_max_t: bars in the longest mask, which has 1..mask_max_t; 0: off. The last bar, the
            newest, is never masked.
        feature_std: standard deviation of each feature on training rows, (features,); None: 1.
        fill: what masked bars show, (features,), the training means; None: 0.
        out: float32 (batch, time, features) to write to; None: a new array.
        rows: which windows of a larger batch x holds: each then gets what it would get in that
            batch, since the random numbers of all are drawn.
        batch_size: of the larger batch; None: x is whole.

    Raises:
        ValueError: if an argument is out of range, or a mask could cover a whole window.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x = np.ones((2, 4, 3), "float32")  # two windows of four bars of three features
        >>> augment_sequences_batched(x, rng) is x  # everything is off unless it is asked for
        True
        >>> noisy = augment_sequences_batched(x, rng, noise_std=0.1)
        >>> noisy.shape, bool(np.abs(noisy - x).max() < 0.5)
        ((2, 4, 3), True)
        >>> masked = augment_sequences_batched(x, rng, mask_prob=1.0, mask_max_t=3)
        >>> masked[:, -1].tolist()  # the newest bar is never masked
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    _check(x, noise_std, mask_prob, mask_max_t)
    batch_size = len(x) if batch_size is None else batch_size
    masks = mask_prob > 0 and mask_max_t > 0
    if not masks and noise_std == 0:
        return x
    out = np.empty_like(x) if out is None else out
    if noise_std > 0:
        _add_noise(x, rng, noise_std, feature_std, out, range(batch_size)[rows], batch_size)
    elif out is not x:
        out[...] = x
    if masks:
        masked = _draw_masks((batch_size, x.shape[1]), rng, mask_prob, mask_max_t)[rows]
        out[masked] = 0.0 if fill is None else fill
    return out


def shift_ends(
    ends: np.ndarray,
    first_rows: np.ndarray,
    rng: np.random.Generator,
    max_shift: int,
    sequence_length: int,
) -> np.ndarray:
    """Returns the end rows of windows 0..max_shift bars earlier; `ends` itself if that is 0.

    The window shows other real bars and keeps its label, which then lies a little further ahead.
    A shift to later bars would show the label's own bars, so there is none.

    Args:
        ends: rows of the windows' last bars, (batch,).
        first_rows: first row of the segment that each window lies in, (batch,); no window is
            shifted to bars before it.
        rng: of this batch.
        max_shift: bars; a window near the start of its segment has fewer to choose from.
        sequence_length: bars of a window.
    """
    if max_shift < 0:
        raise ValueError(f"the time shift must be at least 0 bars, got {max_shift}")
    if max_shift == 0:
        return ends
    room = np.minimum(ends - first_rows - (sequence_length - 1), max_shift)
    return ends - rng.integers(0, room + 1)


def _check(x: np.ndarray, noise_std: float, mask_prob: float, mask_max_t: int) -> None:
    if x.ndim != 3:
        raise ValueError(f"windows must have shape (batch, time, features), got {x.shape}")
    if noise_std < 0:
        raise ValueError(f"the noise must be at least 0 standard deviations, got {noise_std}")
    if not 0 <= mask_prob <= 1:
        raise ValueError(f"the share of masked windows must lie in 0..1, got {mask_prob}")
    if not 0 <= mask_max_t < x.shape[1]:
        raise ValueError(
            f"a mask must leave the last of the {x.shape[1]} bars, so it may have at most "
            f"{x.shape[1] - 1} and at least 0; got {mask_max_t}"
        )


def _add_noise(x, rng, noise_std, feature_std, out, rows: range, batch_size: int) -> None:
    """Writes x with noise into `out`, a few windows at a time: fresh memory takes longest.

    x holds the windows `rows` of a batch, and each gets its random numbers of the whole batch.
    """
    scale = np.float32(noise_std) if feature_std is None else np.float32(noise_std * feature_std)
    size, first = x[0].size, rows.start
    step = max(1, _NOISE_CHUNK // size)
    for start in range(0, batch_size, step):
        stop = min(start + step, batch_size)
        words = rng.integers(1 << 64, size=-(-(stop - start) * size // 4), dtype=np.uint64)
        low, high = max(start, first), min(stop, rows.stop)
        if low < high:
            levels = words.view(np.uint16)[(low - start) * size : (high - start) * size]
            noise = _LEVELS.take(levels).reshape(high - low, *x.shape[1:])
            noise *= scale
            part = slice(low - first, high - first)
            np.add(x[part], noise, out=out[part])


def _draw_masks(shape: tuple[int, int], rng, mask_prob: float, mask_max_t: int) -> np.ndarray:
    """Returns which bars are masked, bool (batch, time): one run in some of the windows."""
    batch, time = shape
    lengths = rng.integers(1, mask_max_t + 1, size=batch)
    lengths[rng.random(batch) >= mask_prob] = 0
    starts = rng.integers(0, time - lengths)  # the last bar stays: start + length <= time - 1
    bars = np.arange(time)
    return (bars >= starts[:, None]) & (bars < (starts + lengths)[:, None])  # (batch, time)

"""Metrics of a classifier on labelled windows: confusion, MCC, F1, NLL, calibration, class rates.

Accuracy is here for completeness and is never the headline: with one frequent class a constant
scores well. MCC (Gorodkin 2004 for several classes) is 0 for every constant. What names a class is
about the calls, the classes with the largest lift over the prior; what is about probabilities is
NLL and calibration.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, recall_score

from data.market.labels import CLASS_NAMES
from evaluation.answers import EVEN, answers, tables
from evaluation.figures.scores import ClassRates, Scores

NUM_BINS = 15  # as in Guo et al. 2017
_SMALLEST = 1e-15  # probability; bounds the NLL of a single window at 34.5


def evaluate(
    labels: np.ndarray, probabilities: np.ndarray, prior: Sequence[float] | np.ndarray = EVEN
) -> Scores:
    """Returns the metrics of probabilities against labels.

        >>> evaluate(labels, probabilities, prior).nll
        0.9654

    Args:
        labels: class codes 0..2, (samples,).
        probabilities: in class order, (samples, 3).
        prior: class frequencies of the training period, (3,), or a row for each window, (samples,
            3), that the calls are made by; with an even one they are the most probable classes.

    Returns:
        of the calls direction and movement (see `evaluation.answers`), mcc, balanced_accuracy
        (mean recall of the classes that occur), macro_f1, accuracy, class_rates (predicted and
        true shares), confusion (rows: the true class) and support (windows of each true class);
        of the probabilities nll (nats), ece (of the most probable class) and classwise_ece.

    Raises:
        ValueError: where the two do not describe the same windows, or are no labels or no
            probabilities.
    """
    labels, probabilities = checked(labels, probabilities)
    predicted = answers(probabilities, prior)
    counted = tables(np.zeros(len(labels), np.int64), labels, predicted)
    confusion = counted["classes"][0]
    codes = np.arange(len(CLASS_NAMES))
    scored: dict[str, Any] = {"labels": codes, "average": "macro", "zero_division": 0.0}
    return Scores(
        direction=float(mcc(counted["direction"][0])),
        movement=float(mcc(counted["movement"][0])),
        mcc=float(mcc(confusion)),
        # balanced_accuracy_score warns of predicted classes that never occur; this is its value.
        balanced_accuracy=float(
            recall_score(labels, predicted.calls, **{**scored, "labels": np.unique(labels)})  # pyright: ignore[reportArgumentType]
        ),
        macro_f1=float(f1_score(labels, predicted.calls, **scored)),
        accuracy=float(accuracy_score(labels, predicted.calls)),
        nll=float(losses(labels, probabilities).mean()),
        ece=confidence_ece(labels, probabilities),
        classwise_ece=classwise_ece(labels, probabilities),
        class_rates=ClassRates(
            predicted=(confusion.sum(axis=0) / len(labels)).tolist(),
            true=(confusion.sum(axis=1) / len(labels)).tolist(),
        ),
        confusion=confusion.tolist(),
        support=confusion.sum(axis=1).tolist(),
    )


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 labels (samples,) and float64 probabilities (samples, 3).

    Raises:
        ValueError: see `evaluate`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    if (
        labels.ndim != 1
        or not len(labels)
        or probabilities.shape != (len(labels), len(CLASS_NAMES))
    ):
        raise ValueError(
            f"need labels (samples,) and probabilities (samples, {len(CLASS_NAMES)}) of the same "
            f"windows, at least one; got {labels.shape} and {probabilities.shape}"
        )
    if not np.isin(labels, np.arange(len(CLASS_NAMES))).all():
        raise ValueError(f"labels must be 0..{len(CLASS_NAMES) - 1}, got {np.unique(labels)[:5]}")
    sums = probabilities.sum(axis=1)
    if not (np.all(probabilities >= 0) and np.allclose(sums, 1, atol=1e-4)):
        row = int(np.argmin((probabilities >= 0).all(axis=1) & np.isclose(sums, 1, atol=1e-4)))
        raise ValueError(
            f"probabilities must be >= 0 and sum to 1; row {row} is {probabilities[row].tolist()}"
        )
    return labels.astype(np.int64), probabilities / sums[:, None]


def mcc(confusion: np.ndarray) -> np.ndarray:
    """Returns Matthews's correlation of confusion matrices (..., classes, classes).

    Gorodkin (2004); 0 where only one class occurs or is predicted. It is scikit-learn's, which
    takes no tables, of which intervals need thousands, and warns where there is one class alone.
    """
    confusion = np.asarray(confusion, np.float64)
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total, hits = true.sum(axis=-1), np.trace(confusion, axis1=-2, axis2=-1)
    covariance = hits * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the NLL of each window in nats, (samples,), each probability at least 1e-15."""
    of_true = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(of_true, _SMALLEST))


def confidence_ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the expected calibration error of the predicted class (Guo et al. 2017, eq. 3).

    Equal-width bins over the highest probability; mean of |hit rate - confidence| over windows.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=hits - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def classwise_ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the calibration error of all probabilities, mean over classes (Kull et al. 2019).

    Bins hold equally many windows, since market probabilities crowd around the class shares.
    """
    errors = []
    for code in range(probabilities.shape[1]):
        forecast, rate, size = reliability(labels == code, probabilities[:, code])
        errors.append(np.abs(forecast - rate) @ size / len(labels))
    return float(np.mean(errors))


def reliability(
    hits: np.ndarray, probability: np.ndarray, num_bins: int = NUM_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean probability, rate of hits, and size of bins of equally many windows.

    Args:
        hits: whether the class occurred, bool (samples,).
        probability: that was forecast for it, (samples,).
        num_bins: bins at the most.

    Returns:
        three arrays (bins,), by rising probability.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    forecast = np.array([probability[part].mean() for part in parts])
    rate = np.array([hits[part].mean() for part in parts])
    return forecast, rate, np.array([len(part) for part in parts])

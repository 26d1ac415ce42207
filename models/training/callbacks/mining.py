"""Hard-negative mining on a schedule: which training windows the batches should see more often.

Market labels are noisy, and the highest losses are mostly wrong labels. So the pool of hard
windows is a band of ranks: for each class the very top is left out and the next windows are taken.
Only then is the band thinned, for neighbouring windows share nearly all their bars: the hardest of
them counts, as one event. A pool that was filled up from below would end among the easiest.
"""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from models.prediction import Predict, compile_prediction, predict_windows
from models.probabilities import cross_entropies
from models.training.callbacks.base import StatefulCallback
from models.training.callbacks.ema import EMAWeightsCallback, averaged_weights
from models.training.schedules import linear_ramp


def hard_share(
    epoch: int, start_epoch: int, end_epoch: int, start_share: float, end_share: float
) -> float:
    """Returns the hard share of a batch: 0 before `start_epoch`, then a ramp to `end_epoch`."""
    if epoch < start_epoch:
        return 0.0
    return linear_ramp(epoch, start_epoch, end_epoch, start_share, end_share)


def hard_band(
    losses: np.ndarray,
    labels: np.ndarray,
    symbols: np.ndarray,
    rows: np.ndarray,
    *,
    top_k_fraction: float,
    trim_fraction: float,
    spacing: int = 1,
) -> dict[int, np.ndarray]:
    """Returns for each class with a band its windows, hardest first.

    Args:
        losses: of each window, (windows,); `nan` ranks highest.
        labels: class codes, (windows,).
        symbols: symbol codes, (windows,).
        rows: row of each window's last bar, (windows,); neighbours in time are neighbours here.
        top_k_fraction: share of a class that the band has before it is thinned.
        trim_fraction: share of a class, its highest losses, that is left out.
        spacing: rows within which windows of one symbol and class are one event; 1: none.
    """
    ranks, band = class_ranks(losses, labels), {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        first = int(np.ceil(trim_fraction * len(members)))
        stop = first + int(np.ceil(top_k_fraction * len(members)))
        order = members[np.argsort(ranks[members])][first:stop]
        if len(order):  # of a single window nothing is left by the trim
            band[int(label)] = order[_events(symbols[order], rows[order], spacing)]
    return band


def class_bands(
    logits: np.ndarray, labels: np.ndarray, *, top_k_fraction: float, trim_fraction: float
) -> np.ndarray:
    """Returns in which classes' bands each window lies, or would if it were of the class.

    A window would lie in a class's band if its loss as one of the class were among those of the
    band, see `hard_band`. So whether it does depends on the window, not on its label.

    Args:
        logits: (windows, classes).
        labels: class codes, (windows,).
        top_k_fraction: see `hard_band`.
        trim_fraction: see `hard_band`.

    Returns:
        uint8 (windows,): bit k for class k.
    """
    bands = np.zeros(len(labels), np.uint8)
    for label in np.unique(labels).tolist():
        losses = cross_entropies(logits, np.full(len(labels), label, np.uint8))
        own = losses[labels == label]
        ranked = np.sort(np.where(np.isnan(own), np.inf, own))[::-1]
        first = int(np.ceil(trim_fraction * len(ranked)))
        band = ranked[first : first + int(np.ceil(top_k_fraction * len(ranked)))]
        if len(band):
            bands |= ((losses >= band[-1]) & (losses <= band[0])).astype(np.uint8) << label
    return bands


def class_ranks(losses: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many windows of its class are harder than each, int64 (windows,)."""
    hardness = -np.where(np.isnan(losses), np.inf, losses)
    order = np.lexsort((hardness, labels))  # by class, then hardest first; stable
    counts = np.unique(labels, return_counts=True)[1]
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _events(symbols: np.ndarray, rows: np.ndarray, spacing: int) -> np.ndarray:
    """Returns the indices that are no neighbours of an earlier one that was returned."""
    # On one line, where windows of two symbols, or far apart, are just far enough.
    order = np.lexsort((rows, symbols))
    steps = np.minimum(np.diff(rows[order]), spacing)
    steps[np.diff(symbols[order]) != 0] = spacing
    places = np.empty(len(rows), np.int64)
    places[order] = spacing + np.cumsum(np.r_[0, steps])[: len(rows)]
    taken = bytearray(int(places.max(initial=0)) + spacing + 1)  # places too near to a taken one
    around, chosen = bytes([1]) * (2 * spacing - 1), []
    for index, place in enumerate(places.tolist()):
        if not taken[place]:
            taken[place - spacing + 1 : place + spacing] = around
            chosen.append(index)
    return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True)
class MiningPlan:
    """When and how hard windows are found.

    Attributes:
        start_epoch: first epoch with hard windows, counted from 0.
        update_period: epochs between two refreshes.
        top_k_fraction: share of a class's scored windows that forms its pool.
        trim_fraction: share of a class's highest losses that is left out.
        max_scored: windows scored at a refresh at the most, drawn anew each time; 0: all.
        spacing: bars within which windows of one symbol and class are one event.
        seed: the seed of the run; the subsample is drawn from (seed, epoch).
    """

    start_epoch: int
    update_period: int
    top_k_fraction: float
    trim_fraction: float
    max_scored: int
    spacing: int = 1
    seed: int = 0


class HardNegativeMining(StatefulCallback):
    """Refreshes the pool of hard windows, scored under the averaged weights.

    The first refresh is at the end of the epoch before `plan.start_epoch` (an untrained network has
    nothing to say, so never before the first epoch), the others follow every `plan.update_period`
    epochs. Only training windows are scored, those of `batches`, without augmentation. Listed after
    the callbacks that validate and choose, which may stop the training, and before `Checkpointer`.

    `refreshes` has for each refresh, in JSON values, the first `epoch` that it holds for, the
    windows `scored`, and under `classes` by class code: the windows `scored`; of the pool the 5, 50
    and 95 % quantiles of the `ranks` of loss (0: the hardest of the class, 1: the easiest) and the
    median probability of the true class, `p_true`; and what `pool_figures` says of that epoch.

    Args:
        batches: the training batches. It has `window_labels`, `window_symbols` and `window_rows`,
            each (windows,), `to_score(limit, rng)`, `set_hard_pool({class: positions},
            epoch=first_epoch)` and `pool_figures(epoch)`, see `data.batches.datasets`.
        ema: callback with the averages; None to score under the raw weights.
        plan: when and how hard windows are found.
        scorer: a model that shares the weights of the trained one and scores in its place; None:
            that one.
        predict: how windows are predicted.
    """

    def __init__(
        self,
        batches,
        ema: EMAWeightsCallback | None,
        plan: MiningPlan,
        scorer: keras.Model | None = None,
        predict: Predict = predict_windows,
    ):
        super().__init__()
        self.predict = predict
        self.batches, self.ema, self.plan, self.scorer = batches, ema, plan, scorer
        self.start_epoch = max(plan.start_epoch, 1)
        self.seconds = 0.0

    def reset(self):
        self.pool: dict[int, np.ndarray] = {}
        self.bands = np.zeros(0, np.uint8)
        self.pool_epoch: int | None = None
        self.refreshes: list[dict[str, Any]] = []

    def on_train_begin(self, logs=None):
        """Hands a pool that was set over again: now the model and its loss are known."""
        super().on_train_begin(logs)
        if self.pool_epoch is not None:
            self._hand_over()

    def trace(self) -> None:
        """Does nothing: the scoring comes last of what is compiled, and is traced then."""

    def compile(self) -> None:
        """Compiles the scoring, where this training comes to it."""
        if self.start_epoch < (self.params or {}).get("epochs", 0):
            windows, _ = self._to_score(epoch=0)
            compile_prediction(self._scorer, windows)

    def on_epoch_end(self, epoch, logs=None):
        since_start = epoch + 1 - self.start_epoch
        if since_start < 0 or since_start % self.plan.update_period:
            return
        if epoch + 1 == (self.params or {}).get("epochs"):
            return
        started = time.perf_counter()
        self.pool, self.bands, seen = self._mine(epoch)
        self.pool_epoch = epoch + 1
        self._hand_over()
        figures_given = self.batches.pool_figures(self.pool_epoch)
        classes = {str(label): figures | figures_given[label] for label, figures in seen.items()}
        num_scored = sum(figures["scored"] for figures in seen.values())
        self.refreshes.append({"epoch": self.pool_epoch, "scored": num_scored, "classes": classes})
        self.seconds += time.perf_counter() - started

    def _hand_over(self) -> None:
        # A loss that does not correct for the weights takes plain class codes.
        bands = {} if self._offsets is None else {"bands": self.bands}
        self.batches.set_hard_pool(self.pool, epoch=self.pool_epoch, **bands)

    def on_epoch_begin(self, epoch, logs=None):
        if self._offsets is not None:
            self._offsets.assign(self.batches.hard_offsets(epoch))

    @property
    def _offsets(self) -> keras.Variable | None:
        return getattr(getattr(self.model, "loss", None), "hard_offsets", None)

    def _mine(self, epoch: int) -> tuple[dict[int, np.ndarray], np.ndarray, dict[int, dict]]:
        """Returns the pools by class code, the bands, and how hard the pools' windows are."""
        batches = self.batches
        windows, by_window = self._to_score(epoch)
        with averaged_weights(self.ema, self.model):
            scored, logits = by_window(self.predict(self._scorer, windows))
        labels = np.asarray(batches.window_labels)[scored]
        losses = cross_entropies(logits, labels)
        band = hard_band(
            losses,
            labels,
            np.asarray(batches.window_symbols)[scored],
            np.asarray(batches.window_rows)[scored],
            top_k_fraction=self.plan.top_k_fraction,
            trim_fraction=self.plan.trim_fraction,
            spacing=self.plan.spacing,
        )
        bands = np.zeros(len(batches.window_labels), np.uint8)
        bands[scored] = class_bands(
            logits,
            labels,
            top_k_fraction=self.plan.top_k_fraction,
            trim_fraction=self.plan.trim_fraction,
        )
        ranks = class_ranks(losses, labels)
        seen = {
            label: _hardness(ranks[indices], losses[indices], int((labels == label).sum()))
            for label, indices in band.items()
        }
        return {label: scored[indices] for label, indices in band.items()}, bands, seen

    def _to_score(self, epoch: int):
        rng = np.random.default_rng((self.plan.seed, epoch))
        return self.batches.to_score(self.plan.max_scored, rng)

    @property
    def _scorer(self) -> keras.Model:
        return self.scorer or self.model

    def get_state(self):
        pool = {str(label): positions for label, positions in self.pool.items()}
        return {
            "pool": pool,
            "bands": self.bands,
            "pool_epoch": self.pool_epoch,
            "refreshes": list(self.refreshes),
        }

    def load(self, state):
        self.pool = {int(label): positions for label, positions in state["pool"].items()}
        self.pool_epoch, self.refreshes = state["pool_epoch"], list(state["refreshes"])
        self.bands = np.asarray(state["bands"], np.uint8)
        if self.pool_epoch is not None:
            self._hand_over()


def _hardness(ranks: np.ndarray, losses: np.ndarray, num_scored: int) -> dict[str, Any]:
    """Returns how hard the windows of a pool are; JSON values."""
    return {
        "scored": num_scored,
        "ranks": [float(np.quantile(ranks, q)) / num_scored for q in (0.05, 0.5, 0.95)],
        "p_true": float(np.exp(-np.median(losses))),
    }

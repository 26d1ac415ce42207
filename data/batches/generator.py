"""Yields training batches without Keras: of windows, or of sequences with many labels."""

from collections.abc import Iterator, Sequence

import numpy as np

from data.batches.sampling import BatchPlan
from data.batches.sequence_plan import SequencePlan
from data.market.windows import gather


def balanced_batch_generator(
    features: np.ndarray,
    ends: np.ndarray,
    labels: np.ndarray,
    symbols: np.ndarray,
    *,
    sequence_length: int,
    batch_size: int,
    seed: int,
    labels_per_sequence: int = 1,
    class_ratios: Sequence[float] | None = None,
    balance_symbols: bool = True,
    steps_per_epoch: int = 0,
    num_epochs: int | None = None,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields class-balanced batches, un-augmented.

    Args:
        features: float32 (rows, features), sorted by symbol, then time.
        ends: rows of the windows' last bars, (windows,); rising where there are many labels.
        labels: class codes of the windows, (windows,).
        symbols: symbol codes of the windows, (windows,).
        sequence_length: bars of a window.
        batch_size: windows, or sequences, in every batch.
        seed: at least 0.
        labels_per_sequence: K; 1: windows, else sequences, see `data.batches.runs`.
        class_ratios: of the classes in a batch of windows, or of their weights in an epoch of
            sequences; any scale; None: equal.
        balance_symbols: whether windows of each class come from all symbols alike, or sequences
            go round the symbols.
        steps_per_epoch: batches of an epoch; 0: as many as one pass needs.
        num_epochs: None: endless.

    Yields:
        of windows x float32 (batch, time, features) and y int32 (batch,); of sequences x, y
        (batch, K) and weights float32 (batch, K), 0 where a step has no label.

    Examples:
        >>> rows = 300  # of two symbols, one after the other
        >>> features = np.random.default_rng(0).normal(size=(rows, 5)).astype("float32")
        >>> symbols = np.repeat([0, 1], rows // 2)
        >>> ends = np.flatnonzero(np.arange(rows) % (rows // 2) >= 19)  # of windows of 20 bars
        >>> labels = np.digitize(features[ends, 0], [-1.0, 1.0])  # most are 1
        >>> batches = balanced_batch_generator(
        ...     features, ends, labels, symbols[ends], sequence_length=20, batch_size=12, seed=0
        ... )
        >>> x, y = next(batches)
        >>> x.shape, np.bincount(y).tolist()
        ((12, 20, 5), [4, 4, 4])
        >>> bool((np.digitize(x[:, -1, 0], [-1.0, 1.0]) == y).all())
        True
    """
    labels = np.asarray(labels, np.int32)
    options = {
        "batch_size": batch_size,
        "seed": seed,
        "class_ratios": class_ratios,
        "balance_classes": True,
        "balance_symbols": balance_symbols,
        "steps_per_epoch": steps_per_epoch,
    }
    if labels_per_sequence == 1:
        plan = BatchPlan(labels, symbols, **options)
    else:
        plan = SequencePlan(
            labels,
            symbols,
            ends,
            sequence_length=sequence_length,
            labels_per_sequence=labels_per_sequence,
            **options,
        )
    epoch = 0
    while num_epochs is None or epoch < num_epochs:
        for index in range(plan.num_batches):
            if isinstance(plan, BatchPlan):
                drawn = plan.indices(epoch, index)
                yield gather(features, ends[drawn], sequence_length), labels[drawn]
            else:
                sequences = plan.sequences(epoch, index)
                yield sequences.read(features), *plan.targets(sequences, epoch)
        epoch += 1

"""Segments runs of training windows into sequences whose last steps carry the labels of their bars.

A run is a series of training windows of one segment that end at one bar after the other. Glossary:
L is `sequence_length`, K is `labels_per_sequence`, C the shortest context (bars up to and with the
label's own) that a label is read with. A sequence has C + K - 1 bars, and its last K steps, with
contexts of C .. C + K - 1 bars, may carry labels; C = L - K // 2 puts L in the middle.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """Some sequences, by the rows they show and the windows whose labels they carry.

    Args:
        starts: row of the first bar, (sequences,).
        first_rows: first row that a window of the run shows, (sequences,).
        last_rows: last row that one shows, (sequences,).
        positions: which window's label each of the last K steps carries, int32 (sequences, K);
            -1: none.
        num_bars: of a sequence.
    """

    starts: np.ndarray
    first_rows: np.ndarray
    last_rows: np.ndarray
    positions: np.ndarray
    num_bars: int

    def __getitem__(self, part: slice) -> "Sequences":
        kept = (self.starts[part], self.first_rows[part], self.last_rows[part])
        return Sequences(*kept, self.positions[part], self.num_bars)

    def read(self, features: np.ndarray, delays: np.ndarray | int = 0) -> np.ndarray:
        """Returns the bars: a float32 copy (sequences, num_bars, features).

        In a run too short for a whole sequence its last row is repeated; there are no labels.

        Args:
            features: float32 (rows, features); may be memory-mapped.
            delays: bars that each sequence is read earlier, (sequences,).
        """
        rows = (self.starts - delays)[:, None] + np.arange(self.num_bars)
        rows = np.minimum(rows, self.last_rows[:, None])  # (sequences, num_bars)
        return np.take(np.asarray(features), rows, axis=0)


class Runs:
    """The runs of some training windows, to be segmented into sequences.

    Args:
        ends: rows of the windows' last bars, (windows,), rising.
        sequence_length: L, at least 2: then windows that end at one bar after the other overlap,
            so they lie in one segment.
        labels_per_sequence: K.

    Raises:
        ValueError: where no context would be left.
    """

    def __init__(self, ends: np.ndarray, sequence_length: int, labels_per_sequence: int):
        if sequence_length < 2:
            raise ValueError(
                f"sequences need windows of at least 2 bars, got {sequence_length}; with "
                "1 label there are windows instead"
            )
        self.shortest_context = sequence_length - labels_per_sequence // 2
        if labels_per_sequence < 1 or self.shortest_context < 1:
            raise ValueError(
                f"a sequence must have 1 to {2 * sequence_length - 1} labels for windows of "
                f"{sequence_length} bars, got {labels_per_sequence}"
            )
        self.labels_per_sequence = labels_per_sequence
        self.num_bars = self.shortest_context + labels_per_sequence - 1
        breaks = np.flatnonzero(np.diff(ends) != 1) + 1
        self.begins = np.r_[0, breaks]  # position of each run's first window
        self.lengths = np.diff(np.r_[self.begins, len(ends)])  # windows of each run
        self._first_ends = ends[self.begins].astype(np.int64)
        self._sequence_length = sequence_length

    @property
    def max_sequences(self) -> int:
        """The most sequences that any segmentation has."""
        return int((1 - (1 - self.lengths) // self.labels_per_sequence).sum())

    def segment(self, first_lengths: np.ndarray) -> "Segmentation":
        """Returns the pieces of all runs.

        Args:
            first_lengths: labels of each run's first piece, 1..K, (runs,); the others have K, the
                last of a run what is left.
        """
        step = self.labels_per_sequence
        counts = 1 - np.minimum(first_lengths - self.lengths, 0) // step
        runs = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
        stops = first_lengths[runs] + number * step
        return Segmentation(
            self,
            runs.astype(np.int32),
            (self.begins[runs] + np.maximum(stops - step, 0)).astype(np.int32),
            (self.begins[runs] + np.minimum(stops, self.lengths[runs])).astype(np.int32),
        )


@dataclass(frozen=True)
class Segmentation:
    """One way to segment all runs: each window's label lies in exactly one piece.

    Args:
        all_runs: that are segmented.
        runs: which one each piece belongs to, (pieces,).
        begins: position of each piece's first window, (pieces,).
        stops: position after its last one, (pieces,).
    """

    all_runs: Runs
    runs: np.ndarray
    begins: np.ndarray
    stops: np.ndarray

    def __len__(self) -> int:
        return len(self.runs)

    def sequences(self, numbers: np.ndarray) -> Sequences:
        """Returns the sequences of some pieces; of a negative number one without labels.

        A sequence ends at the last label of its piece. Near the start of a run it begins with the
        first bar that a window of the run shows, and its labels come before its end.
        """
        whole, runs = self.all_runs, self.runs[numbers]
        offsets = whole._first_ends[runs] - whole.begins[runs]  # a window's end less its position
        first_rows = whole._first_ends[runs] - whole._sequence_length + 1
        last_rows = whole._first_ends[runs] + whole.lengths[runs] - 1
        begins, stops = self.begins[numbers], self.stops[numbers]
        starts = np.maximum(stops - 1 + offsets - whole.num_bars + 1, first_rows)
        steps = whole.shortest_context - 1 + np.arange(whole.labels_per_sequence)
        positions = (starts - offsets)[:, None] + steps  # (sequences, K)
        inside = (positions >= begins[:, None]) & (positions < stops[:, None])
        inside &= (np.asarray(numbers) >= 0)[:, None]
        positions = np.where(inside, positions, -1).astype(np.int32)
        return Sequences(starts, first_rows, last_rows, positions, whole.num_bars)

"""The interface by which a run reports its progress; nothing is printed here."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from evaluation.figures.run import Metrics, Split


class Reporter(Protocol):
    """Reports what a run does: nothing by itself; `recipe.cli.console` prints it."""

    def log(self, name: str, text: str, /) -> None:
        """Reports a text under a name."""

    def note(self, text: str, /) -> None:
        """Reports a remark."""

    def working(self, name: str, text: str, /) -> AbstractContextManager[Callable[[float], None]]:
        """Reports the start of a long step; gives a function that takes the share done."""
        return self.bar()

    def announce_market(self, market: Any, num_bars: int, /) -> None:
        """Reports which bars were read."""

    def announce_number(self, number: int, num_folds: int, /, left: float) -> None:
        """Reports which fold begins, counted from 0, and the seconds left."""

    def announce_fold(self, training: Any, splits: dict[str, Split], /) -> None:
        """Reports what the training of a fold will see."""

    def announce_device(self, devices: Sequence[str], /) -> None:
        """Reports the devices that are trained on, as Keras names them."""

    def bar(self) -> AbstractContextManager[Callable[[float], None]]:
        """Shows a progress bar; gives a function that takes the share done."""
        return contextlib.nullcontext(lambda _share: None)

    def epoch(self, number: int, num_epochs: int, row: Mapping[str, float], s: float, /) -> None:
        """Reports the figures of an epoch, counted from 0, and its seconds."""

    def announce_member(self, training: Any, /) -> None:
        """Reports which member of an ensemble is trained."""

    def conclude(self, metrics: Metrics, folder: Path, run_info: dict[str, Any], /) -> None:
        """Reports the figures of a finished run."""


class Silent(Reporter):
    """Reports nothing."""


SILENT = Silent()

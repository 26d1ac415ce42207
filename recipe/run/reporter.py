"""What a run says while it works: nothing, unless it is given somebody who prints it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from evaluation.figures.run import Metrics, Split


class Reporter(Protocol):
    """Is told what a run does; `recipe.cli.console` is one that prints."""

    def log(self, name: str, text: str, /) -> None:
        """Is told a text under a name."""
        ...

    def note(self, text: str, /) -> None:
        """Is told a remark."""
        ...

    def working(self, name: str, text: str, /) -> AbstractContextManager[Callable[[float], None]]:
        """Is told what takes a while; gives a function that takes the share that is done."""
        ...

    def announce_market(self, market: Any, num_bars: int, /) -> None:
        """Is told which bars were read."""
        ...

    def announce_number(self, number: int, num_folds: int, /, left: float) -> None:
        """Is told which fold begins, counted from 0, and the seconds that are left."""
        ...

    def announce_fold(self, training: Any, splits: dict[str, Split], /) -> None:
        """Is told what the training of a fold is about to see."""
        ...

    def announce_device(self, devices: Sequence[str], /) -> None:
        """Is told what it is trained on, as Keras names it."""
        ...

    def bar(self) -> AbstractContextManager[Callable[[float], None]]:
        """Is told that something is under way; gives a function that takes the share done."""
        ...

    def epoch(self, number: int, num_epochs: int, row: Mapping[str, float], s: float, /) -> None:
        """Is told the figures of an epoch, counted from 0, and its seconds."""
        ...

    def announce_member(self, training: Any, /) -> None:
        """Is told which member of an ensemble is trained."""
        ...

    def conclude(self, metrics: Metrics, folder: Path, run_info: dict[str, Any], /) -> None:
        """Is told the figures of a finished run."""
        ...


class Silent:
    """Says nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_what, **_more: None

    def working(self, _name: str, _text: str) -> AbstractContextManager[Callable[[float], None]]:
        """Gives a function that does nothing."""
        return self.bar()

    def bar(self) -> AbstractContextManager[Callable[[float], None]]:
        """Gives a function that does nothing."""
        return contextlib.nullcontext(lambda _share: None)


SILENT: Any = Silent()

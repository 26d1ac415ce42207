"""The one base class of errors in what a person gave: flags, files, bars, models."""

from collections.abc import Sequence

from core.texts import one_line

_MOST_FAULTS = 100


class InputError(ValueError):
    """Input that cannot be used; the command line prints `faults`, a line each, and exits with 2.

    Args:
        faults: one sentence for each fault (what must hold, what came, where), or a single one.
    """

    def __init__(self, faults: str | Sequence[str]):
        lines = faults.splitlines() if isinstance(faults, str) else faults
        self.faults = [one_line(line) for line in lines[:_MOST_FAULTS]]
        super().__init__("\n".join(self.faults))

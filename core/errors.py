"""The one base class of errors in what a person gave: flags, files, bars, models."""

from collections.abc import Sequence


class InputError(ValueError):
    """Input that cannot be used; the command line prints `faults`, a line each, and exits with 2.

    Args:
        faults: one sentence for each fault (what must hold, what came, where), or a single one.
    """

    def __init__(self, faults: str | Sequence[str]):
        self.faults = faults.splitlines() if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))

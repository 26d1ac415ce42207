"""Where the modules of this project are: at the top of a checkout, in one package of a wheel."""

import os
from pathlib import Path

PACKAGE = __name__.removesuffix("core.place")  # "" or that of the wheel, with a dot
ROOT = Path(__file__).parents[1 + PACKAGE.count(".")]  # the folder that modules are found in
PROGRAM = "xlstm-classifier" if PACKAGE else "python train_model.py"


def module(name: str) -> str:
    """Returns the whole name of a module, for `python -m`.

    Args:
        name: as a checkout has it.
    """
    return PACKAGE + name


def environment() -> dict[str, str]:
    """Returns the environment of a process that finds these modules from any folder."""
    path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}

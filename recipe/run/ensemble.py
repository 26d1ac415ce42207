"""The model of a fold: one trained member, or the mean of several that differ by their seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from data.market.market import Fold
from recipe.run.deploy import deploy_mean
from recipe.run.fold import Assembly, TrainedMember, assemble, predict_splits, train

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class TrainedFold:
    """The deployable model of a fold, and the members that it was made of."""

    fold: Fold
    deployable: keras.Model
    probabilities: dict[str, np.ndarray]
    calibration: dict[str, Any]
    members: list[TrainedMember]


def train_fold(
    first: Assembly,
    folder: Path,
    *,
    resume: bool,
    verbose: int,
    note: Callable[[str], None],
    on_member: Callable[[Assembly], None],
    on_rows: Callable[[Rows], None],
    made_from: Mapping[str, Any] | None = None,
) -> TrainedFold:
    """Trains the members of a fold one after another, and makes one model of them.

    Args:
        first: the first member, fresh from `recipe.run.fold.assemble`.
        folder: where the checkpoints go; where there are several members, in a folder each.
        resume: whether to go on from the newest checkpoint of each.
        verbose: that of Keras's `fit`.
        note: told about alarms, and checkpoints that are passed over.
        on_member: told before a member is trained.
        on_rows: given the history of all members so far after each epoch, with the number of the
            `member` where there are several.
        made_from: the origin of the run, for the checkpoints.
    """
    size = first.flags.ENSEMBLE_SIZE
    members, earlier = [], []
    assembly = first
    for number in range(size):
        if number:
            assembly = assemble(first.flags, first.market, first.number, number)
        on_member(assembly)
        tag = {"member": number} if size > 1 else {}
        trained = train(
            assembly,
            folder / f"member-{number}" if size > 1 else folder,
            resume=resume,
            verbose=verbose,
            note=note,
            on_rows=lambda rows, before=earlier, tag=tag: on_rows(
                before + [tag | row for row in rows]
            ),
            made_from=made_from,
        )
        members.append(trained)
        earlier = earlier + [tag | row for row in trained.rows]
    return _together(assembly, members)


def _together(assembly: Assembly, members: list[TrainedMember]) -> TrainedFold:
    """Returns the fold of a single member as it is, or with a model that averages several."""
    if len(members) == 1:
        only = members[0]
        deployable, calibration = only.deployable, only.calibration
        probabilities = only.probabilities
    else:
        deployable, calibration = deploy_mean(assembly, members)
        probabilities = predict_splits(deployable, assembly.market, assembly.fold)
    return TrainedFold(assembly.fold, deployable, probabilities, calibration, members)

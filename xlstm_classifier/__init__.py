"""The Python edge: bars in a DataFrame to a model that answers, and the blocks it is made of."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.errors import InputError
    from data.bars.read import read_bars
    from data.batches.augment import augment_sequences_batched
    from data.batches.generator import balanced_batch_generator
    from data.features.own import feature, load_features
    from models.xlstm_rl_model import (
        AsymmetricFocalLoss,
        AveragedAdam,
        EMAWeightsCallback,
        EpochSchedules,
        EpochTracker,
        MiningPlan,
        MixedLoss,
        MLSTMBlock,
        SLSTMBlock,
        ValidationPlan,
        WarmUpCosineDecayScheduler,
        build_xlstm_classifier,
        get_training_callbacks,
        load_classifier,
    )
    from xlstm_classifier.classifier import XLSTMClassifier

__all__ = [
    "AsymmetricFocalLoss",
    "AveragedAdam",
    "EMAWeightsCallback",
    "EpochSchedules",
    "EpochTracker",
    "InputError",
    "MLSTMBlock",
    "MiningPlan",
    "MixedLoss",
    "SLSTMBlock",
    "ValidationPlan",
    "WarmUpCosineDecayScheduler",
    "XLSTMClassifier",
    "augment_sequences_batched",
    "balanced_batch_generator",
    "build_xlstm_classifier",
    "feature",
    "get_training_callbacks",
    "load_classifier",
    "load_features",
    "read_bars",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for: the blocks need Keras, which takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "XLSTMClassifier":
        from xlstm_classifier import classifier as home
    elif name == "InputError":
        from core import errors as home
    elif name == "read_bars":
        from data.bars import read as home
    elif name in ("feature", "load_features"):
        from data.features import own as home
    else:
        from recipe.cli.backend import quiet_backend

        quiet_backend()
        if name == "augment_sequences_batched":
            from data.batches import augment as home
        elif name == "balanced_batch_generator":
            from data.batches import generator as home
        else:
            from models import xlstm_rl_model as home
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)

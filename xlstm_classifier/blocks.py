"""The parts of the recipe for models of one's own: network, losses, callbacks, batches."""

from data.batches.augment import augment_sequences_batched
from data.batches.generator import balanced_batch_generator
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

__all__ = [
    "AsymmetricFocalLoss",
    "AveragedAdam",
    "EMAWeightsCallback",
    "EpochSchedules",
    "EpochTracker",
    "MLSTMBlock",
    "MiningPlan",
    "MixedLoss",
    "SLSTMBlock",
    "ValidationPlan",
    "WarmUpCosineDecayScheduler",
    "augment_sequences_batched",
    "balanced_batch_generator",
    "build_xlstm_classifier",
    "get_training_callbacks",
    "load_classifier",
]

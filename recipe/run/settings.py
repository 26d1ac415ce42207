"""From the flags to the settings of each room: the one table of what a flag is for."""

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config import Flags
from models.restoration import RestorationSettings
from models.training.callbacks.mining import MiningPlan, hard_share
from models.training.settings import LossSettings, OptimizerSettings, TrainingSettings
from models.xlstm_rl_model import NetworkSettings

if TYPE_CHECKING:
    from data.batches.training_batches import BatchSettings

# What may join the network, by the word of the flag, and the baseline that it is.
BLENDED = {"trees": "boosted trees", "regression": "logistic regression"}


@dataclass(frozen=True)
class RunSettings:
    """What a run is made of, but for its market.

    Attributes:
        batches: how training batches are drawn.
        network: what is trained.
        training: how.
        mining: when and how hard windows are found; None: never.
        restoration: what is undone in the probabilities.
        max_validated: validation windows in an epoch at the most; 0: all.
        cost_bps: trading cost per side in basis points.
        seed: of the run.
        ensemble_size: models of a fold.
        blend: baselines that join the network in the model of a fold.
        refit: whether the shipped model is trained once more, on all bars.
        walk_warm: whether a fold starts at the weights of the one before.
        warm: of a training that starts at weights; None: these are.
    """

    batches: "BatchSettings"
    network: NetworkSettings
    training: TrainingSettings
    mining: MiningPlan | None
    restoration: RestorationSettings
    max_validated: int
    cost_bps: float
    seed: int
    ensemble_size: int
    blend: tuple[str, ...]
    refit: bool = False
    walk_warm: bool = False
    warm: "RunSettings | None" = None

    def seed_of(self, fold: int, member: int) -> int:
        """Returns the seed of a training; no two of a run have the same.

        In the first fold a member is what a run with its seed alone would be.
        """
        return self.seed + fold * self.ensemble_size + member


def run_settings(flags: Flags, *, is_warm: bool = False) -> RunSettings:
    """Returns the settings of all rooms but those of the bars.

    Args:
        flags: checked.
        is_warm: whether they are those of `warm_flags`, to which there are no further ones.
    """
    return RunSettings(
        batches=_batches(flags),
        network=network_settings(flags),
        training=training_settings(flags),
        mining=_mining(flags) if flags.USE_HARD_NEGATIVE_MINING else None,
        restoration=RestorationSettings(
            loss=flags.RESTORE_LOSS,
            prior=flags.RESTORE_PRIOR,
            temperature=flags.RESTORE_TEMPERATURE,
        ),
        max_validated=flags.VALIDATION_MAX_WINDOWS,
        cost_bps=flags.COST_BPS,
        seed=flags.SEED,
        ensemble_size=flags.ENSEMBLE_SIZE,
        blend=tuple(name for word, name in BLENDED.items() if word in flags.BLEND),
        refit=flags.REFIT,
        walk_warm=flags.WALK_FORWARD_WARM,
        warm=None if is_warm else run_settings(warm_flags(flags), is_warm=True),
    )


def network_settings(flags: Flags) -> NetworkSettings:
    """Returns the settings of the network."""
    return NetworkSettings(
        units=flags.XLSTM_UNITS,
        blocks=flags.XLSTM_BLOCKS,
        num_heads=flags.XLSTM_HEADS,
        prior_bias=flags.USE_PRIOR_BIAS,
        dropout_rnn1=flags.DROPOUT_RNN1,
        dropout_rnn2=flags.DROPOUT_RNN2,
        recurrent_dropout=flags.RECURRENT_DROPOUT,
        weight_decay_l2=flags.WEIGHT_DECAY_L2,
        gate_soft_cap=flags.GATE_SOFT_CAP,
        logit_clip=flags.LOGIT_CLIP,
        deviation_bars=flags.SEQUENCE_LENGTH if flags.ROLLING_DEVIATIONS else 0,
    )


def warm_flags(flags: Flags) -> Flags:
    """Returns the flags of a training that starts at weights.

    Its epochs are like the last ones of a whole training: what depends on the epoch begins as it
    was by then.
    """
    passed = max(flags.SUPERVISED_EPOCHS - flags.WARM_EPOCHS, 0)
    loss, mined = training_settings(flags).loss, _batches(flags).hard_share
    return replace(
        flags,
        SUPERVISED_EPOCHS=flags.WARM_EPOCHS,
        LR_BASE=flags.WARM_LR_BASE,
        LR_MIN=min(flags.LR_MIN, flags.WARM_LR_BASE),
        LR_WARMUP_EPOCHS=flags.WARM_LR_WARMUP_EPOCHS,
        AFL_WARMUP_EPOCHS=max(flags.AFL_WARMUP_EPOCHS - passed, 0),
        CE_WEIGHT_START=loss.ce_weight(passed),
        LOGIT_CLIP_RELEASE_EPOCH=max(flags.LOGIT_CLIP_RELEASE_EPOCH - passed, 0),
        HNM_START_EPOCH=max(flags.HNM_START_EPOCH - passed, 0),
        HNM_END_EPOCH=max(flags.HNM_END_EPOCH - passed, 0),
        HNM_HARD_SAMPLE_START=mined(max(passed, flags.HNM_START_EPOCH)) if mined else 0.0,
    )


def _batches(flags: Flags) -> "BatchSettings":
    from data.batches.training_batches import BatchSettings  # needs TA-Lib; benchmarks have none

    mined = functools.partial(
        hard_share,
        start_epoch=flags.HNM_START_EPOCH,
        end_epoch=flags.HNM_END_EPOCH,
        start_share=flags.HNM_HARD_SAMPLE_START,
        end_share=flags.HNM_HARD_SAMPLE_END,
    )
    augmentations = {
        "noise_std": flags.AUG_NOISE_STD,
        # A label that is asked a bar earlier is another one where it looks a few bars ahead.
        "time_shift": min(flags.AUG_TIME_SHIFT, flags.FUTURE_WINDOW // 6),
        "mask_prob": flags.AUG_MASK_PROB,
        "mask_max_t": flags.AUG_MASK_MAX_T,
    }
    return BatchSettings(
        batch_size=flags.SUPERVISED_BATCH_SIZE,
        labels_per_sequence=flags.LABELS_PER_SEQUENCE or flags.SEQUENCE_LENGTH,
        steps_per_epoch=flags.STEPS_PER_EPOCH,
        class_ratios=flags.TARGET_CLASS_RATIOS,
        balance_classes=flags.CLASS_BALANCED_BATCHING,
        balance_symbols=flags.SYMBOL_STRATIFIED_BATCHING,
        hard_share=mined if flags.USE_HARD_NEGATIVE_MINING else None,
        weigh_uniqueness=flags.USE_UNIQUENESS_WEIGHTS,
        half_life=flags.RECENCY_HALF_LIFE,
        augmentations=augmentations if flags.USE_AUGMENTATIONS else None,
    )


def training_settings(flags: Flags) -> TrainingSettings:
    """Returns the settings of the training of the network."""
    return TrainingSettings(
        epochs=flags.SUPERVISED_EPOCHS,
        loss=LossSettings(
            alpha=flags.AFL_ALPHA,
            gamma=flags.AFL_GAMMA,
            smoothing=flags.CLASS_SMOOTHING,
            ce_start=flags.CE_WEIGHT_START,
            ce_end=flags.CE_WEIGHT_END,
            warmup_epochs=flags.AFL_WARMUP_EPOCHS,
        ),
        optimizer=OptimizerSettings(
            peak=flags.LR_BASE,
            minimum=flags.LR_MIN,
            warmup_epochs=flags.LR_WARMUP_EPOCHS,
            clip_norm=flags.GRADIENT_CLIP_NORM,
            average_decay=flags.EMA_DECAY if flags.USE_EMA_VALIDATION else 0.0,
        ),
        logit_cap=flags.LOGIT_CLIP,
        cap_release_epoch=flags.LOGIT_CLIP_RELEASE_EPOCH,
        monitor=flags.CHECKPOINT_METRIC,
        patience=flags.EARLY_STOPPING_EPOCHS,
        jit_compile=flags.JIT_COMPILE,
    )


def _mining(flags: Flags) -> MiningPlan:
    return MiningPlan(
        start_epoch=flags.HNM_START_EPOCH,
        update_period=flags.HNM_UPDATE_PERIOD,
        top_k_fraction=flags.HNM_TOP_K_FRACTION,
        trim_fraction=flags.HNM_TRIM_FRACTION,
        max_scored=flags.HNM_MAX_SCORED,
        # Labels of neighbours share all but one bar of the horizon. But thinned to one in a
        # horizon, a band keeps too little of its class for the hard share within its bound.
        spacing=max(flags.FUTURE_WINDOW // 4, 1),
        seed=flags.SEED,
    )

from pathlib import Path

import numpy as np
import pytest

import config
from data.bars.synthetic import persistent_drift
from data.batches.training_batches import LEAST_BATCHES
from data.market.market import build_market, training_prior
from models.training.callbacks.validation import validation_metrics
from recipe.run.fold import train
from recipe.run.market import market_settings
from recipe.run.settings import run_settings
from recipe.run.training import assemble

# Small enough for many trainings, with every improvement at work in three epochs.
TINY = {
    "JIT_COMPILE": False,  # seconds of compilation
    "SEQUENCE_LENGTH": 8,
    "LABELS_PER_SEQUENCE": 1,
    "FUTURE_WINDOW": 6,  # a window is shifted by a sixth of it at the most
    "EMBARGO_BARS": 3,
    "XLSTM_BLOCKS": "m",
    "XLSTM_UNITS": 4,
    "XLSTM_HEADS": 2,
    "SUPERVISED_EPOCHS": 3,
    "STEPS_PER_EPOCH": 5,
    "SUPERVISED_BATCH_SIZE": 12,
    "LR_BASE": 1e-2,
    "LR_WARMUP_EPOCHS": 0.5,
    "AFL_WARMUP_EPOCHS": 2,
    "CE_WEIGHT_START": 0.9,  # some focal loss in every epoch, for there to be something to restore
    "GRADIENT_CLIP_NORM": 0.1,  # below that of some steps
    "LOGIT_CLIP": 1.0,
    "LOGIT_CLIP_RELEASE_EPOCH": 2,
    "HNM_START_EPOCH": 1,
    "HNM_END_EPOCH": 2,
    "HNM_UPDATE_PERIOD": 1,
    "HNM_MAX_SCORED": 200,
    "AUG_MASK_PROB": 0.5,
    "VALIDATION_MAX_WINDOWS": 100,
}

# Every improvement's flags: the off-value, or another value.
FLIPS = {
    "[1] peak": {"LR_BASE": 2e-2},
    "[1] minimum": {"LR_MIN": 1e-2},
    "[1] warm-up": {"LR_WARMUP_EPOCHS": 0.0},
    "[1] clipping": {"GRADIENT_CLIP_NORM": 0.0},
    "[2] prior bias": {"USE_PRIOR_BIAS": False},
    "[3] blend": {"CE_WEIGHT_START": 1.0, "CE_WEIGHT_END": 1.0},
    "[3] start": {"CE_WEIGHT_START": 0.5},
    "[3] length": {"AFL_WARMUP_EPOCHS": 1},
    "[3] alpha": {"AFL_ALPHA": (1.0, 0.8, 1.0)},
    "[3] gamma": {"AFL_GAMMA": (0.0, 0.0, 0.0)},
    "[3] smoothing": {"CLASS_SMOOTHING": (0.0, 0.0, 0.0)},
    "[4] averages": {"USE_EMA_VALIDATION": False},
    "[4] decay": {"EMA_DECAY": 0.5},
    "[5] mining": {"USE_HARD_NEGATIVE_MINING": False},
    "[5] share": {"HNM_HARD_SAMPLE_START": 0.0, "HNM_HARD_SAMPLE_END": 0.0},
    "[5] start": {"HNM_START_EPOCH": 2},
    "[5] pool": {"HNM_TOP_K_FRACTION": 0.05},
    "[5] trim": {"HNM_TRIM_FRACTION": 0.3},
    "[5] scored": {"HNM_MAX_SCORED": 60},
    "[6] dropout 1": {"DROPOUT_RNN1": 0.0},
    "[6] dropout 2": {"XLSTM_BLOCKS": "mm", "DROPOUT_RNN2": 0.0},
    "[6] recurrent dropout": {"RECURRENT_DROPOUT": 0.0},
    "[6] L2": {"WEIGHT_DECAY_L2": 0.0},
    "[6] logit clip": {"LOGIT_CLIP": 0.0},
    "[6] release": {"LOGIT_CLIP_RELEASE_EPOCH": 1},
    "[7] augmentations": {"USE_AUGMENTATIONS": False},
    "[7] noise": {"AUG_NOISE_STD": 0.0},
    "[7] shift": {"AUG_TIME_SHIFT": 0},
    "[7] mask": {"AUG_MASK_PROB": 0.0},
    "[7] mask length": {"AUG_MASK_MAX_T": 2},
    "[8] classes": {"CLASS_BALANCED_BATCHING": False},
    "[8] symbols": {"SYMBOL_STRATIFIED_BATCHING": False},
    "deviations": {"ROLLING_DEVIATIONS": False},
    "gate cap": {"GATE_SOFT_CAP": 0.5},
    "uniqueness": {"USE_UNIQUENESS_WEIGHTS": True},
    "recency": {"RECENCY_HALF_LIFE": 100},
    "validated windows": {"VALIDATION_MAX_WINDOWS": 0},
    "restored loss": {"RESTORE_LOSS": False},
    "restored prior": {"RESTORE_PRIOR": False},
    "restored temperature": {"RESTORE_TEMPERATURE": False},
    "seed": {"SEED": 1},
    "batch size": {"SUPERVISED_BATCH_SIZE": 15},
    "blocks": {"XLSTM_BLOCKS": "mm"},
    "[5] period": {"HNM_UPDATE_PERIOD": 2},
    "[5] end": {"HNM_END_EPOCH": 4},
    "[5] end share": {"HNM_HARD_SAMPLE_END": 0.9},
}


@pytest.fixture(scope="module")
def bars():
    return persistent_drift(num_symbols=3, num_bars=700, seed=1)


@pytest.fixture(scope="module")
def market(bars):
    flags = config.load(**TINY)
    return build_market(bars, market_settings(flags))


def trained(market, folder, **changes):
    """Returns what a training gave: the history and the validation probabilities."""
    return seen(train_whole(market, folder, **changes)[1])


def seen(result):
    return result.rows, result.alone.probabilities["validation"]


def train_whole(market, folder, **changes):
    """Returns what was assembled, and what was trained."""
    training = assembled(market, **changes)
    result = train(
        training,
        folder,
        resume=False,
        note=lambda text: None,
        on_rows=lambda rows: None,
    )
    return training, result


def assembled(market, **changes):
    return assemble(run_settings(config.load(**(TINY | changes))), market, 0)


@pytest.fixture(scope="module")
def plain(market, tmp_path_factory):
    return trained(market, tmp_path_factory.mktemp("plain"))


def same(a, b):
    return a[0] == b[0] and np.array_equal(a[1], b[1])


def test_the_same_flags_give_the_same_training(market, plain, tmp_path):
    assert same(trained(market, tmp_path), plain)


# A training takes seconds: of each improvement one flip is always run, the others are slow.
QUICK = (
    "[1] peak",
    "[2] prior bias",
    "[3] blend",
    "[4] averages",
    "[5] mining",
    "[6] dropout 1",
    "[7] augmentations",
    "[8] classes",
)


def test_of_each_improvement_one_flip_is_always_run():
    assert [name[1] for name in QUICK] == list("12345678") and set(QUICK) <= set(FLIPS)


@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in FLIPS if n not in QUICK)],
)
def test_a_flipped_flag_changes_the_training(name, market, plain, tmp_path):
    if name == "[6] dropout 2":  # of the second block
        plain = trained(market, tmp_path / "plain", XLSTM_BLOCKS="mm")
    assert not same(trained(market, tmp_path, **FLIPS[name]), plain)


SEQUENCES = {"LABELS_PER_SEQUENCE": 5, "VALIDATION_MAX_WINDOWS": 0}


@pytest.fixture(scope="module")
def whole_of_sequences(market, tmp_path_factory):
    return train_whole(market, tmp_path_factory.mktemp("sequences"), **SEQUENCES)


@pytest.fixture(scope="module")
def of_sequences(whole_of_sequences):
    return seen(whole_of_sequences[1])


@pytest.mark.slow
def test_sequences_with_many_labels_train_otherwise_than_windows(plain, of_sequences):
    assert not same(of_sequences, plain)
    assert {row["hard_share"] > 0 for row in of_sequences[0]} == {False, True}


@pytest.mark.slow  # that runs of sequences repeat is also seen by the replay in test_train_model.py
def test_sequences_with_many_labels_train_repeatably(market, of_sequences, tmp_path):
    assert same(trained(market, tmp_path, **SEQUENCES), of_sequences)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["[8] classes", "[5] mining", "[2] prior bias", "[7] shift", "uniqueness", "recency"],
)
def test_a_flipped_flag_changes_the_training_of_sequences(name, market, of_sequences, tmp_path):
    assert not same(trained(market, tmp_path, **(SEQUENCES | FLIPS[name])), of_sequences)


def test_what_sequences_chose_is_what_is_shipped(whole_of_sequences):
    training, result = whole_of_sequences
    labels = training.fold.labels[training.fold.validation]
    shown = np.log(result.alone.probabilities["validation"].astype(np.float64))
    prior = training_prior(training.fold)
    now = validation_metrics(labels, shown, ("sell", "hold", "buy"), prior)
    then = result.rows[result.best_epoch]
    assert all(now[name] == pytest.approx(then[name], abs=1e-6) for name in now)


@pytest.mark.slow
@pytest.mark.parametrize("labels_per_sequence", [1, 5])
def test_an_epoch_of_few_windows_takes_whole_passes_until_it_is_long_enough(
    labels_per_sequence, market
):
    def batches(**changes):
        changes |= {"LABELS_PER_SEQUENCE": labels_per_sequence}
        return assembled(market, **changes).batches.plan.num_batches

    one_pass = batches(STEPS_PER_EPOCH=0, SUPERVISED_BATCH_SIZE=12)
    assert one_pass >= LEAST_BATCHES
    short = batches(STEPS_PER_EPOCH=0, SUPERVISED_BATCH_SIZE=12 * one_pass // 7)
    assert LEAST_BATCHES <= short < LEAST_BATCHES + 8
    assert batches(STEPS_PER_EPOCH=3, SUPERVISED_BATCH_SIZE=12) == 3


def test_the_optimizer_has_its_variables_before_the_first_step(market):
    """TensorFlow would trace a step twice that makes them."""
    classifier = assembled(market).classifier
    assert classifier.optimizer.built
    assert len(classifier.optimizer.averages()) == len(classifier.trainable_variables)


def test_every_flag_of_an_improvement_is_flipped():
    source = Path(config.__file__).read_text(encoding="utf-8")
    marked = {line.partition(":")[0].strip() for line in source.splitlines() if "  # [" in line}
    assert len(marked) > 30
    assert marked <= {flag for flip in FLIPS.values() for flag in flip}

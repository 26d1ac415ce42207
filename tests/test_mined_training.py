"""Hard windows of real trainings, in both modes."""

import numpy as np
import pytest

import config
from data.bars.synthetic import persistent_drift
from data.batches.training_batches import training_batches
from data.market.market import build_market
from data.market.training_rows import training_statistics
from evaluation.figures.plain import to_plain
from models.training.callbacks import mining
from recipe.run.fold import train
from recipe.run.market import market_settings
from recipe.run.metrics import _refresh
from recipe.run.settings import run_settings
from recipe.run.training import assemble

TINY = {
    "JIT_COMPILE": False,  # seconds of compilation
    "SEQUENCE_LENGTH": 8,
    "FUTURE_WINDOW": 12,  # events of three bars
    "XLSTM_BLOCKS": "m",
    "XLSTM_UNITS": 4,
    "XLSTM_HEADS": 2,
    "SUPERVISED_EPOCHS": 4,
    "STEPS_PER_EPOCH": 8,
    "SUPERVISED_BATCH_SIZE": 16,
    "HNM_START_EPOCH": 1,
    "HNM_END_EPOCH": 2,
    "HNM_HARD_SAMPLE_START": 0.1,
    "HNM_HARD_SAMPLE_END": 0.5,
    "HNM_UPDATE_PERIOD": 1,
    "VALIDATION_MAX_WINDOWS": 100,
}


@pytest.fixture(scope="module")
def market():
    bars = persistent_drift(num_symbols=3, num_bars=700, seed=1)
    return build_market(bars, market_settings(config.load(**TINY)))


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 6])
def mined(request, market, tmp_path_factory):
    """Returns what was assembled and trained, and the arguments and the result of each band."""
    bands = []

    def hard_band(losses, labels, *arguments, **options):
        bands.append((losses, labels, options, band(losses, labels, *arguments, **options)))
        return bands[-1][-1]

    band = mining.hard_band
    settings = run_settings(config.load(**TINY, LABELS_PER_SEQUENCE=request.param))
    training = assemble(settings, market, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "hard_band", hard_band)
        result = train(
            training,
            tmp_path_factory.mktemp("mined"),
            resume=False,
            note=lambda text: None,
            on_rows=lambda rows: None,
        )
    return training, result, bands


def test_the_pool_lies_inside_the_ranks_of_the_band(mined):
    flags, bands = config.load(**TINY), mined[2]
    assert len(bands) == 3
    low = flags.HNM_TRIM_FRACTION
    for losses, labels, options, pools in bands:
        assert options["spacing"] == 3
        assert len(losses) == mined[0].batches.num_windows
        for label, pool in pools.items():
            own = losses[labels == label]
            ranks = (own > losses[pool][:, None]).mean(axis=1)
            inside = (ranks >= low - 0.01) & (ranks <= low + flags.HNM_TOP_K_FRACTION + 0.01)
            assert len(pool) > 10 and inside.mean() >= 0.95


def test_the_first_mined_epoch_is_another_one(mined):
    training, result, _ = mined
    plan = training.batches.plan
    if hasattr(plan, "label_weights"):
        assert (plan.label_weights(1) != plan.label_weights(0)).mean() > 0.5
    (_, pools), drawn = plan._pools.at(1), [plan.indices(1, i) for i in range(plan.num_batches)]
    if not hasattr(plan, "label_weights"):
        drawn = np.concatenate(drawn)
        for label, pool in pools.items():
            of_class = drawn[plan.labels[drawn] == label]
            mixture = plan.mixtures(1)[label]
            expected = mixture.share + (1 - mixture.share) * mixture.fraction
            assert np.isin(of_class, pool).mean() == pytest.approx(expected, abs=0.15)
    assert result.record.mining[0]["epoch"] == 1


def test_what_is_told_of_each_refresh_is_bounded(mined):
    told = [to_plain(_refresh(refresh)) for refresh in mined[1].record.mining]
    assert [refresh["epoch"] for refresh in told] == [1, 2, 3]
    for refresh in told:
        assert refresh["scored"] == mined[0].batches.num_windows
        assert list(refresh["classes"]) == ["SELL", "HOLD", "BUY"]
        for figures in refresh["classes"].values():
            assert 1 < figures["multiplier"] <= 4
            assert 0 < figures["share_given"] <= figures["share_asked"]
            assert 0.39 < figures["effective_size"] < 1
            assert 0.04 < figures["ranks"][0] < figures["ranks"][2] < 0.36
    assert told[0]["classes"]["SELL"]["share_given"] == pytest.approx(0.1)


@pytest.mark.parametrize("labels_per_sequence", [1, 6])
@pytest.mark.parametrize("horizon, shifted", [(1, False), (5, False), (12, True)])
def test_windows_are_shifted_by_a_sixth_of_the_horizon_at_the_most(
    horizon, shifted, labels_per_sequence, market
):
    def first_batch(shift):
        flags = config.load(
            **TINY | {"FUTURE_WINDOW": horizon, "LABELS_PER_SEQUENCE": labels_per_sequence},
            AUG_TIME_SHIFT=shift,
            AUG_NOISE_STD=0.0,
            AUG_MASK_PROB=0.0,
        )
        statistics = training_statistics(market, market.folds[0])
        settings = run_settings(flags).batches
        return training_batches(settings, market, market.folds[0], 0, *statistics)[0][0]

    assert np.array_equal(first_batch(2), first_batch(0)) != shifted
    if shifted:
        np.testing.assert_array_equal(first_batch(2), first_batch(100))

import numpy as np
import pandas as pd
import pytest
from known_posterior import known_posterior
from scipy.signal import lfilter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.errors import InputError
from data.bars.checks import check_bars
from data.bars.read import read_bars
from data.bars.synthetic import hidden_volatility, persistent_drift, random_walk, volatility_clock
from data.market.market import build_market
from data.market.settings import MarketSettings
from data.market.windows import gather

SETTINGS = MarketSettings(
    sequence_length=24,
    future_window=8,
    label_method="volatility",
    price_change_threshold=0.004,
    target_class_ratios=(0.33, 0.40, 0.33),
    embargo_bars=8,
    max_gap_bars=3,
)
MAKERS = [random_walk, persistent_drift, volatility_clock]


def summaries(market, ends):
    windows = gather(market.features, ends, market.sequence_length)  # (windows, time, features)
    return np.concatenate([windows[:, -1], windows.mean(axis=1)], axis=1)


def learnt_mcc(bars):
    """Returns the test MCC of a logistic regression on window summaries."""
    market = build_market(bars, SETTINGS)
    fold = market.folds[0]
    train = fold.train[::3]
    learner = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    learner.fit(summaries(market, train), fold.labels[train])
    return matthews_corrcoef(fold.labels[fold.test], learner.predict(summaries(market, fold.test)))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_persistent_drift_can_be_learnt_from_the_features(seed):
    assert learnt_mcc(persistent_drift(4, 2500, seed=seed)) > 0.15


def test_a_random_walk_cannot():
    scores = [learnt_mcc(random_walk(4, 2500, seed=seed)) for seed in range(3)]
    # A label of 8 bars leaves about 200 independent ones in each test: a deviation of 0.05, of
    # the mean 0.03.
    assert abs(np.mean(scores)) < 0.08


@pytest.mark.parametrize("maker", MAKERS)
def test_the_bars_pass_the_checks_and_come_at_the_interval(maker):
    bars = maker(3, 50, interval="1h")
    pd.testing.assert_frame_equal(check_bars(bars), bars)
    assert bars["symbol"].value_counts().tolist() == [50, 50, 50]
    steps = bars.groupby("symbol", observed=True)["timestamp"].diff().dropna()
    assert (steps == pd.Timedelta("1h")).all()


@pytest.mark.parametrize("maker", MAKERS)
def test_the_seed_decides_the_bars(maker):
    pd.testing.assert_frame_equal(maker(2, 40, seed=3), maker(2, 40, seed=3))
    assert (maker(2, 40, seed=3)["close"] != maker(2, 40, seed=4)["close"]).mean() > 0.9


@pytest.mark.parametrize("maker", MAKERS)
def test_symbols_are_independent_and_one_more_changes_none(maker):
    few, many = maker(2, 500), maker(3, 500)
    pd.testing.assert_series_equal(few["close"], many["close"].iloc[:1000])
    moves = np.log(many["close"].to_numpy().reshape(3, 500))
    steps = np.diff(moves, axis=1)
    correlations = np.corrcoef(steps)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 0.2


def test_moves_of_a_random_walk_are_uncorrelated_and_their_sizes_are_not():
    close = random_walk(1, 20_000)["close"].to_numpy()
    moves = np.diff(np.log(close))
    assert abs(np.corrcoef(moves[1:], moves[:-1])[0, 1]) < 3 / np.sqrt(len(moves))
    sizes = np.abs(moves)
    assert np.corrcoef(sizes[1:], sizes[:-1])[0, 1] > 0.03


def test_the_strength_is_the_drift_in_units_of_volatility():
    weak, strong = (
        np.diff(np.log(persistent_drift(1, 20_000, strength=s)["close"])) for s in (0.0, 0.5)
    )
    # Same shocks: what is left is the drift, which is up, none or down with a third each.
    drift = strong - weak
    assert np.sqrt((drift**2).mean()) / weak.std() == pytest.approx(0.5 * np.sqrt(2 / 3), rel=0.1)


def test_drifts_last_their_mean_duration():
    bars = persistent_drift(1, 20_000, strength=1.0, mean_duration=50)
    weak = persistent_drift(1, 20_000, strength=0.0, mean_duration=50)
    drift = np.diff(np.log(bars["close"])) - np.diff(np.log(weak["close"]))
    changes = (np.diff(np.sign(np.round(drift, 9))) != 0).sum()
    # A third of the changes draw the same sign again.
    assert len(drift) / changes == pytest.approx(50 * 1.5, rel=0.2)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_the_bars_are_drawn_in_the_order_that_their_seed_has_always_meant(strength):
    found = persistent_drift(2, 300, seed=3, strength=strength)
    rng = np.random.default_rng((3, 1))
    volatility = 0.003 * np.exp(lfilter([1], [1, -0.9995], rng.normal(scale=0.01, size=300)))
    changes, signs = rng.random(300) < 1 / 80, rng.integers(-1, 2, size=300)
    drift = [strength * signs[np.flatnonzero(changes[: t + 1])[-1:]].sum() for t in range(300)]
    drift[: changes.argmax()] = [strength * signs[0]] * int(changes.argmax())
    steps = rng.normal(size=(300, 4)) * volatility[:, None] / 2
    moves = steps.sum(axis=1) + np.array(drift) * volatility
    own = found[found["symbol"] == "SYN1"]
    np.testing.assert_allclose(own["close"], 100 * np.exp(np.cumsum(moves)), rtol=1e-12)
    if not strength:
        pd.testing.assert_frame_equal(found, random_walk(2, 300, seed=3))


def test_the_clock_says_when_a_martingale_moves_and_not_where_to():
    bars = volatility_clock(1, 96 * 400)
    moves = np.log((bars["close"] / bars["open"]).to_numpy())
    hours = bars["timestamp"].dt.hour.to_numpy()
    busy, quiet = moves[hours == 14], moves[hours == 2]
    assert busy.std() / quiet.std() == pytest.approx(3, rel=0.1)
    for part in (moves, busy, quiet):
        assert abs(part.mean()) < 3 * part.std() / np.sqrt(len(part))
        assert abs((part > 0).mean() - 0.5) < 1.5 / np.sqrt(len(part))
    signs = np.sign(moves)
    for lag in (1, 4, 96):
        assert abs((signs[lag:] * signs[:-lag]).mean()) < 3 / np.sqrt(len(signs))


def test_the_draws_of_the_clock_are_those_of_the_walk():
    clock, walk = (maker(1, 300, seed=5) for maker in (volatility_clock, random_walk))
    scaled = [
        np.log(bars["close"] / bars["open"]) / hidden_volatility(name, 0, 300, 5, 1)[0]
        for name, bars in [("volatility_clock", clock), ("walk", walk)]
    ]
    np.testing.assert_allclose(*scaled, atol=1e-9)


@pytest.mark.parametrize("name", ["walk", "volatility_clock"])
def test_what_is_expected_of_the_coming_bars_is_the_mean_variance_of_the_clock(name):
    now, coming = hidden_volatility(name, 0, 400, 1, 12)
    later = hidden_volatility(name, 0, 412, 1, 1)[0]
    exact = [np.sqrt((later[t + 1 : t + 13] ** 2).mean()) for t in range(400)]
    # But for the drift of the level, of 1 % a bar, which is not foreseen.
    np.testing.assert_allclose(coming / exact, 1, atol=0.12)
    assert np.abs(now / exact - 1).max() > 0.2 or name == "walk"


def test_labels_follow_their_known_posterior():
    x, y, posterior = known_posterior(50_000)
    assert (x.shape, x.dtype, y.dtype) == ((50_000, 8, 3), np.float32, np.int32)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    for name in range(3):
        for part in np.array_split(np.argsort(posterior[:, name]), 5):
            share, expected = (y[part] == name).mean(), posterior[part, name].mean()
            assert share == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(part)))


def test_the_known_posterior_is_that_of_the_last_bar():
    x, _, posterior = known_posterior(100)
    signal, size = x[:, -1, 0].astype(float), x[:, -1, 1].astype(float)
    # Log odds of BUY to SELL, and of HOLD to SELL, as the docstring's softmax has them.
    np.testing.assert_allclose(np.log(posterior[:, 2] / posterior[:, 0]), 1.6 * signal + 0.2)
    expected = 0.7 - 0.5 * size + 0.8 * signal
    np.testing.assert_allclose(np.log(posterior[:, 1] / posterior[:, 0]), expected)


def test_a_market_by_name_is_the_market_of_its_function():
    bars = read_bars("synthetic:persistent_drift?bars=50&symbols=3&seed=1")
    pd.testing.assert_frame_equal(bars, persistent_drift(3, 50, seed=1))
    pd.testing.assert_frame_equal(read_bars("synthetic:walk"), random_walk(8, 5000, seed=0))
    bars = read_bars("synthetic:volatility_clock?bars=50&symbols=3&seed=1")
    pd.testing.assert_frame_equal(bars, volatility_clock(3, 50, seed=1))


WRONG = {
    "synthetic:wave": "volatility_clock, relative_drift, market_drift; got 'wave'",
    "synthetic:": "got ''",
    "synthetic:walk?colour=1": "parameters must be of bars, symbols, seed; got 'colour'",
    "synthetic:walk?bars=many": "bars must be a whole number from 2 to 1000000, got 'many'",
    "synthetic:walk?bars=1": "from 2 to",
    "synthetic:walk?symbols=0": "symbols must be a whole number from 1",
    "synthetic:walk?seed": "got ''",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_market_that_does_not_exist_is_one_fault(text):
    with pytest.raises(InputError) as error:
        read_bars(text)
    assert len(error.value.faults) == 1 and WRONG[text] in error.value.faults[0]

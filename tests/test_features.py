import numpy as np
import pandas as pd
import pytest
import talib

from data.bars.synthetic import random_walk
from data.features.features import compute_features, feature_names
from data.features.indicators import (
    FEATURE_NAMES,
    FORGOTTEN_AFTER_BARS,
    INTRADAY_NAMES,
    WARM_UP_BARS,
    is_intraday,
    realised_volatility,
    rolling_sum,
)

NUM_BARS = 420


def one_symbol(num_bars=NUM_BARS, seed=0, interval="15min"):
    return random_walk(1, num_bars, seed=seed, interval=interval)


@pytest.fixture(scope="module")
def bars():
    return one_symbol()


@pytest.fixture(scope="module")
def features(bars):
    return compute_features(bars, intraday=True)


def test_there_are_about_25_names_without_a_repeat():
    assert 24 <= len(feature_names(False)) <= 28
    assert feature_names(True) == FEATURE_NAMES + INTRADAY_NAMES
    assert len(set(feature_names(True))) == len(feature_names(True))


def test_the_frame_has_the_names_the_index_and_float32(bars, features):
    assert tuple(features.columns) == feature_names(True)
    assert features.index.equals(bars.index)
    assert set(features.dtypes) == {np.dtype(np.float32)}


def test_the_warm_up_is_missing_and_nothing_else_is(features):
    assert features.iloc[:WARM_UP_BARS].isna().all(axis=None)
    assert np.isfinite(features.iloc[WARM_UP_BARS:].to_numpy()).all()


@pytest.mark.parametrize("rows", [0, 1, WARM_UP_BARS])
def test_a_series_within_the_warm_up_has_no_value(bars, rows):
    part = compute_features(bars.iloc[:rows], intraday=True)
    assert part.shape == (rows, len(feature_names(True)))
    assert part.isna().all(axis=None)


@pytest.mark.parametrize("cut", [WARM_UP_BARS + 1, 237, NUM_BARS - 1])
def test_no_column_changes_where_the_future_is_cut_off(bars, features, cut):
    past = compute_features(bars.iloc[:cut], intraday=True)
    for name in features:
        np.testing.assert_array_equal(past[name], features[name].iloc[:cut], err_msg=name)


def test_every_column_but_the_clock_sees_its_own_bar(bars, features):
    changed = bars.copy()
    factors = {"open": 1.1, "high": 1.3, "low": 1.05, "close": 1.2, "volume": 3.0}
    for name, factor in factors.items():
        changed.loc[NUM_BARS - 1, name] *= factor
    last = compute_features(changed, intraday=True).iloc[-1]
    same = [name for name in features if last[name] == features[name].iloc[-1]]
    assert same == list(INTRADAY_NAMES)


def test_features_refuse_more_than_one_symbol():
    with pytest.raises(ValueError, match="of one symbol"):
        compute_features(random_walk(2, 200), intraday=True)


@pytest.mark.parametrize("factor", [1000.0, 1e-12])
def test_the_unit_of_price_changes_nothing(bars, features, factor):
    scaled = bars.copy()
    scaled[["open", "high", "low", "close"]] *= factor
    np.testing.assert_allclose(
        compute_features(scaled, intraday=True), features, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("factor", [7.0, 1e-16, 1e9])
def test_the_unit_of_volume_changes_nothing(bars, features, factor):
    scaled = bars.assign(volume=bars["volume"] * factor)
    np.testing.assert_allclose(
        compute_features(scaled, intraday=True), features, rtol=1e-4, atol=1e-6
    )


def test_a_late_start_of_the_series_changes_little(bars, features):
    late = compute_features(bars.iloc[100:], intraday=True)
    both = features.loc[late.index[WARM_UP_BARS:]]
    gaps = (late.iloc[WARM_UP_BARS:] - both).abs().max() / both.std()
    assert gaps.max() < 0.1


def test_simple_columns_have_their_values_by_hand(bars, features):
    t = 300
    o, h, low, c, v = (bars[n].to_numpy() for n in ("open", "high", "low", "close", "volume"))
    expected = {f"log_return_{s}": np.log(c[t] / c[t - s]) for s in (1, 3, 6, 12, 24)}
    expected["range"] = (h[t] - low[t]) / c[t]
    expected["body"] = (c[t] - o[t]) / c[t]
    top, bottom = h[t - 13 : t + 1].max(), low[t - 13 : t + 1].min()
    expected["williams_r"] = (c[t] - bottom) / (top - bottom) - 0.5
    window = c[t - 19 : t + 1]
    expected["bollinger_position"] = (c[t] - window.mean()) / (4 * window.std())
    expected["bollinger_width"] = 4 * window.std() / window.mean()
    expected["roc"] = c[t] / c[t - 48] - 1
    signs = np.sign(np.diff(c[t - 14 : t + 1]))
    expected["obv_change"] = (signs * v[t - 13 : t + 1]).sum() / v[t - 13 : t + 1].sum()
    steps = np.diff(np.log(c[t - 24 : t + 1]))
    expected["realised_volatility"] = np.sqrt((steps**2).mean())
    expected["relative_volume"] = np.log1p(v[t] / v[t - 47 : t + 1].mean())
    for name, value in expected.items():
        assert features[name].iloc[t] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_indicators_are_those_of_ta_lib_on_plain_prices(bars, features):
    high, low, close, volume = (bars[n].to_numpy() for n in ("high", "low", "close", "volume"))
    rsi = talib.RSI(close, 14)
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    expected = {
        "natr": talib.NATR(high, low, close, 14) / 100,
        "rsi": rsi / 100 - 0.5,
        "macd": macd / close,
        "macd_signal": signal / close,
        "macd_histogram": histogram / close,
        "ema_distance_50": close / talib.EMA(close, 50) - 1,
        "kama_distance": close / talib.KAMA(close, 10) - 1,
        "stochastic_rsi": talib.STOCHRSI(close, 14, 14, 1)[0] / 100 - 0.5,
        "cmo": talib.CMO(close, 28) / 100,
        "mfi": talib.MFI(high, low, close, volume, 14) / 100 - 0.5,
    }
    for name, values in expected.items():
        own = features[name].iloc[WARM_UP_BARS:]
        np.testing.assert_allclose(own, values[WARM_UP_BARS:], rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_clock_tells_utc_time_of_day_and_day_of_week():
    bars = one_symbol(WARM_UP_BARS + 200, interval="1h")  # from Monday 2024-01-01 00:00
    clock = compute_features(bars, intraday=True)[list(INTRADAY_NAMES)]
    at = bars["timestamp"].eq(pd.Timestamp("2024-01-10 06:00", tz="UTC"))  # a Wednesday, 6 o'clock
    day, week = np.pi / 2, 2 * np.pi * 2 / 7
    expected = [np.sin(day), np.cos(day), np.sin(week), np.cos(week)]
    np.testing.assert_allclose(clock[at.to_numpy()].to_numpy()[0], expected, atol=1e-6)


def test_flat_prices_without_volume_have_neutral_values():
    bars = one_symbol(250).assign(open=5.0, high=5.0, low=5.0, close=5.0, volume=0.0)
    values = compute_features(bars, intraday=False).iloc[WARM_UP_BARS:]
    usual = np.float32(np.log(2))  # log1p of a relative volume of 1
    for name in values:
        np.testing.assert_allclose(
            values[name], usual if name == "relative_volume" else 0, atol=1e-6, err_msg=name
        )


def test_a_first_fall_after_flat_prices_is_the_bottom_of_the_stochastic_rsi():
    bars = one_symbol(200).assign(open=5.0, high=5.0, low=5.0, close=5.0)
    bars.loc[180:, ["low", "close"]] = 4.9
    values = compute_features(bars, intraday=False)["stochastic_rsi"]
    assert values.loc[179:181].tolist() == [0.0, -0.5, -0.5]


def test_prices_that_go_flat_stay_finite():
    bars = one_symbol(300)
    close = bars["close"].iloc[200]
    bars.loc[201:, ["open", "high", "low", "close"]] = close
    bars.loc[201:, "volume"] = 0.0
    assert np.isfinite(compute_features(bars, intraday=True).iloc[WARM_UP_BARS:].to_numpy()).all()


def test_the_input_is_not_modified(bars):
    before = bars.copy()
    compute_features(bars, intraday=True)
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize(("interval", "expected"), [("15min", True), ("1D", False)])
def test_bars_below_a_day_are_intraday(interval, expected):
    assert is_intraday(random_walk(2, 30, interval=interval)) is expected


def test_the_jump_between_symbols_does_not_count_as_spacing():
    # One bar of each symbol, all at the same time: there is no spacing at all.
    assert not is_intraday(random_walk(20, 1, interval="1D"))


def test_rolling_sums_are_those_of_a_loop_and_exactly_zero_after_large_values():
    values = np.random.default_rng(0).normal(size=50) * 1e12
    values[30:] = 0.0
    expected = [values[max(0, t - 6) : t + 1].sum() for t in range(50)]
    np.testing.assert_allclose(rolling_sum(values, 7), expected, rtol=1e-9, atol=1e-2)
    assert (rolling_sum(values, 7)[36:] == 0).all()


def test_realised_volatility_of_equal_moves_is_their_size():
    close = np.exp(0.01 * np.cumsum(np.tile([1, -1], 20)))
    np.testing.assert_allclose(realised_volatility(close, 10)[10:], 0.01)


def test_a_token_that_lost_nearly_all_has_bands_and_the_same_features_from_any_start():
    """Before its version 0.8 TA-Lib took deviations far below the first price for none."""
    random = np.random.default_rng(0)
    moves = np.concatenate(
        [random.normal(0, 0.003, 300), np.full(1000, np.log(1e-5) / 1000)]
        + [random.normal(0, 0.003, 2 * FORGOTTEN_AFTER_BARS)]
    )
    close = 80 * np.exp(np.cumsum(moves))
    times = pd.date_range("2022-04-28", periods=len(close), freq="5min", tz="UTC")
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    bars = pd.DataFrame({"timestamp": times, **prices, "volume": 5.0})
    whole = compute_features(bars, intraday=True)
    assert (whole["bollinger_width"].dropna() > 0).all()
    late = compute_features(bars.iloc[1300:].reset_index(drop=True), intraday=True)
    np.testing.assert_allclose(late.tail(100), whole.tail(100), rtol=0, atol=1e-3)

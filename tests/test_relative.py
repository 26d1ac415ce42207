"""Labels of moves less the market's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_market import SETTINGS

from core.errors import InputError
from data.audit.audit import audit_market
from data.bars.checks import check_bars
from data.bars.synthetic import random_walk
from data.features.settings import FeatureSettings
from data.market.labels import UNLABELLED
from data.market.market import build_market
from data.market.relative import MarketMoves, market_scores

RELATIVE = replace(SETTINGS, label_reference="market")
HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def bars():
    return random_walk(5, 600)


def scores(bars, method="volatility", horizon=4):
    parts = [part for _, part in bars.groupby("symbol", observed=True)]
    return market_scores(parts, method, horizon, RELATIVE.features)


def moved(bars, path):
    """Returns bars to whose log prices a path is added, the same for all symbols."""
    changed, factor = bars.copy(), np.exp(path)
    for name in ("open", "high", "low", "close"):
        changed[name] = bars[name].to_numpy() * np.tile(factor, bars["symbol"].nunique())
    return check_bars(changed)


def test_what_all_symbols_do_changes_no_label(bars):
    common = np.cumsum(np.random.default_rng(1).normal(scale=0.01, size=600))
    for method in ("volatility", "fixed"):
        for was, now in zip(scores(bars, method), scores(moved(bars, common), method), strict=True):
            np.testing.assert_allclose(was, now, rtol=1e-3, atol=1e-4)
    absolute = build_market(bars, SETTINGS).folds[0].labels
    assert (build_market(moved(bars, common), SETTINGS).folds[0].labels != absolute).mean() > 0.2


def test_scores_are_those_of_a_plain_computation(bars):
    logs = np.log(bars["close"].to_numpy().reshape(5, 600))

    def less_market(moves):
        return moves - np.sort(moves, axis=0)[1:-1].mean(axis=0)

    ahead = less_market(logs[:, 4:] - logs[:, :-4])
    steps = less_market(np.diff(logs))
    found = scores(bars)
    for symbol in range(5):
        for row in (200, 333, 595):
            usual = np.sqrt((steps[symbol, row - 96 : row] ** 2).mean())
            expected = ahead[symbol, row] / (usual * 2)
            assert found[symbol][row] == pytest.approx(expected, rel=1e-4)
        assert np.isnan(found[symbol][-4:]).all()
    fixed = scores(bars, "fixed")[2][300]
    assert fixed == pytest.approx(np.expm1(ahead[2, 300]), rel=1e-4)


def test_the_market_of_three_is_none_and_windows_without_one_are_dropped(bars):
    few = bars[bars["symbol"].isin(["SYN0", "SYN1", "SYN2"])].reset_index(drop=True)
    with pytest.raises(InputError, match="need at least 4 symbols with bars at the same times"):
        build_market(few, RELATIVE)
    numbers = bars.groupby("symbol", observed=True).cumcount()
    later = bars[~bars["symbol"].isin(["SYN3", "SYN4"]) | (numbers >= 300)]
    market = build_market(later.reset_index(drop=True), RELATIVE)
    fold = market.folds[0]
    early = market.timestamps < bars["timestamp"].to_numpy("datetime64[ns]")[300]
    assert (fold.labels[early] == UNLABELLED).all()
    assert not np.isin(np.flatnonzero(early), fold.train).any()
    assert market.dropped["windows without a market to set them beside"] > 0


def test_symbols_of_other_bars_take_part_with_their_last_closed_one():
    fast = np.arange(1, 200) * HOUR
    slow = np.arange(4, 200, 4) * HOUR
    closes = [fast, fast, fast, slow]
    rng = np.random.default_rng(0)
    logs = [np.cumsum(rng.normal(size=len(own))) for own in closes]
    market = MarketMoves(closes, logs, [HOUR, HOUR, HOUR, 4 * HOUR], 4)
    first, last = 150 * HOUR, 153 * HOUR  # closes of the slow one: 148 and 152
    moves = [own[152] - own[149] for own in logs[:3]] + [logs[3][37] - logs[3][36]]
    found = market.between(np.array([first]), np.array([last]))
    assert found[0] == pytest.approx(np.sort(moves)[1:3].mean())
    assert np.isnan(market.between(np.array([HOUR * 500]), np.array([HOUR * 501])))[0]


def test_barriers_have_no_relative_path():
    with pytest.raises(InputError, match="must be made by volatility or fixed"):
        replace(RELATIVE, label_method="triple_barrier")
    with pytest.raises(InputError, match="one of none, market, got 'index'"):
        replace(SETTINGS, label_reference="index")


def test_bars_with_holes_have_the_scores_of_the_same_moments(bars):
    """A symbol that misses bars is compared over its own bars, however long they take."""
    holed = bars.drop(bars.index[(bars["symbol"] == "SYN1")][[300, 301]]).reset_index(drop=True)
    found = scores(holed)[1]
    logs = {str(s): np.log(part["close"].to_numpy()) for s, part in bars.groupby("symbol")}
    row = 298  # its label of four bars ends at the bar 304 of the others
    moves = np.array([own[304] - own[298] for own in logs.values()])
    market = np.sort(moves)[1:-1].mean()
    assert np.sign(found[row]) == np.sign(logs["SYN1"][304] - logs["SYN1"][298] - market)
    assert isinstance(found, np.ndarray) and len(found) == 598 and pd.notna(found[row])


def test_bars_that_close_at_other_times_are_told_and_look_at_closed_ones(bars):
    own = bars["symbol"] == "SYN4"
    late, notes = bars.copy(), []
    late.loc[own, "timestamp"] += pd.Timedelta("6min")
    settings = replace(RELATIVE, features=FeatureSettings(market=("rsi",)))
    market = build_market(late, settings, note=notes.append)
    assert [note for note in notes if "of 1 symbol close at other times than those of most" in note]
    assert "SYN4" in " ".join(notes)
    assert audit_market(late, settings, num_cuts=3) == []
    notes.clear()
    build_market(bars, settings, note=notes.append)
    assert notes == []
    assert set(market.symbol_names) == {f"SYN{number}" for number in range(5)}


def thinned(bars, symbol, first, last):
    """Returns the bars with bars twice as long of a symbol from one of its rows to another."""
    rows = np.flatnonzero(bars["symbol"] == symbol)[first:last:2]
    return bars.drop(bars.index[rows]).reset_index(drop=True)


@pytest.mark.parametrize("part", [(0, 300), (300, 600)])
@pytest.mark.parametrize("features", [(), ("rsi",)])
@pytest.mark.parametrize("reference", ["none", "market"])
def test_a_symbol_whose_bars_change_their_length_is_refused(bars, part, features, reference):
    settings = replace(
        SETTINGS, label_reference=reference, features=FeatureSettings(market=features)
    )
    changed = thinned(bars, "SYN2", *part)
    if settings.relative or features:
        with pytest.raises(InputError, match="SYN2: beside the market.*one length.*30 min"):
            build_market(changed, settings)
    else:
        build_market(changed, settings)


def test_bars_of_several_lengths_are_clean(bars):
    """At the close of a longer bar, shorter ones that opened after it are known."""
    longer = thinned(bars, "SYN2", 0, 600)
    settings = replace(RELATIVE, features=FeatureSettings(market=("rsi",)))
    assert audit_market(longer, settings, num_cuts=6) == []


def test_seconds_by_which_feeds_are_late_are_clean(bars):
    late = bars.copy()
    late.loc[bars["symbol"] == "SYN4", "timestamp"] += pd.Timedelta("3s")
    settings = replace(RELATIVE, features=FeatureSettings(market=("rsi",)))
    assert audit_market(late, settings, num_cuts=3) == []


def test_seconds_by_which_feeds_are_late_change_nothing(bars):
    settings = replace(RELATIVE, features=FeatureSettings(market=("rsi",)))
    late = bars.copy()
    seconds = np.random.default_rng(0).uniform(0, 5, len(bars))
    late["timestamp"] += pd.to_timedelta(seconds, unit="s").astype("timedelta64[ns]")
    whole, jittered = build_market(bars, settings), build_market(late, settings)
    column = whole.feature_names.index("market_difference_rsi")
    np.testing.assert_array_equal(whole.features[:, column], jittered.features[:, column])
    np.testing.assert_array_equal(whole.folds[0].labels, jittered.folds[0].labels)

import numpy as np
import pandas as pd
import pytest
from small_market import SETTINGS

import config
from data.bars.synthetic import random_walk
from data.market.market import build_market
from data.market.moves import BAD, SPLIT, TAKEN, adjust_splits, find_moves, move_notes
from recipe.cli import console
from recipe.run.market import read_market

PRICES = ["open", "high", "low", "close"]
NUMBERS = [*PRICES, "volume"]


def walk(num_bars=600, seed=0, num_symbols=1):
    """Returns daily bars of which each opens where the one before closed, give or take 1 %."""
    bars = random_walk(num_symbols, num_bars, seed, interval="1D")
    rng = np.random.default_rng(seed)
    bars["open"] *= np.exp(rng.normal(scale=0.01, size=len(bars)))
    bars["high"], bars["low"] = bars[PRICES].max(axis=1), bars[PRICES].min(axis=1)
    return bars


def split(bars, row, ratio, volume=True):
    """Returns bars whose price is `ratio` times that of before from a row on."""
    bars = bars.copy()
    bars.loc[row:, PRICES] *= ratio
    if volume:
        bars.loc[row:, "volume"] /= ratio
    return bars


def kinds(bars):
    return [(move.kind, move.row) for move in find_moves(bars)]


@pytest.mark.parametrize("interval", ["1min", "1h", "1D"])
def test_no_move_of_a_market_looks_impossible(interval):
    for seed in range(5):
        assert find_moves(random_walk(1, 3000, seed, interval=interval)) == []


@pytest.mark.parametrize("volume", [True, False])
@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1 / 2, "2:1"),
        (1 / 4, "4:1"),
        (2 / 3, "3:2"),
        (1 / 50, "50:1"),
        (2, "1:2"),
        (20, "1:20"),
        (250, "1:250"),
    ],
)
def test_a_split_is_found_with_or_without_its_volume(ratio, text, volume):
    bars = split(walk(), 400, ratio, volume)
    (move,) = find_moves(bars)
    assert (move.kind, move.row, move.symbol) == (SPLIT, 400, "SYN0")
    assert move.time == bars["timestamp"].to_numpy("datetime64[ns]")[400]
    assert move.ratio == pytest.approx(ratio, rel=0.05)
    assert move.split == text


def test_news_is_no_split():
    bars = split(walk(), 400, 2.0, volume=False)
    bars.loc[400:420, "volume"] *= 6  # an offer at twice the price: everybody trades
    assert kinds(bars) == []
    assert kinds(split(walk(), 400, 1.7, volume=False)) == []  # near no whole ratio
    slow = walk()
    slow.loc[400:, PRICES] *= 2
    slow.loc[400, ["open", "low"]] = walk().loc[400, ["open", "low"]]  # it rises while it trades
    assert kinds(slow) == []


@pytest.mark.parametrize("factor", [100.0, 0.01, 3.0])
@pytest.mark.parametrize("num_bars", [1, 4])
def test_bars_that_go_there_and_back_are_bad(factor, num_bars):
    bars = walk()
    bars.loc[300 : 299 + num_bars, PRICES] *= factor
    assert kinds(bars) == [(BAD, 300)]
    only_close = walk()
    only_close.loc[300, "close"] *= factor
    assert kinds(only_close) == [(BAD, 300)]


@pytest.mark.parametrize(("name", "factor", "text"), [("high", 100, "high"), ("low", 0.1, "low")])
def test_a_high_or_low_alone_may_be_bad(name, factor, text):
    bars = walk()
    bars.loc[300, name] *= factor
    (move,) = find_moves(bars)
    assert (move.kind, move.row) == (BAD, 300)
    assert f"times too {text}, perhaps a bad bar" in str(move)


def test_a_jump_after_a_hole_may_be_another_company():
    bars = split(walk(), 400, 15)
    bars = bars.drop(index=range(350, 400)).reset_index(drop=True)
    (move,) = find_moves(bars)
    assert (move.kind, move.row) == (TAKEN, 350)
    assert "no bars between 2024-12-15 and 2025-02-04" in str(move)


def test_adjusted_bars_are_those_of_a_source_that_adjusts():
    clean = walk(num_symbols=2)
    raw = clean.copy()
    for row, ratio in [(200, 0.25), (450, 3.0)]:
        own = raw.index[(raw["symbol"] == "SYN1")][:row]
        raw.loc[own, PRICES] /= ratio
        raw.loc[own, "volume"] *= ratio
    before = raw.copy()
    adjusted, splits = adjust_splits(raw)
    assert [(move.symbol, move.row) for move in splits] == [("SYN1", 200), ("SYN1", 450)]
    np.testing.assert_allclose(adjusted[NUMBERS], clean[NUMBERS], rtol=1e-12)
    pd.testing.assert_frame_equal(raw, before)
    assert adjust_splits(clean)[0] is clean


def test_what_looks_impossible_is_told_of_a_market_and_no_more_once_adjusted():
    bars = walk(900)
    bars.loc[700:, PRICES] *= 20
    bars.loc[300, PRICES] *= 100
    notes = []
    build_market(bars, SETTINGS, note=notes.append)
    assert len(notes) == 2
    assert notes[0].startswith("SYN0: the bar of 2024-10-27 is 10")
    assert notes[1] == (
        "SYN0: the price is 20.3 times higher from 2025-11-30 to 2025-12-01, as after a "
        "1:20 split; --adjust-splits scales the bars before it"
    )
    notes.clear()
    build_market(adjust_splits(bars)[0], SETTINGS, note=notes.append)
    assert len(notes) == 1


def test_a_run_on_adjusted_bars_sees_those_of_a_source_that_adjusts(tmp_path, capsys):
    clean, flags = walk(900, num_symbols=2), config.load(SEQUENCE_LENGTH=10, FUTURE_WINDOW=4)
    raw = split(clean, 700, 4.0)
    clean.to_parquet(tmp_path / "clean.parquet")
    raw.to_parquet(tmp_path / "raw.parquet")
    wanted, about = read_market(str(tmp_path / "clean.parquet"), flags, console, adjust=True)
    assert about["adjust_splits"] and "split" not in capsys.readouterr().out
    found, about = read_market(str(tmp_path / "raw.parquet"), flags, console, adjust=True)
    assert "as after a 1:4 split; the bars before it are scaled" in capsys.readouterr().out
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-5)
    _, about = read_market(str(tmp_path / "raw.parquet"), flags, console)
    assert "adjust_splits" not in about
    assert "--adjust-splits scales the bars before it" in capsys.readouterr().out


def test_of_many_the_first_are_told_and_the_others_counted():
    bars = walk(700)
    for row in range(100, 700, 50):
        bars = split(bars, row, 2.0)
    lines = list(move_notes(find_moves(bars)))
    assert len(lines) == 6
    assert lines[-1] == "... and 7 more such bars"

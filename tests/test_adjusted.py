import numpy as np
import pandas as pd
import pytest

from data.bars.read import read_bars


def file_of(tmp_path, close, adjusted, volume, *, head="Adj Close", reverse=False, symbol=None):
    days = pd.date_range("2024-01-02", periods=len(close)).strftime("%Y-%m-%d")
    prices = {name: close for name in ("Open", "High", "Low", "Close")}
    table = pd.DataFrame({"Date": days, **prices, head: adjusted, "Volume": volume})
    table["Ticker"] = symbol or "A"
    table = table[::-1] if reverse else table
    table.to_csv(tmp_path / "A.csv", index=False)
    return tmp_path / "A.csv"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ratio", [4, 1.5, 0.05, 10 / 7])
def test_volumes_before_a_split_are_scaled_by_it(ratio, reverse, tmp_path):
    close = np.array([100.0 * ratio] * 3 + [100.0] * 3)
    volume = np.array([700.0 / ratio] * 3 + [700.0] * 3)
    dividend = np.array([0.99] * 2 + [1.0] * 4)  # is no split
    notes = []
    path = file_of(tmp_path, close, [100.0] * 6 * dividend, volume, reverse=reverse)
    bars = read_bars(path, note=notes.append)
    np.testing.assert_allclose(bars["volume"], 700)
    np.testing.assert_allclose(bars["close"], 100 * dividend)
    assert "volumes before splits scaled as well" in notes[0]


def test_two_splits_multiply_and_symbols_have_their_own(tmp_path):
    close = np.array([600.0, 300.0, 100.0, 50.0, 50.0, 50.0])
    adjusted = np.array([100.0, 100.0, 100.0, 50.0, 50.0, 50.0])
    path = file_of(tmp_path, close, adjusted, [1.0] * 6, symbol=["A"] * 3 + ["B"] * 3)
    assert read_bars(path)["volume"].tolist() == [6, 3, 1, 1, 1, 1]


def test_dividends_leave_volumes_alone(tmp_path):
    close = np.linspace(100, 110, 6)
    adjusted = close * np.array([0.92, 0.95, 0.95, 0.98, 0.98, 1.0])
    notes = []
    bars = read_bars(file_of(tmp_path, close, adjusted, [5.0] * 6), note=notes.append)
    assert bars["volume"].tolist() == [5] * 6 and "volumes" not in notes[0]

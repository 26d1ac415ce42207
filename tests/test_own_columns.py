"""Columns beside those that all bars have: read by name, checked, passed on, told where unused."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from layout_files import DAYS, KLINE, KLINE_HEAD, MINUTES, PLAIN, ROWS, frame, kline, lines

from core.errors import InputError
from data.bars.checks import check_bars, digest
from data.bars.read import read_bars
from data.bars.sample import load_sample
from data.market.moves import adjust_splits
from data.market.parts import by_symbol

FUNDING = np.array([0.01, np.nan, -0.02, 0.03, np.nan, 1e12])


def own(**more):
    return frame().assign(symbol="BTC", Funding=FUNDING, open_interest=1.0, **more)


def faults_of(path, *extra):
    with pytest.raises(InputError) as error:
        read_bars(path, extra=extra)
    return error.value.faults


def write(table, path):
    if path.suffix == ".json":
        path.write_text(table.assign(timestamp=table["timestamp"].astype(str)).to_json(
            orient="records", double_precision=15))  # fmt: skip
    elif path.suffix in (".parquet", ".feather"):
        getattr(table, f"to_{path.suffix[1:]}")(path)
    else:
        table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "feather", "json"])
@pytest.mark.parametrize("name", ["Funding", "funding", " FUNDING"])
def test_a_column_asked_for_is_kept_under_the_name_that_asks(form, name, tmp_path):
    path = write(own(), tmp_path / f"x.{form}")
    bars = read_bars(path, extra=("open_interest", name))
    assert list(bars.columns[-3:]) == ["open_interest", name, "symbol"]
    assert bars[name].dtype == np.float64
    np.testing.assert_array_equal(bars[name], FUNDING)
    pd.testing.assert_frame_equal(bars.drop(columns=["open_interest", name]), read_bars(path))
    pd.testing.assert_frame_equal(bars, check_bars(own(), extra=("open_interest", name)))


def test_a_name_twice_is_one_column():
    assert list(check_bars(own(), extra=["Funding", "Funding"])).count("Funding") == 1


def test_a_name_written_so_goes_before_one_in_other_letters(tmp_path):
    path = write(own(funding=5.0), tmp_path / "x.csv")
    assert (read_bars(path, extra=["funding"])["funding"] == 5).all()
    assert faults_of(path, "FUNDING") == [
        "x.csv must have one column for FUNDING, it has 2 named Funding; rename or remove the "
        "others"
    ]


def test_files_of_a_folder_are_joined_and_sorted_with_their_own_columns(tmp_path):
    for symbol, sign in (("B", -1.0), ("A", 1.0)):
        table = frame().assign(funding=sign * np.arange(ROWS)).iloc[::-1]
        table.to_csv(tmp_path / f"{symbol}.csv", index=False)
    bars = read_bars(tmp_path, extra=["funding"])
    assert bars["funding"].tolist() == [*range(ROWS), *(-float(i) for i in range(ROWS))]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_under_two_headers_each_ticker_has_its_own(swap, form, tmp_path):
    table = frame(DAYS).set_index("timestamp").rename(columns=str.capitalize)
    columns = {(name, "BTC"): table[name] for name in table}
    columns |= {(name, "ETH"): table[name] for name in table}
    columns |= {("Funding", "BTC"): FUNDING, ("Funding", "ETH"): -FUNDING, ("Unix", "BTC"): 3.0}
    both = pd.DataFrame(columns, index=table.index).rename_axis("Date")
    both = both.swaplevel(axis=1) if swap else both
    both.to_csv(tmp_path / "x.csv") if form == "csv" else both.to_parquet(tmp_path / "x.parquet")
    notes = []
    bars = read_bars(tmp_path / f"x.{form}", extra=["funding"], note=notes.append)
    assert bars["timestamp"].iloc[0] == DAYS[0]
    np.testing.assert_array_equal(bars["funding"], [*FUNDING, *-FUNDING])
    assert not [text for text in notes if "Funding" in text]


KLINES = {
    "x.csv": lines(KLINE),
    "BTC.csv": lines(KLINE, head=KLINE_HEAD),
    "x.json": json.dumps([kline(i) for i in range(ROWS)]),
}


@pytest.mark.parametrize("name", KLINES)
def test_what_binance_writes_beside_a_bar_may_be_asked_for_without_a_header(name, tmp_path):
    (tmp_path / name).write_text(KLINES[name])
    notes = []
    bars = read_bars(tmp_path / name, extra=["taker_buy_volume", "count"], note=notes.append)
    assert (bars["taker_buy_volume"] == 50.1).all() and (bars["count"] == 42).all()
    assert not [text for text in notes if "count" in text or "not used" in text]


def test_ticks_beside_the_volume_are_no_volume_twice(tmp_path):
    head = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
    row = "{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t7\t{v}\t3"
    (tmp_path / "BTC.csv").write_text(lines(row, head=head))
    bars = read_bars(tmp_path / "BTC.csv", extra=["<tickvol>"])
    assert (bars["<tickvol>"] == 7).all() and bars["volume"].iloc[0] == 100
    (tmp_path / "BTC.csv").write_text(lines(row.replace("{v}", "0"), head=head))
    bars = read_bars(tmp_path / "BTC.csv", extra=["<tickvol>"])
    assert (bars["<tickvol>"] == 7).all() and (bars["volume"] == 7).all()
    assert not np.shares_memory(bars["<tickvol>"].to_numpy(), bars["volume"].to_numpy())


def test_own_numbers_are_read_as_people_write_them(tmp_path):
    text = lines("{s};{o};{h};{l};{c};{v};OWN", head="time;open;high;low;close;volume;own")
    (tmp_path / "A.csv").write_text(text.replace(".", ",").replace("OWN", "1.234,5"))
    assert (read_bars(tmp_path / "A.csv", extra=["own"])["own"] == 1234.5).all()


def changed(value, row=3):
    table = own().astype({"Funding": object})
    table.loc[row, "Funding"] = value
    return table


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("often", "Funding must be a number, got 'often'"),
        ("0.01%", "Funding must be a number, got '0.01%'"),
        ("inf", "Funding must be finite"),
        ("2024-01-02", "Funding must be a number, got '2024-01-02'"),
    ],
)
def test_what_is_no_number_is_refused_with_file_row_and_column(value, words, tmp_path):
    path = write(changed(value), tmp_path / "x.csv")
    (fault,) = faults_of(path, "Funding")
    assert fault.startswith(f"x.csv, symbol BTC, row 4: {words}")
    assert len(read_bars(path)) == ROWS
    with pytest.raises(InputError, match="bars, symbol BTC, row 4: Funding must be"):
        check_bars(changed(value), extra=["Funding"])


def test_times_and_lists_are_no_numbers(tmp_path):
    for table in (own(at=MINUTES), own(at=[[1.0]] * ROWS)):
        path = write(table, tmp_path / "x.parquet")
        with pytest.raises(InputError, match="the column at must hold numbers|at must be a number"):
            read_bars(path, extra=["at"])
        with pytest.raises(InputError, match="the column at must hold numbers|at must be a number"):
            check_bars(table, extra=["at"])


@pytest.mark.parametrize("nothing", ["", "NaN", "null", "  ", "N/A"])
def test_an_empty_cell_is_a_value_that_is_not_known(nothing, tmp_path):
    path = write(changed(nothing), tmp_path / "x.csv")
    assert np.flatnonzero(read_bars(path, extra=["Funding"])["Funding"].isna()).tolist() == [
        1,
        3,
        4,
    ]


def test_a_column_without_any_value_is_not_known_throughout(tmp_path):
    for form in ("csv", "parquet"):
        path = write(own().assign(none=None), tmp_path / f"x.{form}")
        assert read_bars(path, extra=["none"])["none"].isna().all()


def test_a_missing_column_is_one_line_with_the_names_that_there_are(tmp_path):
    path = write(own(), tmp_path / "x.csv")
    told = "EXTRA_COLUMNS names imbalance, but there is no such column (the columns are timestamp, "
    (fault,) = faults_of(path, "Funding", "imbalance")
    assert fault.startswith(f"x.csv: {told}") and fault.endswith("Funding, open_interest)")
    with pytest.raises(InputError, match="^frame: EXTRA_COLUMNS names a, b, but there is"):
        check_bars(own(), "frame", extra=["a", "b"])
    path.unlink()
    for name in "abc":
        frame().to_csv(tmp_path / f"{name}.csv", index=False)
    (fault,) = faults_of(tmp_path, "imbalance")
    assert fault.startswith(f"a.csv and 2 more: {told}")


def test_bars_without_own_columns_are_refused_where_one_is_asked_for(tmp_path):
    (tmp_path / "BTC.csv").write_text(lines("{ms}," + PLAIN))
    assert "no header, so no column can be called a" in faults_of(tmp_path / "BTC.csv", "a")[0]
    assert "names a, but there is no" in faults_of("synthetic:walk?bars=300", "a")[0]
    with pytest.raises(InputError, match="sample bars: EXTRA_COLUMNS names a, but there is no"):
        load_sample(extra=["a"])


@pytest.mark.parametrize("name", ["close", "Vol", "Date"])
def test_what_a_bar_is_made_of_is_no_own_column(name, tmp_path):
    table = own().rename(columns={"volume": "Vol", "timestamp": "Date"})
    (fault,) = faults_of(write(table, tmp_path / "x.csv"), name)
    assert f"the column {name} is read as the bars' " in fault
    with pytest.raises(InputError, match="is read as the bars' close"):
        check_bars(own(), extra=["Close"])


def test_one_note_of_a_reading_names_what_is_not_used(tmp_path):
    for i, more in enumerate([{"rate": 1.0}, {"oi": 2.0, "exchange": "x"}, {"rate": 3.0}]):
        times = [str(time) for time in MINUTES]
        frame(times).assign(**more, note="text").to_csv(tmp_path / f"S{i}.csv", index=False)
    notes = []
    read_bars(tmp_path, note=notes.append)
    own = [text for text in notes if "rate" in text or "oi" in text]
    assert own == ["columns not used: rate, oi; EXTRA_COLUMNS makes features of them"]
    assert any("ignored: exchange, note" in text for text in notes)


def test_what_is_used_is_not_in_the_note(tmp_path):
    path, notes = write(own(), tmp_path / "x.csv"), []
    read_bars(path, extra=["funding"], note=notes.append)
    assert notes == ["columns not used: open_interest; EXTRA_COLUMNS makes features of them"]
    read_bars(path, extra=["funding", "open_interest"], note=notes.append)
    assert len(notes) == 1


def test_the_digest_covers_own_columns_and_is_the_same_without_any():
    bars = check_bars(own(), extra=["Funding", "open_interest"])
    plain = digest(check_bars(own()))
    assert digest(check_bars(frame().assign(symbol="BTC"))) == plain
    assert digest(bars) != plain
    assert digest(check_bars(own(), extra=["open_interest", "Funding"])) == digest(bars)
    assert digest(bars.rename(columns={"Funding": "funding"})) != digest(bars)
    other = bars.copy()
    other.loc[0, "Funding"] = 0.02
    assert digest(other) != digest(bars)
    other = bars.assign(Funding=np.where(bars["Funding"].isna(), -np.nan, bars["Funding"]))
    assert digest(other) == digest(bars)


def test_the_digest_of_plain_bars_is_the_one_that_runs_have_kept():
    bars = check_bars(frame().assign(symbol="BTC"))
    assert digest(bars).startswith("0c56903b3d0707f7")


def test_each_symbol_is_handed_over_with_its_own_columns():
    both = pd.concat([own(), own().assign(symbol="A", Funding=-FUNDING)])
    bars = check_bars(both, extra=["Funding"])
    parts = list(by_symbol(bars.copy()))
    pd.testing.assert_frame_equal(
        pd.concat(parts).drop(columns=["symbol", "timestamp"]).reset_index(drop=True),
        bars.drop(columns=["symbol", "timestamp"]),
    )
    assert [part["Funding"].iloc[0] for part in parts] == [-0.01, 0.01]


def test_splits_are_scaled_away_from_prices_and_not_from_own_columns():
    rows = 400
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(random.normal(scale=0.002, size=rows)))
    close[200:] /= 4
    open_ = np.concatenate([close[:1], close[:-1]])
    open_[200] = close[200]
    table = pd.DataFrame({"timestamp": pd.date_range("2020", periods=rows, tz="UTC")})
    table = table.assign(open=open_, close=close, high=np.maximum(open_, close))
    table = table.assign(low=np.minimum(open_, close), volume=1.0, symbol="A", funding=3.0)
    scaled, splits = adjust_splits(check_bars(table, extra=["funding"]))
    assert len(splits) == 1 and scaled["close"].iloc[0] < 30
    assert (scaled["funding"] == 3).all()


@pytest.mark.parametrize(("newer", "kept"), [(9.0, 9.0), (np.nan, 2.0)])
def test_the_newest_day_in_two_rows_has_the_newer_value_that_is_there(newer, kept):
    days = pd.date_range("2024-01-01", periods=9, tz="UTC")
    table = pd.DataFrame({"timestamp": [*days, days[-1] + pd.Timedelta(hours=20)]})
    table = table.assign(open=1.0, high=1.0, low=1.0, close=1.0, volume=5.0, symbol="A")
    table["funding"] = [1.0] * 8 + [2.0, newer]
    given = table.copy()
    bars = check_bars(table, extra=["funding"])
    assert len(bars) == 9 and bars["funding"].iloc[-1] == kept
    pd.testing.assert_frame_equal(table, given)


def test_many_rows_in_blocks_keep_their_values(tmp_path):
    rows = 150_000  # more than one block of a text
    table = pd.DataFrame({"time": 1_600_000_000 + 60 * np.arange(rows)})
    table = table.assign(open=10, high=11, low=9, close=10, volume=1, rate=np.arange(rows) / 8)
    with gzip.open(tmp_path / "A.csv.gz", "wt") as file:
        table.to_csv(file, index=False)
    assert (read_bars(tmp_path / "A.csv.gz", extra=["rate"])["rate"] == np.arange(rows) / 8).all()

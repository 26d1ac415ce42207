"""The commands that talk to an exchange, from the command line to what they print and write."""

import pandas as pd
import pytest
from binance_server import START, STEP, BinanceServer

import recipe.cli.console
import recipe.live.download
import recipe.live.exchange
import train_model
from data.features.features import feature_names
from models.calibration import RestoreProbabilities
from models.deployable import make_deployable, save_model
from models.xlstm_rl_model import build_xlstm_classifier

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
LENGTH = 10


@pytest.fixture
def server(monkeypatch):
    real = recipe.live.exchange.open_exchange
    with BinanceServer(num_closed=600) as server:
        server.until = None

        def opened(name, note):
            def sleep(seconds):
                server.now += max(1, round(seconds * 1000))
                if server.until and server.now > server.until:
                    raise KeyboardInterrupt

            clock = lambda: server.now / 1000  # noqa: E731
            return server.point(real(name, note=note, sleep=sleep, clock=clock))

        monkeypatch.setattr(recipe.live.exchange, "open_exchange", opened)
        monkeypatch.setattr(recipe.live.download, "open_exchange", opened)
        yield server


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    names = list(feature_names(True))
    network = build_xlstm_classifier(LENGTH, len(names), units=4, num_heads=2, blocks="m")
    contract = {
        "class_names": ["SELL", "HOLD", "BUY"],
        "feature_names": names,
        "sequence_length": LENGTH,
        "max_gap_bars": 2,
        "intraday": True,
        "interval_seconds": 300.0,
        "training_ranges": [[-0.9] * len(names), [0.9] * len(names)],
        "training_period": ["2020-01-01 00:00:00", "2021-12-31 00:00:00"],
        "call": {"rule": "largest lift", "prior": [0.3, 0.4, 0.3]},
    }
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(make_deployable(network, RestoreProbabilities(), contract), path)
    return path


def test_download_writes_files_that_predict_reads(server, model_file, tmp_path, capsys):
    since = pd.Timestamp(START, unit="ms", tz="UTC").isoformat()
    asked = ["download", "binance", "BTC/USDT", "ETH/USDT", "--timeframe", "5m"]
    assert train_model.main([*asked, "--since", since, "--to", str(tmp_path / "bars")]) == 0
    assert "BTC/USDT: 600 new" in capsys.readouterr().out
    table = tmp_path / "table.csv"
    arguments = ["predict", str(model_file), "--data", str(tmp_path / "bars"), "--out", str(table)]
    assert train_model.main(arguments) == 0
    assert set(pd.read_csv(table)["symbol"]) == {"BTC/USDT", "ETH/USDT"}


def test_the_newest_closed_bar_of_each_symbol_is_answered(server, model_file, tmp_path, capsys):
    asked = ["predict", str(model_file), "--exchange", "binance", "--symbols", "BTC/USDT"]
    table = tmp_path / "table.csv"
    assert train_model.main([*asked, "ETH/USDT", "--out", str(table)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "HOLD" in line]
    newest = pd.Timestamp(START + 599 * STEP, unit="ms", tz="UTC")
    assert [line[:16] for line in lines] == [f"{newest:%Y-%m-%d %H:%M}"] * 2
    assert ["BTC/USDT" in lines[0], "ETH/USDT" in lines[1]] == [True, True]
    written = pd.read_csv(table, parse_dates=["timestamp"])
    assert (written["timestamp"] == newest).all() and len(written) == 2
    assert list(written)[:3] == ["timestamp", "symbol", "call"]
    for line, call in zip(lines, written["call"], strict=True):
        assert line.split("(")[0].split()[-1] == call and "  (SELL 0." in line


def test_follow_answers_every_close_until_ctrl_c(server, model_file, tmp_path, capsys):
    server.until = START + 603 * STEP
    table = tmp_path / "table.csv"
    asked = ["predict", str(model_file), "--exchange", "binance", "--symbols", "BTC/USDT"]
    assert train_model.main([*asked, "ETH/USDT", "--follow", "--out", str(table)]) == 130
    told = capsys.readouterr()
    expected = pd.to_datetime([START + n * STEP for n in range(599, 603)], unit="ms", utc=True)
    lines = [line for line in told.out.splitlines() if "HOLD" in line]
    assert [line[:16] for line in lines] == [f"{t:%Y-%m-%d %H:%M}" for t in expected for _ in "BE"]
    assert all("unfamiliar" in line for line in lines)
    assert told.err.count("the model is old") == 1  # told once, not at every close
    assert told.err.endswith("\nended\n") and "Traceback" not in told.err
    written = pd.read_csv(table, parse_dates=["timestamp"])
    assert written["timestamp"].tolist() == [time for time in expected for _ in "BE"]
    assert written["symbol"].tolist() == ["BTC/USDT", "ETH/USDT"] * 4
    assert written[["p_buy", "unfamiliar"]].stack().between(0, 1).all()


def test_a_restart_adds_to_the_table_that_is_there(server, model_file, tmp_path):
    table = tmp_path / "table.csv"
    asked = ["predict", str(model_file), "--exchange", "binance", "--symbols", "BTC/USDT"]
    for closes in (602, 604):
        server.until = START + closes * STEP
        assert train_model.main([*asked, "--follow", "--out", str(table)]) == 130
    written = pd.read_csv(table, parse_dates=["timestamp"])["timestamp"]
    assert written.is_monotonic_increasing and written.nunique() == 5
    assert table.read_text().count("timestamp") == 1


def test_a_table_that_was_moved_away_begins_anew(server, model_file, tmp_path, monkeypatch):
    server.until = START + 602 * STEP
    table, moved = tmp_path / "table.csv", tmp_path / "moved.csv"
    show = recipe.cli.console.answers

    def answered(rows):
        if table.exists():
            table.rename(moved)
        show(rows)

    monkeypatch.setattr(recipe.cli.console, "answers", answered)
    asked = ["predict", str(model_file), "--exchange", "binance", "--symbols", "BTC/USDT"]
    assert train_model.main([*asked, "--follow", "--out", str(table)]) == 130
    assert len(pd.read_csv(table)) == len(pd.read_csv(moved)) == 1


def test_a_table_of_other_columns_gets_no_row(server, model_file, tmp_path, monkeypatch, capsys):
    server.until = START + 602 * STEP
    table = tmp_path / "table.csv"
    older = b"timestamp,symbol,p_sell,p_hold,p_buy,unfamiliar\n"  # before there was `call`
    monkeypatch.setattr(recipe.cli.console, "answers", lambda rows: table.write_bytes(older))
    asked = ["predict", str(model_file), "--exchange", "binance", "--symbols", "BTC/USDT"]
    assert train_model.main([*asked, "--follow", "--out", str(table)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"the table {table} must have the columns timestamp,symbol,call,p_sell" in line
    assert table.read_bytes() == older


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--data", "bars.csv", "--exchange", "binance", "--symbols", "BTC/USDT"],
        ["--data", "bars.csv", "--exchange", "binance"],
        ["--data", "bars.csv", "--symbols", "BTC/USDT"],
        ["--data", "bars.csv", "--follow"],
        ["--exchange", "binance", "--universe", "bars.csv"],
    ],
)
def test_options_of_predict_that_do_not_go_together_are_refused(options, capsys):
    assert train_model.main(["predict", "model.keras", *options]) == 2
    assert "--exchange" in capsys.readouterr().err

"""A model beside the market at an exchange: all symbols are fetched, the asked ones answered."""

import numpy as np
import pandas as pd
import pytest
from beside_model import UNIVERSE, make_model, random_bars
from binance_server import START, STEP, BinanceServer

import recipe.live.exchange
import train_model
from core.errors import InputError
from data.features.extra import parse_extra
from data.features.settings import FeatureSettings
from data.market.moves import moment
from models.deployable import contract_of, save_model
from recipe.live.exchange import open_exchange
from recipe.live.markets import _symbols_by_name, members_of
from recipe.live.newest import answer_newest
from recipe.serve.predict import classify_latest

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
CLOSED = 400
TRADED = [f"{name}USDT" for name in ("AAA", "BBB", "BTC", "CCC", "DDD", "ETH")]


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def walk():
    """Bars of each symbol that the exchange trades, with the training's names."""
    return random_bars(CLOSED + 20, START, STEP)


class Server(BinanceServer):
    """Trades the walk; `late` are symbols and opens whose bar is shown from a time on."""

    def __init__(self, walk):
        super().__init__(num_closed=CLOSED, symbols=TRADED)
        self.late, self.until, self.open = {}, None, open_exchange
        columns = ["open", "high", "low", "close", "volume"]
        self.rows = {
            traded: walk.loc[walk["symbol"] == name, columns].to_numpy()
            for traded, name in zip(TRADED, UNIVERSE, strict=True)
        }

    def klines(self, query):
        (symbol,) = query["symbol"]
        rows = super().klines(query)
        shown = [row for row in rows if self.late.get((symbol, row[0]), 0) <= self.now]
        return [
            [row[0], *map(str, self.rows[symbol][(row[0] - START) // STEP]), row[6]]
            for row in shown
            if (row[0] - START) // STEP < len(self.rows[symbol])
        ]


@pytest.fixture
def server(walk, monkeypatch):
    with Server(walk) as server:

        def sleep(seconds):
            server.now += max(1, round(seconds * 1000))
            if server.until and server.now > server.until:
                raise KeyboardInterrupt

        def opened(name, note=lambda text: None):
            clock = lambda: server.now / 1000  # noqa: E731
            return server.point(open_exchange(name, note=note, sleep=sleep, clock=clock))

        monkeypatch.setattr(recipe.live.exchange, "open_exchange", opened)
        server.open = opened
        yield server


def answers(model, *symbols, follow=False):
    """Returns the tables and the notes."""
    tables, notes = [], []

    def note(text):
        if "closed bars of 5m, has" not in text:  # the walk is shorter than KAMA's memory
            notes.append(text)

    asked = {"follow": follow, "out": None, "note": note, "answered": tables.append}
    try:
        answer_newest(model, "binance", symbols, **asked)
    except KeyboardInterrupt:
        assert follow
    return tables, notes


def expected(model, walk, *names, closed=CLOSED):
    stop = pd.Timestamp(START + closed * STEP, unit="ms", tz="UTC")
    bars = walk[walk["timestamp"] < stop]
    return classify_latest(model, bars[bars["symbol"].isin(names)], universe=bars)


def test_the_asked_symbols_are_answered_beside_the_whole_market(server, model, walk):
    (table,), notes = answers(model, "ETH/USDT", "BTC/USDT")
    assert table["symbol"].tolist() == ["BTC/USDT", "ETH/USDT"] and notes == []
    there = expected(model, walk, "BTCUSDT", "ETH-USDT")
    pd.testing.assert_frame_equal(
        table.drop(columns="symbol"), there.drop(columns="symbol"), atol=1e-6
    )


def test_no_symbol_is_the_universe_and_a_stranger_is_answered(server, model, walk):
    (table,), _notes = answers(model)
    assert table["symbol"].tolist() == [f"{name[:3]}/USDT" for name in TRADED]
    fewer = make_model(symbols=UNIVERSE[:5], universe=UNIVERSE[:5])
    (table,), notes = answers(fewer, "ETH/USDT")
    assert table["symbol"].tolist() == ["ETH/USDT"] and notes == []
    there = expected(fewer, walk, "ETH-USDT")
    np.testing.assert_allclose(table["p_buy"], there["p_buy"], atol=1e-6)
    alone = make_model(features=FeatureSettings())
    (table,), _notes = answers(alone)
    assert len(table) == 6


def test_names_are_compared_without_punctuation_and_the_exact_one_goes_first(server):
    server.perpetuals = ("BTCUSDT", "AAAUSDT")
    exchange = server.open("binance")
    names = ["BTCUSDT", "BTC/USDT", "aaa_usdt", "SOLUSDT"]
    assert _symbols_by_name(exchange, names, []) == {
        "BTC/USDT": "BTC/USDT",
        "BTCUSDT": "BTC/USDT:USDT",
        "aaa_usdt": "AAA/USDT",
    }
    swaps = _symbols_by_name(exchange, ["BTCUSDT", "CCCUSDT", "AAA/USDT"], ["ETH/USDT:USDT"])
    assert swaps == {"BTCUSDT": "BTC/USDT:USDT", "CCCUSDT": "CCC/USDT", "AAA/USDT": "AAA/USDT"}


def test_the_market_needs_no_more_past_than_its_features_remember(server):
    exchange = server.open("binance")
    for name, num_bars in [("rsi", 1010), ("kama_distance", 5010)]:
        contract = contract_of(make_model(features=FeatureSettings(market=(name,))))
        members, _remark = members_of(exchange, contract, ["BTC/USDT"])
        assert members.num_bars == dict.fromkeys(members.num_bars, num_bars) | {"BTC/USDT": 5010}
        assert len(members.num_bars) == 6


def test_an_exchange_without_half_of_the_market_is_refused_before_bars_are_fetched(server):
    strangers = [f"{name}USDT" for name in ("XXX", "YYY", "ZZZ", "SOL", "ADA")]
    model = make_model(universe=strangers + UNIVERSE[:3])
    with pytest.raises(InputError, match="it has 3, missing are XXXUSDT, YYYUSDT, ZZZ"):
        answers(model, "BTC/USDT")
    alone = make_model(universe=strangers, features=FeatureSettings())
    with pytest.raises(InputError, match="binance has none of the symbols of the training: XXX"):
        answers(alone)
    with pytest.raises(InputError, match="--exchange needs --symbols"):
        answers(make_model(universe=[], features=FeatureSettings()))
    three = make_model(universe=strangers[:3] + UNIVERSE[:3])  # half, but 4 make a market
    with pytest.raises(InputError, match="must have at least 4 of them; it has 3, missing are XXX"):
        answers(three, "BTC/USDT")
    assert server.asked == []
    _tables, notes = answers(make_model(universe=strangers[:2] + UNIVERSE[:4]), "BTC/USDT")
    assert notes == ["binance has 4 of the 6 symbols of the training; missing are XXXUSDT, YYYUSDT"]


def test_own_columns_are_refused_before_the_exchange_is_opened(monkeypatch):
    monkeypatch.setattr(recipe.live.exchange, "open_exchange", None)
    model = make_model(features=FeatureSettings(extra=parse_extra("funding, interest:change")))
    with pytest.raises(InputError, match="the columns funding, interest, which no exchange has"):
        answers(model, "BTC/USDT")


def test_a_symbol_without_the_newest_bar_is_told_and_not_answered(server, model):
    newest = START + (CLOSED - 1) * STEP
    server.late = {("ETHUSDT", newest): np.inf}
    (table,), notes = answers(model, "BTC/USDT", "ETH/USDT")
    assert table["symbol"].tolist() == ["BTC/USDT"]
    time = moment(np.datetime64(newest, "ms"))
    assert notes == [f"1 of 6 symbols have no bar of {time} UTC: ETH/USDT"]
    with pytest.raises(InputError, match="no symbol that is asked for has a newest bar"):
        answers(model, "ETH/USDT")
    server.late = {(name, newest): np.inf for name in TRADED[2:]}
    with pytest.raises(InputError, match="2 have, missing are BTCUSDT, CCCUSDT.*ETH-USDT$"):
        answers(model, "AAA/USDT")


def test_follow_waits_for_the_market_answers_half_of_it_and_goes_on(server, model, walk):
    opens = [START + number * STEP for number in range(CLOSED, CLOSED + 5)]
    server.until = START + (CLOSED + 5) * STEP
    close = lambda number: opens[number] + STEP  # noqa: E731
    server.late = {("CCCUSDT", opens[0]): close(0) + 50_000}  # waited for
    for number in (1, 2):  # told once
        server.late[("DDDUSDT", opens[number])] = np.inf
    for name in [*TRADED[:2], *TRADED[3:5]]:  # no answer
        server.late[(name, opens[3])] = np.inf
    tables, notes = answers(model, "BTC/USDT", follow=True)
    times = [int(table["timestamp"].iloc[0].timestamp() * 1000) for table in tables]
    assert times == [opens[0] - STEP, *opens[:3], opens[4]]
    assert all(table["symbol"].tolist() == ["BTC/USDT"] for table in tables)
    np.testing.assert_allclose(
        tables[1]["p_buy"], expected(model, walk, "BTCUSDT", closed=CLOSED + 1)["p_buy"], atol=1e-6
    )
    assert "1 of 6 symbols have no bar of" in notes[0] and notes[0].endswith(": DDD/USDT")
    assert "4 of 6 symbols" in notes[1]
    assert "2 have, missing are AAA/USDT, BBB_USDT, CCCUSDT, DDDUSDT" in notes[2]
    assert "all 6 symbols have a bar of" in notes[3] and len(notes) == 4


def test_a_pause_is_told_once_for_all_symbols(server, model):
    server.until = START + (CLOSED + 4) * STEP
    paused = server.now + 3 * STEP

    def pause(table):
        server.now = max(server.now, paused)

    notes = []
    with pytest.raises(KeyboardInterrupt):
        answer_newest(
            model, "binance", ["BTC/USDT"],
            follow=True, out=None, note=notes.append, answered=pause,
        )  # fmt: skip
    assert [note for note in notes if "went by" in note] == ["2 closes went by without an answer"]


@pytest.mark.parametrize("market", [("rsi",), ()])
def test_universe_is_a_file_beside_a_file(market, walk, tmp_path, capsys):
    path = tmp_path / "model.keras"
    save_model(make_model(to_save=True, features=FeatureSettings(market=market)), path)
    walk[walk["symbol"] == "BTCUSDT"].to_parquet(tmp_path / "btc.parquet")
    walk.to_parquet(tmp_path / "all.parquet")
    asked = ["predict", str(path), "--universe", str(tmp_path / "all.parquet")]
    assert train_model.main([*asked, "--exchange", "binance"]) == 2
    assert "--universe goes with --data" in capsys.readouterr().err
    asked += ["--data", str(tmp_path / "btc.parquet"), "--out", str(tmp_path / "out.csv")]
    assert train_model.main(asked) == 0
    assert ("--universe is not used" in capsys.readouterr().err) == (not market)
    assert set(pd.read_csv(tmp_path / "out.csv")["symbol"]) == {"BTCUSDT"}

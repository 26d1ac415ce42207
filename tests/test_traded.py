import pytest
from binance_server import BinanceServer

import recipe.live.download
import recipe.live.exchange
import recipe.live.markets
import train_model
from core.errors import InputError
from recipe.live.exchange import Exchange, open_exchange
from recipe.live.markets import MostTraded, most_traded

pytest.importorskip("ccxt", reason="needs the extra `live` (ccxt)")
SPOT = {"spot": True, "quote": "USDT"}
SWAP = {"swap": True, "linear": True, "quote": "USDT"}


class Client:
    """An exchange that sells contracts first, as Bybit does."""

    id, has, options = "made-up", {"fetchTickers": True}, {"defaultType": "swap"}

    def __init__(self, markets, tickers):
        self.markets, self.tickers, self.asked = markets, tickers, []

    def load_markets(self):
        return self.markets

    def fetch_tickers(self, symbols=None, params=None):
        self.asked.append(params)
        return self.tickers


def chosen(client, top=9, quote="USDT", perpetuals=False, notes=None):
    notes = [] if notes is None else notes
    exchange = Exchange(client, notes.append, sleep=lambda s: None, max_tries=2)
    return most_traded(exchange, MostTraded(quote, top, perpetuals))


MARKETS = {
    "A/USDT": SPOT,
    "B/USDT": SPOT | {"active": True},
    "C/USDT": SPOT,
    "GONE/USDT": SPOT | {"active": False},
    "D/BTC": {"spot": True, "quote": "BTC"},
    "A/USDT:USDT": SWAP,
    "A/USD:A": SWAP | {"linear": False, "quote": "USD"},
}
TICKERS = {
    "A/USDT": {"quoteVolume": 10.0},
    "B/USDT": {"quoteVolume": None, "baseVolume": 20, "last": 3},
    "C/USDT": {"quoteVolume": "30"},
    "GONE/USDT": {"quoteVolume": 1e9},
    "D/BTC": {"quoteVolume": 1e9},
    "A/USDT:USDT": {"quoteVolume": 1e9},
    "OTHER/USDT": {"quoteVolume": 1e9},
}


def test_the_most_traded_come_first_and_only_open_markets_of_the_currency():
    client = Client(MARKETS, TICKERS)
    assert chosen(client) == ["B/USDT", "C/USDT", "A/USDT"]
    assert chosen(client, top=2, quote="usdt") == ["B/USDT", "C/USDT"]
    assert client.asked == [{"type": "spot"}] * 2


def test_perpetuals_have_the_names_of_ccxt():
    client = Client(MARKETS, TICKERS)
    assert chosen(client, perpetuals=True) == ["A/USDT:USDT"]
    assert client.asked == [{"subType": "linear"}]


def test_fewer_than_asked_for_are_told():
    notes = []
    chosen(Client(MARKETS, TICKERS), top=50, notes=notes)
    assert notes == ["made-up has 3 such symbols, 50 were asked for"]


def test_equal_turnover_is_in_the_order_of_names():
    tickers = {name: {"quoteVolume": 5} for name in ("C/USDT", "B/USDT", "A/USDT")}
    assert chosen(Client(MARKETS, tickers), top=2) == ["A/USDT", "B/USDT"]


@pytest.mark.parametrize("value", [None, "much", float("nan"), float("inf"), -5, 0, [], "9" * 400])
def test_turnover_that_is_no_number_chooses_nothing(value):
    tickers = {name: {"quoteVolume": value} for name in MARKETS}
    with pytest.raises(InputError, match="does not say how much is traded"):
        chosen(Client(MARKETS, tickers))
    assert chosen(Client(MARKETS, tickers | {"B/USDT": {"quoteVolume": 1}})) == ["B/USDT"]


@pytest.mark.parametrize("answer", [{}, [], None, "html"])
def test_tickers_that_are_none_are_asked_for_again(answer):
    with pytest.raises(InputError, match="no answer in 2 tries"):
        chosen(Client(MARKETS, answer))


def test_a_currency_that_nothing_is_paid_in_is_told_with_those_that_there_are():
    with pytest.raises(InputError, match="no spot market quoted in EUR; it has BTC, USD, USD"):
        chosen(Client(MARKETS, TICKERS), quote="EUR")
    with pytest.raises(InputError, match="no linear perpetual quoted in BTC"):
        chosen(Client(MARKETS, TICKERS), quote="BTC", perpetuals=True)


@pytest.fixture
def server(monkeypatch):
    real = recipe.live.exchange.open_exchange
    names = ("BTCUSDT", "ETHUSDT", "XRPUSDT", "LTCBTC")
    with BinanceServer(num_closed=30, symbols=names) as server:
        server.perpetuals = ("BTCUSDT", "ETHUSDT")
        server.turnover = {"BTCUSDT": "50", "ETHUSDT": "70", "XRPUSDT": "60", "LTCBTC": "99"}

        def opened(name, note):
            return server.point(real(name, note=note, clock=lambda: server.now / 1000))

        monkeypatch.setattr(recipe.live.download, "open_exchange", opened)
        yield server


def test_download_by_currency_writes_the_most_traded(server, tmp_path):
    asked = ["download", "binance", "--quote", "USDT", "--top", "2", "--timeframe", "5m"]
    since = ["--since", "2023-11-14", "--to", str(tmp_path)]
    assert train_model.main([*asked, *since]) == 0
    names = ["ETH_USDT-5m.parquet", "XRP_USDT-5m.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_download_of_perpetuals_by_currency_and_by_name(server, tmp_path):
    asked = ["download", "binance", "--timeframe", "5m", "--since", "2023-11-14"]
    chosen, named = tmp_path / "chosen", tmp_path / "named"
    bulk = ["--quote", "USDT", "--perpetuals", "--to", str(chosen)]
    assert train_model.main([*asked, *bulk]) == 0
    names = ["BTC_USDT_USDT-5m.parquet", "ETH_USDT_USDT-5m.parquet"]
    assert sorted(path.name for path in chosen.iterdir()) == names
    assert train_model.main([*asked, "BTC/USDT:USDT", "--to", str(named)]) == 0
    assert [path.name for path in named.iterdir()] == names[:1]


def test_neither_a_date_nor_a_folder_must_be_given(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_model.main(["download", "binance", "BTC/USDT", "--timeframe", "5m"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["BTC/USDT", "--quote", "USDT"],
        ["BTC/USDT", "--top", "5"],
        ["BTC/USDT", "--perpetuals"],
        ["--quote", "USDT", "--top", "0"],
        ["--quote", "USDT", "--top", "-3"],
    ],
)
def test_options_of_download_that_do_not_go_together_are_refused(options, capsys):
    assert train_model.main(["download", "binance", "--timeframe", "5m", *options]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "--" in told


def test_bybit_and_others_are_asked_for_the_right_kind(monkeypatch):
    for name, perpetuals, address in [
        ("bybit", False, "category=spot"),
        ("bybit", True, "category=linear"),
        ("okx", False, "instType=SPOT"),
        ("okx", True, "instType=SWAP"),
    ]:
        exchange, asked = open_exchange(name), []
        exchange.client.markets = {"A/USDT": SPOT}
        exchange.client.fetch = lambda url, *args, asked=asked: asked.append(url) or {"data": []}
        exchange.max_tries = 1
        with pytest.raises(InputError):
            recipe.live.markets._tickers(exchange, perpetuals)
        assert [address in url for url in asked] == [True]

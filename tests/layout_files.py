"""Bars laid out by hand as each tool writes them: texts, JSON values and frames."""

import numpy as np
import pandas as pd

from data.bars.checks import check_bars

ROWS = 6
OPEN = 10.0 + np.arange(ROWS)
DAYS = pd.date_range("2024-01-02", periods=ROWS, freq="D", tz="UTC")
MINUTES = pd.date_range("2024-01-02 09:30", periods=ROWS, freq="5min", tz="UTC")
SECONDS = [int(t.timestamp()) for t in MINUTES]
PRICES = {"open": OPEN, "high": OPEN + 1, "low": OPEN - 1, "close": OPEN + 0.5}


def expected(times=MINUTES, symbol="BTC"):
    volume = 100.0 + np.arange(ROWS)
    return check_bars(pd.DataFrame({"timestamp": times, **PRICES, "volume": volume}).assign(
        symbol=symbol
    ))  # fmt: skip


def lines(pattern, *, head=None, times=MINUTES, reverse=False, scale=1.0):
    """Returns a file's text: the pattern filled in for each bar, under its header."""
    rows = []
    for i, time in enumerate(times):
        o = OPEN[i] * scale
        values = {"o": o, "h": o + scale, "l": o - scale, "c": o + scale / 2, "v": 100 + i}
        s = int(time.timestamp())
        epochs = {"s": s, "ms": s * 1000, "us": s * 10**6, "ns": s * 10**9}
        rows.append(pattern.format(t=time, i=i, end=s * 1000 + 299_999, **values, **epochs))
    rows = rows[::-1] if reverse else rows
    return "\n".join([head, *rows] if head else rows) + "\n"


def days(pattern, **options):
    return lines(pattern, times=DAYS, **options)


KLINE = "{ms},{o},{h},{l},{c},{v},{end},5000.5,42,50.1,600.2,0"
KLINE_HEAD = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
PLAIN = "{o},{h},{l},{c},{v}"
OHLCV = "Open,High,Low,Close,Volume"
TIINGO = (
    "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor"
)
TIINGO_ROW = "{t:%Y-%m-%d},1,2,0.5,1,7,{c},{h},{l},{o},{v},0.0,1.0"
MT_HEAD = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
STOOQ = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
DATABENTO = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
PAIR_HEAD = "Price,Close,High,Low,Open,Volume\nTicker,BTC,BTC,BTC,BTC,BTC\nDate,,,,,"
DAY_ROW = "{t:%Y-%m-%d}," + PLAIN

# name of the row: file, its text, the times it holds, words of its note
TEXTS = {
    "binance klines": ("BTC-5m-2024-01.csv", lines(KLINE), MINUTES, "Binance klines"),
    "binance microseconds": (
        "BTC-5m-2025-01-02.csv", lines(KLINE.replace("{ms}", "{us}")), MINUTES, "Binance"),
    "binance with header": (
        "BTC-5m-2024-01.csv", lines(KLINE, head=KLINE_HEAD), MINUTES, "timestamp from open_time"),
    "binance futures name": (
        "BTC-5m-futures-2024-01.csv", lines(KLINE, head=KLINE_HEAD), MINUTES, "open_time"),
    "binance text": ("BTC-5m.txt", lines(KLINE), MINUTES, "Binance"),
    "ccxt csv": ("BTC.csv", lines("{ms}," + PLAIN), MINUTES, "no header"),
    "ccxt floats": ("BTC.csv", lines("{ms}.0," + PLAIN), MINUTES, "no header"),
    "ccxt with header": (
        "BTC.csv", lines("{ms}," + PLAIN, head=f"timestamp,{OHLCV}"), MINUTES, ""),
    "yfinance daily": (
        "BTC.csv", days("{t:%Y-%m-%d}," + PLAIN, head=f"Date,{OHLCV}"), DAYS, "from Date"),
    "yfinance intraday": (
        "BTC.csv", lines("{t:%Y-%m-%d %H:%M:%S}+00:00," + PLAIN, head=f"Datetime,{OHLCV}"), MINUTES,
        "from Datetime"),
    "yfinance two headers": (
        "x.csv", days("{t:%Y-%m-%d},{c},{h},{l},{o},{v}", head=PAIR_HEAD), DAYS, "two rows"),
    "yfinance by ticker": (
        "x.csv",
        days(DAY_ROW, head=f"Ticker,BTC,BTC,BTC,BTC,BTC\nPrice,{OHLCV}\nDate,,,,,"),
        DAYS, "two rows"),
    "unnamed index": (
        "BTC.csv", days("{t:%Y-%m-%d}," + PLAIN, head=f",{OHLCV}"), DAYS, "from the index"),
    "stooq web": ("BTC.csv", days(DAY_ROW, head=f"Date,{OHLCV}"), DAYS, "from Date"),
    "stooq bulk daily": (
        "btc.us.txt", days("BTC,D,{t:%Y%m%d},000000," + PLAIN + ",0", head=STOOQ), DAYS, "TICKER"),
    "stooq bulk 5 minutes": (
        "btc.us.txt", lines("BTC,5,{t:%Y%m%d},{t:%H%M%S}," + PLAIN + ",0", head=STOOQ), MINUTES,
        "timestamp from date and time"),
    "kaggle with name": (
        "all.csv", days(DAY_ROW + ",BTC", head=f"date,{OHLCV.lower()},Name"), DAYS, "from Name"),
    "kaggle brackets": (
        "BTC.csv",
        lines("{s}," + PLAIN + ",5,6", head="Timestamp,Open,High,Low,Close,Volume_(BTC),"
              "Volume_(Currency),Weighted_Price"), MINUTES, "volume from Volume_(BTC)"),
    "tiingo": ("BTC.csv", days(TIINGO_ROW, head=TIINGO), DAYS, "adjOpen".lower()),
    "alpaca": (
        "bars.csv",
        lines("BTC,{t:%Y-%m-%dT%H:%M:%SZ}," + PLAIN + ",7,10.5",
              head=f"symbol,timestamp,{OHLCV.lower()},trade_count,vwap"), MINUTES, "ignored"),
    "polygon flat file": (
        "2024-01-02.csv",
        lines("BTC,{v},{o},{c},{h},{l},{ns},9",
              head="ticker,volume,open,close,high,low,window_start,transactions"), MINUTES,
        "from window_start"),
    "tradingview": (
        "BTC, 5.csv", lines("{s}," + PLAIN + ",1.5", head="time,open,high,low,close,Volume,RSI"),
        MINUTES, "from time"),
    "tradingview iso": (
        "BTC, 5_ab12f.csv",
        lines("{t:%Y-%m-%dT%H:%M:%S}+00:00," + PLAIN, head="time,open,high,low,close,Volume"),
        MINUTES, "from time"),
    "databento": (
        "x.csv", lines("{ns},33,1,5," + PLAIN + ",BTC", head=DATABENTO), MINUTES, "ts_event"),
    "databento pretty": (
        "x.csv",
        lines("{t:%Y-%m-%dT%H:%M:%S}.000000000Z,33,1,5," + PLAIN + ",BTC", head=DATABENTO),
        MINUTES, "ts_event"),
    "databento fixed point": (
        "x.csv",
        lines("{ns},33,1,5,{o:.0f},{h:.0f},{l:.0f},{c:.0f},{v},BTC", head=DATABENTO, scale=1e9),
        MINUTES, "units of 1e-9"),
    "okx": (
        "BTC-candlesticks-2024-01-02.csv",
        lines("BTC," + PLAIN + ",5,6,{ms},1", head=f"instrument_name,{OHLCV.lower()}"
              ",vol_ccy,vol_quote,open_time,confirm"), MINUTES, "from instrument_name"),
    "tushare": (
        "x.csv",
        days("BTC,{t:%Y%m%d}," + PLAIN + ",9", head=f"ts_code,trade_date,{OHLCV.lower()},amount"),
        DAYS, "from trade_date"),
    "dukascopy local": (
        "BTC.csv",
        lines("{t:%d.%m.%Y %H:%M:%S}.000 GMT+0000," + PLAIN, head=f"Local time,{OHLCV}"), MINUTES,
        "from Local time"),
    "an index beside the times": (
        "BTC.csv", lines("{i},{s}," + PLAIN, head=f",timestamp,{OHLCV}"), MINUTES,
        "one without a name"),
    "qlib": (
        "btc.csv", days("BTC," + DAY_ROW + ",1.0", head=f"symbol,date,{OHLCV.lower()},factor"),
        DAYS, "from date"),
    "qlib expressions": (
        "x.csv",
        days("BTC," + DAY_ROW, head="instrument,datetime,$open,$high,$low,$close,$volume"), DAYS,
        "from instrument"),
    "metatrader 5": (
        "BTC_M5_202401020930_202401020955.csv",
        lines("{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t{v}\t0\t3", head=MT_HEAD), MINUTES,
        "broker"),
    "metatrader 5 real volume": (
        "BTC_M5_202401020930_202401020955.csv",
        lines("{t:%Y.%m.%d}\t{t:%H:%M:%S}\t{o}\t{h}\t{l}\t{c}\t1\t{v}\t3", head=MT_HEAD), MINUTES,
        "volume from <VOL>"),
    "metatrader 5 daily": (
        "BTC_Daily_202401020000_202401070000.csv",
        days("{t:%Y.%m.%d}\t{o}\t{h}\t{l}\t{c}\t{v}\t0\t3", head=MT_HEAD.replace("\t<TIME>", "")),
        DAYS, "ticks"),
    "metatrader 4": (
        "BTC.csv", lines("{t:%Y.%m.%d},{t:%H:%M}," + PLAIN), MINUTES, "MetaTrader's"),
    "histdata ascii": (
        "DAT_ASCII_BTC_M1_202401.csv",
        lines("{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}"), MINUTES, "EST"),
    "histdata mt": (
        "DAT_MT_BTC_M1_2024.csv", lines("{t:%Y.%m.%d},{t:%H:%M}," + PLAIN), MINUTES, "EST"),
    "cryptodatadownload": (
        "Binance_BTCUSDT_5m.csv",
        lines("{ms},{t:%Y-%m-%d %H:%M:%S},BTC,{o},{h},{l},{c},{v},9,3", reverse=True,
              head="https://www.CryptoDataDownload.com\nUnix,Date,Symbol,Open,High,Low,Close,"
              "Volume BTC,Volume USDT,tradecount"), MINUTES, "newest first"),
    "dukascopy": (
        "BTC.csv", lines("{t:%d.%m.%Y %H:%M:%S}.000," + PLAIN, head=f"Gmt time,{OHLCV}"), MINUTES,
        "from Gmt time"),
    "newest first": (
        "BTC.csv", days(DAY_ROW, head=f"Date,{OHLCV}", reverse=True), DAYS, "turned round"),
    "integer days": (
        "BTC.csv", days("{t:%Y%m%d}," + PLAIN, head=f"date,{OHLCV}"), DAYS, "from date"),
    "integer days and minutes": (
        "BTC.csv", lines("{t:%Y%m%d%H%M}," + PLAIN, head=f"date,{OHLCV}"), MINUTES, "from date"),
    "slashes, year first": (
        "BTC.csv", days("{t:%Y/%m/%d}," + PLAIN, head=f"Date,{OHLCV}"), DAYS, "from Date"),
    "semicolons": (
        "BTC.csv", lines("{s};{o};{h};{l};{c};{v}", head="time;open;high;low;close;volume"),
        MINUTES, "from time"),
    "decimal commas": (
        "BTC.csv",
        lines("{s};{o};{h};{l};{c};{v}", head="time;open;high;low;close;volume").replace(".", ","),
        MINUTES, "decimal commas"),
    "byte order mark": (
        "BTC.csv", "\ufeff" + days(DAY_ROW, head=f"Date,{OHLCV}"), DAYS, "from Date"),
    "another order": (
        "BTC.csv", lines("{v},{c},{l},{h},{o},{s}", head="Vol,Close,Low,High,Open,Unix"), MINUTES,
        "volume from Vol"),
    "letters": ("BTC.csv", lines("{ms}," + PLAIN, head="t,o,h,l,c,v"), MINUTES, "timestamp from t"),
    "windows lines": (
        "BTC.csv", days(DAY_ROW, head=f"Date,{OHLCV}").replace("\n", "\r\n"), DAYS, "from Date"),
}  # fmt: skip


def frame(times=MINUTES, **columns):
    base = {"timestamp": times, **PRICES, "volume": 100.0 + np.arange(ROWS)}
    return pd.DataFrame(base).rename(columns=columns)


def pairs(order):
    """Returns yfinance's table of one ticker: two rows of names over an index of times."""
    table = frame(DAYS).set_index("timestamp").rename(columns=str.capitalize)
    names = [(c, "BTC") if order == 0 else ("BTC", c) for c in table.columns]
    table.columns = pd.MultiIndex.from_tuples(names, names=["Price", "Ticker"][:: 1 - 2 * order])
    return table.rename_axis("Date")


def kline(i):
    prices = [str(PRICES[name][i]) for name in PRICES]
    return [SECONDS[i] * 1000, *prices, str(100.0 + i), 0, "5000.5", 42, "50.1", "600.2", "0"]


def records(names, **more):
    values = [(int(s * 1e3), *(float(PRICES[p][i]) for p in PRICES), 100.0 + i)
              for i, s in enumerate(SECONDS)]  # fmt: skip
    return [dict(zip(names, row, strict=True)) | more for row in values]


LISTS = [list(row.values()) for row in records("tohlcv")]
JSONS = {
    "freqtrade json": ("BTC-5m.json", LISTS),
    "ccxt json": ("BTC.json", LISTS),
    "binance api json": ("BTC.json", [kline(i) for i in range(ROWS)]),
    "polygon answer": ("x.json", {"ticker": "BTC", "results": records("tohlcv", n=3, vw=1.5)}),
    "alpaca answer": ("x.json", {"bars": {"BTC": records("tohlcv", n=3)}, "next": None}),
    "alpaca answer of one": ("x.json", {"bars": records("tohlcv"), "symbol": "BTC"}),
    "records": ("BTC.json", records(["date", *PRICES, "volume"])),
    "rows by number": ("BTC.json", {str(i): row for i, row in enumerate(records("tohlcv"))}),
    "columns by number": (
        "BTC.json",
        pd.DataFrame(records(["date", *PRICES, "volume"])).to_dict(orient="dict"),
    ),
    "columns": (
        "BTC.json",
        {k: [row[k] for row in records("tohlcv")] for k in "tohlcv"},
    ),
}


FRAMES = {
    "freqtrade feather": ("BTC-5m.feather", lambda: frame(timestamp="date"), MINUTES),
    "freqtrade parquet": ("BTC-5m.parquet", lambda: frame(timestamp="date"), MINUTES),
    "freqtrade futures": ("BTC-5m-futures.feather", lambda: frame(timestamp="date"), MINUTES),
    "parquet without a symbol": ("BTC.parquet", frame, MINUTES),
    "index of times": ("BTC.parquet", lambda: frame().set_index("timestamp"), MINUTES),
    "index without a name": (
        "BTC.parquet", lambda: frame().set_index("timestamp").rename_axis(None), MINUTES),
    "yfinance": (
        "BTC.parquet", lambda: frame(DAYS, timestamp="Date", open="Open").set_index("Date"), DAYS),
    "yfinance two headers": ("x.parquet", lambda: pairs(0), DAYS),
    "yfinance by ticker": ("x.parquet", lambda: pairs(1), DAYS),
    "alpaca index": (
        "x.parquet", lambda: frame().assign(symbol="BTC").set_index(["symbol", "timestamp"]),
        MINUTES),
    "text times": (
        "BTC.parquet", lambda: frame(MINUTES.strftime("%Y-%m-%d %H:%M:%S")), MINUTES),
    "plain dates": ("BTC.parquet", lambda: frame([d.date() for d in DAYS]), DAYS),
}  # fmt: skip

"""Recognises bars by the names of their columns, after the layouts of the tools that write them.

Rules, not file names: a column is known by its name without case, blanks, brackets and `_`,
wherever it stands. What is not the project's own layout is told in a remark.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from core.errors import InputError, printable
from core.i18n import N_, _
from data.bars.adjusted import scale, scale_volumes
from data.bars.formats.columns import open_table
from data.bars.formats.faults import COLUMNS, NUMBERS, PRICES, check_columns, listed
from data.bars.formats.numerals import read_numbers
from data.bars.formats.own_columns import FAMILIAR, may_be_number, places_of
from data.bars.formats.packed import Source, reading
from data.bars.formats.table import Table, plain_column
from data.bars.names import named
from data.times.timestamps import day_and_time, is_time_of_day, is_whole_time

TIMES = ("timestamp", "opentime", "windowstart", "tsevent", "unix", "datetime", "date", "time")
TIMES = (*TIMES, "dtyyyymmdd", "tradedate", "gmttime", "utctime", "localtime", "starttime")
TIMES = (*TIMES, "begin", "ts")
VOLUMES = ("volume", "vol", "tickvol", "tickvolume")
SYMBOLS = ("symbol", "ticker", "name", "pair", "code", "tic", "instrument")
SYMBOLS = (*SYMBOLS, "instrumentname", "tscode")
OTHERS = ("timestamp", "clock", "symbol")
NAMELESS = ("", "index", "unnamed0", "indexlevel0")
KLINE = ("open_time", *NUMBERS, "close_time", "quote_volume", "count", "taker_buy_volume")
KLINE = (*KLINE, "taker_buy_quote_volume", "ignore")  # of Binance, without a header
LETTERS = dict(zip("tohlcv", COLUMNS, strict=True))
BROKER = N_(
    "times as the file has them, taken as UTC (MetaTrader: the broker's zone, HistData: EST)"
)


@dataclass
class Layout:
    """Where each part of a bar stands: positions of columns by role, of others, what to tell."""

    roles: dict[str, int]
    remarks: list[str] = field(default_factory=list)
    others: list[int] = field(default_factory=list)


def plain(name) -> str:
    """Returns a column's name without case, blanks, brackets, signs and `_`."""
    text = re.sub(r"^\s*\d+\.\s+", "", str(name).lower())
    return re.sub(r"[\W_]", "", text)


def read_layout(
    source: Source, extra: Sequence[str] = ()
) -> tuple[dict[str, pd.Series], list[str], list[str]]:
    """Returns a file's columns under the canonical names, not checked yet, and what to tell.

    A file without a column of symbols gives none: what its name says is judged with its times.

    Args:
        source: the file.
        extra: names of own columns that are wanted as well.

    Returns:
        columns by name, remarks, and names of columns that features could be made of.
    """
    with reading(source.name):
        table = open_table(source)
    return read_table(table, source.name, named(source.path).symbol, extra)


def read_table(
    table: Table, source: str, symbol: str = "", extra: Sequence[str] = ()
) -> tuple[dict[str, pd.Series], list[str], list[str]]:
    """Returns what `read_layout` does, of a table that is open.

    Args:
        table: of a file or a frame.
        source: what the faults name.
        symbol: of all its bars, as far as that is known.
        extra: names of own columns that are wanted as well.
    """
    if table.names is None:
        layout = _headless(table, source)
    else:
        layout = _by_names(table, table.names, source, symbol)
    layout = _with_clock(layout, table, source)
    roles = dict(layout.roles)
    names = table.names or (KLINE if table.width == len(KLINE) else None)
    taken = {role: place for role, place in roles.items() if role != "tickvol"}
    extra_places = places_of(names, extra, source, taken)
    texts = [roles[role] for role in ("symbol", "clock") if role in roles]
    if "clock" in roles or "broker" in roles:
        texts.append(roles["timestamp"])
    of_a_broker = roles.pop("broker", None) is not None
    numbers = [place for role, place in roles.items() if role not in OTHERS]
    numbers += extra_places.values()
    with reading(source):
        places = list(dict.fromkeys([*roles.values(), *extra_places.values()]))
        columns = table.read(places, texts, numbers)
    roles |= extra_places
    bars = {role: _plain(columns, place, table, source) for role, place in roles.items()}
    del columns
    remarks = [*table.remarks, *layout.remarks]
    remarks += _read_texts(bars, source, of_a_broker or not table.semicolons)
    if "clock" in bars:
        bars["timestamp"] = day_and_time(bars["timestamp"], bars.pop("clock"))
        remarks.append(_("timestamp from date and time"))
    if "tickvol" in bars and not pd.to_numeric(bars["volume"], errors="coerce").any():
        bars["volume"] = bars["tickvol"].copy()  # may be an own column, too
        remarks.append(_("volume from the ticks, as the real one is 0 throughout"))
    if {"rtype", "publisherid"} <= set(map(plain, table.names or [])) and _is_fixed_point(bars):
        bars |= {name: bars[name] * 1e-9 for name in PRICES}
        remarks.append(_("prices in units of 1e-9"))
    if "adjusted" in bars:
        remarks += scale(bars, source)
    elif "rawclose" in bars:
        prices = [pd.to_numeric(bars[name], errors="coerce") for name in ("close", "rawclose")]
        remarks += scale_volumes(bars, prices[0] / prices[1])
    ignored, not_used = _left(layout, table, set(extra_places.values()))
    if ignored:
        remarks.append(_("columns ignored: {names}", names=listed(ignored)))
    kept = {name: bars[name] for name in (*COLUMNS, "symbol", *extra_places) if name in bars}
    return kept, remarks, not_used


def _left(layout: Layout, table: Table, extra_places: set[int]) -> tuple[list[str], list[str]]:
    """Returns the names of columns that are no features, and of those that could be."""
    ignored, not_used, names = [], [], table.names or []
    named_volumes = bool(names) and plain(names[layout.roles["volume"]]) not in VOLUMES
    for place in layout.others:
        name = plain(names[place])
        known = name in FAMILIAR.union(COLUMNS, TIMES, SYMBOLS, NAMELESS)
        known |= named_volumes and name.startswith("volume")  # in another unit
        text = table.first and not may_be_number(table.first[place])
        if place not in extra_places:
            (ignored if known or text else not_used).append(names[place] or "one without a name")
    return ignored, not_used


def _plain(columns: dict[int, pd.Series], place: int, table: Table, source: str) -> pd.Series:
    name = table.names[place] if table.names else str(place + 1)
    return plain_column(columns[place], name, source)


def _read_texts(bars: dict[str, pd.Series], source: str, points: bool) -> list[str]:
    """Puts numbers in the place of texts where a column should have them; returns remarks."""
    texts = {
        role: column.astype(str) if column.dtype.kind == "M" else column
        for role, column in bars.items()
        if role not in OTHERS and not pd.api.types.is_numeric_dtype(column)
    }
    if not texts:
        return []
    numbers, remarks = read_numbers(texts, source, points_are_decimal=points)
    bars.update(numbers)
    return remarks


def _with_clock(layout: Layout, table: Table, source: str) -> Layout:
    """Returns the layout without a second column of times that says nothing more."""
    place = layout.roles.get("clock")
    if place is None or not table.first or is_time_of_day(table.first[place]):
        return layout
    text = table.first[place]
    roles = {role: at for role, at in layout.roles.items() if role != "clock"}
    if is_whole_time(text):
        return replace(layout, roles={**roles, "timestamp": place})
    if (
        text.strip() in ("", "-")
        or is_whole_time(table.first[roles["timestamp"]])
        and ":" in (table.first[roles["timestamp"]])
    ):
        return replace(layout, roles=roles)
    raise InputError(
        "{source}, row 1: the time of day must be HH:MM, got {value!r}",
        source=source,
        value=printable(text),
    )


def _headless(table: Table, source: str) -> Layout:
    """Returns the layout of lists without names, told by their number and the first value."""
    texts = table.first and not table.first[0].replace(".", "", 1).isdigit()
    if table.width == 7 and texts and is_time_of_day(table.first[1]):
        roles = {"timestamp": 0, "clock": 1, **{name: i + 2 for i, name in enumerate(NUMBERS)}}
        return Layout(roles, [_("no header: MetaTrader's date, time, prices, volume"), _(BROKER)])
    if table.width not in (6, 12):
        raise InputError(
            "{source} has no header and {width} columns; only 12 (a Binance kline) or 6 "
            "({columns}) are known: write the names into a first line",
            source=source,
            width=table.width,
            columns=", ".join(COLUMNS),
        )
    roles = {name: i for i, name in enumerate(COLUMNS)}
    if table.width == 12:
        return Layout(roles, ["no header: Binance klines, the time is open_time"])
    if texts and re.match(r"\d{8} \d{6}$", table.first[0]):
        return Layout(
            {**roles, "broker": 0}, [_("no header: HistData's time, prices, volume"), _(BROKER)]
        )
    return Layout(roles, [_("no header: read as {columns}", columns=", ".join(COLUMNS))])


def _by_names(table: Table, names: list[str], source: str, symbol: str) -> Layout:
    places: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        places.setdefault(plain(name), []).append(position)
    if set(LETTERS) <= set(places):
        places = {LETTERS.get(name, name): where for name, where in places.items()}
    matches: dict[str, str] = {}
    for role, known in _candidates(places, table, symbol).items():
        name = next((name for name in known if name in places), None)
        if name is not None:
            matches[role] = name
    columns = {role: [names[at] for at in places[name]] for role, name in matches.items()}
    check_columns({role: () for role in COLUMNS} | columns, names, source)
    adjusted, remarks = _adjusted(places)
    roles = {role: places[name][0] for role, name in {**matches, **adjusted}.items()}
    used = set(roles.values())
    words = []
    for role, name in matches.items():
        written = names[places[name][0]]
        if role != "clock" and plain(written) != role:
            words.append(
                _("{role} from {name}", role=role, name=printable(written) or _("the index"))
            )
    if "clock" in roles and table.first and "." in table.first[roles["timestamp"]]:
        remarks.append(_(BROKER))
    others = [i for i in range(len(names)) if i not in used]
    return Layout(roles, [", ".join(words), *remarks] if words else remarks, others)


def _candidates(places: dict, table: Table, symbol: str) -> dict[str, tuple[str, ...]]:
    """Returns the names by which each role may go, the first there is wins."""
    roles = {"timestamp": TIMES if set(TIMES) & set(places) else NAMELESS, "symbol": SYMBOLS}
    days = {"date", "dtyyyymmdd"} & set(places)
    if days and "time" in places and not set(TIMES[:6]) & set(places):
        roles |= {"timestamp": tuple(days), "clock": ("time",)}
    roles |= {price: (price, f"{price}price") for price in PRICES}
    roles["close"] += ("closelast",)
    roles["volume"] = VOLUMES
    if ("volume" in places or "vol" in places) and "tickvol" in places:
        roles["tickvol"] = ("tickvol",)
    if not set(VOLUMES) & set(places):
        column = next((name for name in SYMBOLS if name in places), None)
        if column and table.first:
            symbol = table.first[places[column][0]]
        roles["volume"] = _volume_of(places, plain(symbol))
    return roles


def _volume_of(places: dict, symbol: str) -> tuple[str, ...]:
    """Returns the volume counted in what is traded, as `Volume BTC` beside `Volume USDT`."""
    names = [name for name in places if name.startswith("volume") and name != "volumecurrency"]
    of_symbol = [name for name in names if symbol.startswith(name.removeprefix("volume"))]
    return tuple(of_symbol if len(of_symbol) == 1 else names if len(names) == 1 else ())


def _adjusted(places: dict) -> tuple[dict[str, str], list[str]]:
    names = {price: f"adj{price}" for price in PRICES}
    if set(names.values()) <= set(places):
        names |= {"volume": "adjvolume"} if "adjvolume" in places else {"rawclose": "close"}
        return names, [_("adjusted prices used: {names}", names=", ".join(names.values()))]
    for name in ("adjclose", "adjustedclose"):
        if name in places:
            return {"adjusted": name}, [_("all prices scaled by adjusted close / close")]
    return {}, []


def _is_fixed_point(bars: dict[str, pd.Series]) -> bool:
    """Says whether prices are Databento's whole numbers in units of 1e-9."""
    prices = [pd.to_numeric(bars[name], errors="coerce") for name in PRICES]
    whole = all(bool((price >= 1e5).all() and (price == price.round()).all()) for price in prices)
    return whole and len(prices[0]) > 0

"""Recognises bars by the names of their columns, after the layouts of the tools that write them.

Rules, not file names: a column is known by its name without case, blanks, brackets and `_`,
wherever it stands. What is not the project's own layout is told in a remark.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from core.errors import InputError
from core.i18n import N_, _
from data.bars.checks import COLUMNS, NUMBERS, PRICES
from data.bars.files import Table, open_table, stem
from data.bars.timestamps import day_and_time, is_time_of_day

TIMES = ("timestamp", "opentime", "windowstart", "tsevent", "unix", "datetime", "date", "time")
TIMES = (*TIMES, "tradedate", "gmttime", "utctime", "localtime", "starttime", "begin", "ts")
VOLUMES = ("volume", "vol", "tickvol", "tickvolume")
SYMBOLS = ("symbol", "ticker", "name", "pair", "code", "tic", "instrument")
SYMBOLS = (*SYMBOLS, "instrumentname", "tscode")
OTHERS = ("timestamp", "clock", "symbol")
NAMELESS = ("", "index", "unnamed0", "indexlevel0")
LETTERS = dict(zip("tohlcv", COLUMNS, strict=True))
FRAME = r"(?:\d+(?:s|m|min|h|d|D|w|W|M|mo|hour|day)|[MHDW]\d+|Daily|Weekly|Monthly)"
DAY = r"\d{4}(?:-\d\d(?:-\d\d)?)?"
FILE_NAMES = [
    rf"(?P<symbol>.+?)-(?P<frame>{FRAME})(?:-(?:spot|futures))?(?:-{DAY})?",
    rf"(?:DAT_[A-Z]+_)?(?P<symbol>.+?)_(?P<frame>{FRAME})(?:_(?:\d{{4,14}}|{DAY})){{0,2}}",
    r"(?P<symbol>.+?), (?P<frame>\d+[A-Z]?)(?:_\w+)?",
]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2629746}
UNITS = {"": "m", "min": "m", "hour": "h", "day": "d", "M": "mo"}
WORDS = {"Daily": "1d", "Weekly": "1w", "Monthly": "1mo"}
BROKER = N_(
    "times as the file has them, taken as UTC (MetaTrader: the broker's zone, HistData: EST)"
)


@dataclass
class Layout:
    """Where each part of a bar stands: positions of columns by role, and what to tell."""

    roles: dict[str, int]
    remarks: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def named(file: Path) -> tuple[str, str | None]:
    """Returns the symbol and the timeframe that a file's name gives; None where it has none."""
    text = stem(file)
    for pattern in FILE_NAMES:
        match = re.fullmatch(pattern, text)
        if match:
            return match["symbol"], match["frame"]
    return text, None


def seconds(frame: str) -> int | str:
    """Returns the length of a timeframe such as 5m, M5, 60 or Daily; the text where unknown.

    A month is a twelfth of a year.
    """
    text = WORDS.get(frame, frame)
    if text[0].isalpha():  # MetaTrader's M5 and H1
        text = text[1:] + text[0].lower()
    unit = text.lstrip("0123456789")
    length = SECONDS.get(UNITS.get(unit, unit.lower()))
    return frame if length is None else length * int(text.removesuffix(unit))


def plain(name) -> str:
    """Returns a column's name without case, blanks, brackets, signs and `_`."""
    text = re.sub(r"^\s*\d+\.\s+", "", str(name).lower())
    return re.sub(r"[^a-z0-9]", "", text)


def read_layout(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Returns a file's bars under the canonical names, not checked yet, and the remarks."""
    table = open_table(file)
    symbol = named(file)[0]
    layout = _headless(table, file.name) if table.names is None else _by_names(table, file, symbol)
    roles = dict(layout.roles)
    first = table.first
    if "clock" in roles and first and not is_time_of_day(first[roles["clock"]]):
        roles.pop("clock")
    texts = [roles[role] for role in ("symbol", "clock") if role in roles]
    if "clock" in roles or "broker" in roles:
        texts.append(roles["timestamp"])
    roles.pop("broker", None)
    numbers = [place for role, place in roles.items() if role not in OTHERS]
    columns = table.read(list(dict.fromkeys(roles.values())), texts, numbers)
    frame = pd.DataFrame({role: columns[position] for role, position in roles.items()}, copy=False)
    remarks = [*table.remarks, *layout.remarks]
    del columns
    if "clock" in roles:
        frame["timestamp"] = day_and_time(frame["timestamp"], frame.pop("clock"))
        remarks.append(_("time of date and time together"))
    if len(frame) and "tickvol" in frame and not pd.to_numeric(frame["volume"]).any():
        frame["volume"] = frame["tickvol"]
        remarks.append(_("volume from the ticks, as the real one is 0 throughout"))
    if {"rtype", "publisherid"} <= set(map(plain, table.names or [])) and _is_fixed_point(frame):
        frame[list(PRICES)] = frame[list(PRICES)] * 1e-9
        remarks.append(_("prices in units of 1e-9"))
    if "adjusted" in frame:
        frame = _scaled(frame, file.name)
    if "symbol" not in frame:
        frame["symbol"] = pd.Categorical.from_codes([0] * len(frame), [symbol])
        remarks.append(_("symbol from the file's name"))
    if layout.ignored:
        remarks.append(_("columns ignored: {names}", names=", ".join(layout.ignored)))
    return frame[[*COLUMNS, "symbol"]], remarks


def _headless(table: Table, source: str) -> Layout:
    """Returns the layout of lists without names, told by their number and the first value."""
    texts = table.first and not table.first[0].replace(".", "", 1).isdigit()
    if table.width == 7 and texts and is_time_of_day(table.first[1]):
        roles = {"timestamp": 0, "clock": 1, **{name: i + 2 for i, name in enumerate(NUMBERS)}}
        return Layout(roles, [_("no header: MetaTrader's date, time, prices, volume"), _(BROKER)])
    if table.width not in (6, 12):
        raise InputError(
            _(
                "{source} has no header and {width} columns; only 12 (a Binance kline) or 6 "
                "({columns}) are known: write the names into a first line",
                source=source,
                width=table.width,
                columns=", ".join(COLUMNS),
            )
        )
    roles = {name: i for i, name in enumerate(COLUMNS)}
    if table.width == 12:
        return Layout(roles, ["no header: Binance klines, the time is open_time"])
    if texts and re.match(r"\d{8} \d{6}$", table.first[0]):
        return Layout(
            {**roles, "broker": 0}, [_("no header: HistData's time, prices, volume"), _(BROKER)]
        )
    return Layout(roles, [_("no header: read as {columns}", columns=", ".join(COLUMNS))])


def _by_names(table: Table, file: Path, symbol: str) -> Layout:
    places: dict[str, list[int]] = {}
    for position, name in enumerate(table.names):
        places.setdefault(plain(name), []).append(position)
    if set(LETTERS) <= set(places):
        places = {LETTERS.get(name, name): where for name, where in places.items()}
    found: dict[str, str] = {}
    for role, names in _candidates(places, table, symbol).items():
        name = next((name for name in names if name in places), None)
        if name is not None:
            found[role] = name
    _refuse(found, places, table.names, file.name)
    adjusted, remarks = _adjusted(found, places)
    roles = {role: places[name][0] for role, name in {**found, **adjusted}.items()}
    used = set(roles.values())
    words = []
    for role, name in found.items():
        written = table.names[places[name][0]]
        if role != "clock" and plain(written) != role:
            words.append(_("{role} from {name}", role=role, name=written or _("the index")))
    if "clock" in roles and table.first and "." in table.first[roles["timestamp"]]:
        remarks.append(_(BROKER))
    ignored = [name or "one without a name" for i, name in enumerate(table.names) if i not in used]
    return Layout(roles, [", ".join(words), *remarks] if words else remarks, ignored)


def _candidates(places: dict, table: Table, symbol: str) -> dict[str, tuple[str, ...]]:
    """Returns the names by which each role may go, the first there is wins."""
    roles = {"timestamp": TIMES if set(TIMES) & set(places) else NAMELESS, "symbol": SYMBOLS}
    if "date" in places and "time" in places and not set(TIMES[:6]) & set(places):
        roles["clock"] = ("time",)
    roles |= {price: (price, f"{price}price") for price in PRICES}
    roles["close"] += ("closelast",)
    roles["volume"] = VOLUMES
    if ("volume" in places or "vol" in places) and "tickvol" in places:
        roles["tickvol"] = ("tickvol",)
    if not set(VOLUMES) & set(places):
        given = next((name for name in SYMBOLS if name in places), None)
        if given and table.first:
            symbol = table.first[places[given][0]]
        roles["volume"] = _volume_of(places, plain(symbol))
    return roles


def _volume_of(places: dict, symbol: str) -> tuple[str, ...]:
    """Returns the volume counted in what is traded, as `Volume BTC` beside `Volume USDT`."""
    names = [name for name in places if name.startswith("volume") and name != "volumecurrency"]
    own = [name for name in names if symbol.startswith(name.removeprefix("volume"))]
    return tuple(own if len(own) == 1 else names if len(names) == 1 else ())


def _refuse(found: dict, places: dict, names: list[str], source: str) -> None:
    has = ", ".join(name or _("a column without a name") for name in names)
    faults = [
        _(
            "{source} must have one column for {role}, it has {count} named {name}; rename or "
            "remove the others",
            source=source,
            role=role,
            count=len(places[name]),
            name=name,
        )
        for role, name in found.items()
        if len(places[name]) > 1
    ]
    lacking = [name for name in COLUMNS if name not in found]
    if lacking:
        faults.append(
            _(
                "{source} must have the columns {columns}; it lacks {lacking} (it has {has}); "
                "rename yours, or add them",
                source=source,
                columns=", ".join(COLUMNS),
                lacking=", ".join(lacking),
                has=has,
            )
        )
    if faults:
        raise InputError(faults)


def _adjusted(found: dict, places: dict) -> tuple[dict[str, str], list[str]]:
    names = {price: f"adj{price}" for price in PRICES}
    if set(names.values()) <= set(places):
        if "adjvolume" in places:
            names["volume"] = "adjvolume"
        return names, [_("adjusted prices used: {names}", names=", ".join(names.values()))]
    for name in ("adjclose", "adjustedclose"):
        if name in places:
            return {"adjusted": name}, [_("all prices scaled by adjusted close / close")]
    return {}, []


def _is_fixed_point(frame: pd.DataFrame) -> bool:
    """Says whether prices are Databento's whole numbers in units of 1e-9."""
    prices = frame[list(PRICES)].apply(pd.to_numeric, errors="coerce").to_numpy()
    return bool((prices >= 1e5).all() and (prices == prices.round()).all())


def _scaled(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    close = pd.to_numeric(frame["close"], errors="coerce")
    adjusted = pd.to_numeric(frame.pop("adjusted"), errors="coerce")
    bad = (close.notna() & ~(adjusted > 0)).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            _("{source}, row {row}: the adjusted close must be above 0", source=source, row=row + 1)
        )
    good = close.notna()
    for price in PRICES:
        numbers = pd.to_numeric(frame[price], errors="coerce")
        if numbers.notna().all():  # else the check names the value as the file has it
            frame[price] = numbers * (adjusted / close).where(good)
    return frame

"""Downloads closed bars into one Parquet file for each symbol; goes on where it stopped.

Pages are kept as numbered parts in a hidden folder and joined once a symbol is done: see
`recipe.live.kept`. Impossible bars that an earlier version stored are dropped and fetched again.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core import atomic
from core.errors import InputError
from core.i18n import _, ngettext
from core.lock import Lock
from recipe.live.exchange import (
    Exchange,
    StaysAway,
    check_symbols,
    open_exchange,
    timeframe_of,
)
from recipe.live.holes import fetch_whole_bars
from recipe.live.kept import Kept, join, kept, mend, opens_of, write_part
from recipe.live.markets import MostTraded, most_traded
from recipe.live.pages import EMPTY_PAGE_BARS, fetch_between
from recipe.live.timeframes import Timeframe

PAGES_PER_PART = 10
_LOCK, _PATIENCE = ".download.lock", 5  # seconds: a process just killed may not have ended yet


def download(
    exchange_name: str,
    symbols: Sequence[str] | MostTraded,
    *,
    timeframe: str,
    since: str,
    folder: str | Path,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, int, datetime], None] = lambda symbol, num_bars, reached: None,
    open_named: Callable | None = None,
) -> list[Path]:
    """Writes the closed bars of each symbol, and returns the files in the order of the symbols.

        >>> download("binance", ["BTC/USDT"], timeframe="5m", since="2024-01-01", folder="bars")
        [PosixPath('bars/BTC_USDT-5m.parquet')]

    Args:
        exchange_name: one of ccxt's names, such as binance.
        symbols: ccxt's names, such as BTC/USDT or BTC/USDT:USDT, or how to choose them.
        timeframe: such as 5m; 7d is 1w where the exchange calls it so.
        since: the first open of a new file, UTC, such as 2024-01-01.
        folder: for the files, old and new; BTC/USDT becomes BTC_USDT-5m.parquet.
        note: called with a line for each wait and each oddity.
        progress: called after each page with the symbol, its bars so far, and the last open.
        open_named: used instead of `open_exchange`.

    Raises:
        InputError: if a name or a date is wrong, a file cannot be continued, another process
            downloads into the folder, or the exchange refuses or stays away; bars received by then
            are kept.
    """
    exchange = (open_named or open_exchange)(exchange_name, note=note)
    span, since_ms = timeframe_of(exchange, timeframe), _milliseconds(since)
    if isinstance(symbols, MostTraded):
        symbols = most_traded(exchange, symbols)
    check_symbols(exchange, symbols)
    folder = Path(folder)
    with _alone_in(folder):
        return _download(exchange, symbols, span, since_ms, folder, note, progress)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder, locks it, and removes the leftovers of killed downloads."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "the folder {folder} cannot be made: {strerror}", folder=folder, strerror=error.strerror
        ) from error
    with Lock(folder / _LOCK, _("the folder of downloads {folder}", folder=folder), _PATIENCE):
        atomic.clear(folder)
        yield


def _download(
    exchange: Exchange,
    symbols: Sequence[str],
    span: Timeframe,
    since_ms: int,
    folder: Path,
    note: Callable[[str], None],
    progress: Callable[[str, int, datetime], None],
) -> list[Path]:
    files = [folder / bars_file_name(symbol, span.name) for symbol in symbols]
    newest_ms = span.newest_open(max(exchange.now_ms(), int(exchange.clock() * 1000)))
    stocks = [kept(file, symbol, newest_ms) for file, symbol in zip(files, symbols, strict=True)]
    faults: list[str] = []
    for symbol, file, stock in zip(symbols, files, stocks, strict=True):
        try:
            stock = _healed(exchange, symbol, span, file, stock, newest_ms)
            _tell_begin(exchange, file, stock, since_ms + span.step_ms)
            start = since_ms if stock.last is None else span.following(stock.last)
            pages = fetch_whole_bars(exchange, symbol, span.name, start, stock.last)
            try:
                _keep(pages, file, symbol, progress)
            finally:
                join(file)
        except StaysAway:
            raise
        except InputError as error:  # of this symbol alone
            faults += error.faults
            continue
        if not file.exists():
            note(
                _(
                    "{symbol}: {exchange} has no closed bar since {time}",
                    symbol=symbol,
                    exchange=exchange.name,
                    time=_time(since_ms),
                )
            )
    if faults:
        raise InputError(faults)
    return [file for file in files if file.exists()]


def bars_file_name(symbol: str, timeframe: str) -> str:
    """Returns the name of a symbol's file, as freqtrade builds it.

    Months are `Mo`: many file systems ignore case, so `M` would clash with `m`.
    """
    span = timeframe.replace("M", "Mo")
    return f"{symbol.replace('/', '_').replace(':', '_')}-{span}.parquet"


def _healed(
    exchange: Exchange, symbol: str, span: Timeframe, file: Path, stock: Kept, newest_ms: int
) -> Kept:
    """Returns what a file holds once its bad bars are dropped and the true ones fetched."""
    if not stock.bad and stock.in_order:
        return stock
    join(file)
    rows = []
    for first, last in _places(stock.bad, opens_of(file, newest_ms), span, newest_ms):
        rows += fetch_between(exchange, symbol, span.name, first, last)
    mend(file, symbol, newest_ms, rows)
    exchange.note(
        ngettext(
            "{file}: {n} impossible or unfinished bar is dropped, {num_rows} fetched again",
            "{file}: {n} impossible or unfinished bars are dropped, {num_rows} fetched again",
            len(stock.bad),
            file=file.name,
            num_rows=len(rows),
        )
        if stock.bad
        else _(
            "{file}: its bars were out of order or repeated; they are sorted now", file=file.name
        )
    )
    return kept(file, symbol, newest_ms)


def _places(bad: Sequence[int], opens, span: Timeframe, newest_ms: int) -> list[tuple[int, int]]:
    """Returns the spans (first and last open in ms) in which bars must be fetched again."""
    if -1 in bad:  # a bar without a time may belong to any hole
        pairs = itertools.pairwise(opens.tolist())
        holes = [(a + 1, b - 1) for a, b in pairs if span.missing(a, b)]
    else:
        holes = []
    there = set(opens.tolist())
    for when in sorted(when for when in bad if 0 <= when <= newest_ms and when not in there):
        if holes and holes[-1][0] <= when <= holes[-1][1] + EMPTY_PAGE_BARS * span.step_ms:
            holes[-1] = (holes[-1][0], max(when, holes[-1][1]))
        else:
            holes.append((when, when))
    return holes


def _tell_begin(exchange: Exchange, file: Path, stock: Kept, latest_ms: int) -> None:
    if stock.first is not None and stock.first >= latest_ms:
        exchange.note(
            _(
                "{file} begins at {time}; earlier bars are not fetched",
                file=file.name,
                time=_time(stock.first),
            )
        )


def _keep(pages, file: Path, symbol: str, progress: Callable) -> None:
    rows, num_bars = [], 0
    try:
        for number, page in enumerate(pages, start=1):
            rows += page
            num_bars += len(page)
            if number % PAGES_PER_PART == 0:
                write_part(file, symbol, rows)
                rows = []
            progress(symbol, num_bars, _time(page[-1][0]))
    finally:
        if rows:
            write_part(file, symbol, rows)


def _milliseconds(since: str) -> int:
    try:
        when = datetime.fromisoformat(since)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(round(when.timestamp() * 1000), 0)
    except (ValueError, OverflowError) as error:
        raise InputError(
            "since must be a date such as 2024-01-01, got {since}", since=since
        ) from error


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)

"""Downloads closed bars into one Parquet file for each symbol; goes on where it stopped.

Pages are kept as numbered parts in a hidden folder and joined at the end of a symbol. A part and a
joined file appear under their names only when they are whole, and bars that a file already has are
dropped when a part is joined, so that a kill at any moment loses at most the pages in memory.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow import compute, parquet

from core.errors import InputError
from core.i18n import _
from recipe.live.exchange import bar_ms, check_symbols, fetch_closed_bars, open_exchange

PAGES_PER_PART = 10
ROWS_AT_ONCE = 65_536
SCHEMA = pa.schema(
    [("timestamp", pa.timestamp("ms", "UTC")), ("symbol", pa.string())]
    + [(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")]
)


def download(
    exchange_name: str,
    symbols: Sequence[str],
    *,
    timeframe: str,
    since: str,
    folder: str | Path,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, int, datetime], None] = lambda symbol, num_bars, reached: None,
    open_named: Callable = open_exchange,
) -> list[Path]:
    """Writes the closed bars of each symbol, and returns the files in the order of the symbols.

    Args:
        exchange_name: one of ccxt's names, such as binance.
        symbols: ccxt's names, such as BTC/USDT.
        timeframe: such as 5m.
        since: the first open of a new file, UTC, such as 2024-01-01.
        folder: where the files are, or will be; BTC/USDT becomes BTC_USDT-5m.parquet.
        note: called with a line for each wait and each oddity.
        progress: called after each page with the symbol, its bars of this run, and the last open.
        open_named: opens the exchange, as `open_exchange` does.

    Raises:
        InputError: if a name or a date is wrong, a file cannot be continued, or the exchange
            refuses or stays away. What has come by then is kept.
    """
    exchange = open_named(exchange_name, note=note)
    step, since_ms = bar_ms(exchange, timeframe), _milliseconds(since)
    check_symbols(exchange, symbols)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / bars_file_name(symbol, timeframe) for symbol in symbols]
    spans = [_span(file) for file in files]
    for symbol, file, span in zip(symbols, files, spans, strict=True):
        if span and span[0] >= since_ms + step:
            note(
                _(
                    "{file} begins at {time}; earlier bars are not fetched",
                    file=file.name,
                    time=_time(span[0]),
                )
            )
        start = span[1] + step if span else since_ms
        pages = fetch_closed_bars(exchange, symbol, timeframe, start)
        try:
            _keep(pages, file, symbol, progress)
        finally:
            _join(file)
        if not file.exists():
            note(
                _(
                    "{symbol}: {exchange} has no closed bar since {time}",
                    symbol=symbol,
                    exchange=exchange.name,
                    time=_time(since_ms),
                )
            )
    return [file for file in files if file.exists()]


def bars_file_name(symbol: str, timeframe: str) -> str:
    """Returns the name of a symbol's file, as freqtrade builds it."""
    return f"{symbol.replace('/', '_').replace(':', '_')}-{timeframe}.parquet"


def _keep(pages, file: Path, symbol: str, progress: Callable) -> None:
    rows, num_bars = [], 0
    try:
        for number, page in enumerate(pages, start=1):
            rows += page
            num_bars += len(page)
            if number % PAGES_PER_PART == 0:
                _write_part(file, symbol, rows)
                rows = []
            progress(symbol, num_bars, _time(page[-1][0]))
    finally:
        if rows:
            _write_part(file, symbol, rows)


def _write_part(file: Path, symbol: str, rows: list) -> None:
    columns = list(zip(*rows, strict=True))
    arrays = [
        pa.array(map(int, columns[0]), pa.int64()).cast(SCHEMA[0].type),
        pa.array([symbol] * len(rows)),
        *[pa.array(map(float, column), pa.float64()) for column in columns[1:]],
    ]
    part = _parts_folder(file) / f"{int(rows[0][0]):015d}.parquet"
    part.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(part, [pa.record_batch(arrays, schema=SCHEMA)])


def _join(file: Path) -> None:
    """Joins a file and its parts, in the memory of `ROWS_AT_ONCE` bars."""
    parts = _parts(file)
    if parts:
        _write_whole(file, _batches([file] * file.exists() + parts))
    for part in parts:
        part.unlink()
    if _parts_folder(file).exists():
        for broken in _parts_folder(file).iterdir():
            broken.unlink()
        _parts_folder(file).rmdir()
        if not any(_parts_folder(file).parent.iterdir()):
            _parts_folder(file).parent.rmdir()


def _batches(paths: Sequence[Path]):
    """Yields the bars of the files in turn, without those that an earlier file already had."""
    last = None
    for path in paths:
        with parquet.ParquetFile(path) as source:
            for batch in source.iter_batches(ROWS_AT_ONCE):
                batch = batch.cast(SCHEMA)
                if last is not None:
                    batch = batch.filter(
                        compute.call_function("greater", [batch["timestamp"], last])
                    )
                if len(batch):
                    last = batch["timestamp"][-1]
                    yield batch


def _write_whole(path: Path, batches) -> None:
    """Writes beside the file, and takes its place when all is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as sink:
        with parquet.ParquetWriter(sink, SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(partial, path)


def _parts_folder(file: Path) -> Path:
    return file.parent / ".parts" / file.stem


def _parts(file: Path) -> list[Path]:
    return sorted(_parts_folder(file).glob("[0-9]*.parquet"))


def _span(file: Path) -> tuple[int, int] | None:
    """Returns the first and the last open in ms of a file and its parts, None without any."""
    opens = []
    for path in [file] * file.exists() + _parts(file):
        try:
            with parquet.ParquetFile(path) as source:
                if source.schema_arrow.names != SCHEMA.names:
                    raise InputError(
                        _(
                            "{path} must hold the columns {names} to be continued, has {found}; "
                            "move it away",
                            path=path,
                            names=", ".join(SCHEMA.names),
                            found=", ".join(source.schema_arrow.names),
                        )
                    )
                groups = [source.metadata.row_group(n) for n in range(source.num_row_groups)]
                for group in groups:
                    known = group.column(0).statistics
                    opens += [known.min, known.max] if group.num_rows else []
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                _("{path} cannot be continued: {reason}; move it away", path=path, reason=reason)
            ) from error
    times = [round(when.timestamp() * 1000) for when in opens]
    return (min(times), max(times)) if times else None


def _milliseconds(since: str) -> int:
    try:
        when = datetime.fromisoformat(since)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return round(when.timestamp() * 1000)
    except ValueError as error:
        raise InputError(
            _("since must be a date such as 2024-01-01, got {since}", since=since)
        ) from error


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)

"""Bars on disk: one Parquet file for each symbol, and the parts not joined to it yet.

A part or a joined file gets its name only once it is complete, and joining a part drops bars that
the file already has, so that a kill at any moment loses at most the pages in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from core import atomic
from core.errors import InputError
from core.foreign import check_regular, reason_of
from core.i18n import _
from recipe.live.answers import sound

ROWS_AT_ONCE = 65_536
NUMBERS = ("open", "high", "low", "close", "volume")
SCHEMA = pa.schema(
    [("timestamp", pa.timestamp("ms", "UTC")), ("symbol", pa.string())]
    + [(name, pa.float64()) for name in NUMBERS]
)


@dataclass(frozen=True)
class Kept:
    """What a file and its parts hold.

    Args:
        first: the first sound open in ms, None without any.
        last: the last sound open in ms, None without any.
        bad: the opens of bars that are impossible or have not closed, -1 for one without a time.
        in_order: whether the sound bars are sorted and none is repeated.
    """

    first: int | None
    last: int | None
    bad: list[int]
    in_order: bool


def kept(file: Path, symbol: str, newest_ms: int) -> Kept:
    """Returns what a file and its parts hold.

    Args:
        file: the symbol's file; it need not exist.
        symbol: whose bars it must hold.
        newest_ms: a bar that opened later cannot have closed.

    Raises:
        InputError: if the file is of another kind, or has another symbol's bars.
    """
    ends, bad, in_order = [], [], True
    for path in [file] * file.exists() + _parts(file):
        last = -1
        for batch in _read(path):
            if not set(batch["symbol"].unique().to_pylist()) <= {symbol, None}:
                raise _not_continued(path, _("it holds other symbols than {name}", name=symbol))
            times, good = _sound(batch, newest_ms)
            bad += times[~good].tolist()
            times = times[good]
            if len(times):
                in_order &= bool(np.all(np.diff(times, prepend=last) > 0))
                last = int(times.max())
                ends += [int(times.min()), last]
    return Kept(min(ends, default=None), max(ends, default=None), bad, in_order)


def mend(file: Path, symbol: str, newest_ms: int, rows: Sequence[Sequence[float]]) -> None:
    """Rewrites a file: sorted, without its impossible bars, with others in their place.

    Args:
        file: the symbol's file, its parts joined; removed if it has no sound bar.
        symbol: whose bars it holds.
        newest_ms: a bar that opened later cannot have closed.
        rows: sound bars (time, open, high, low, close, volume) in place of the bad ones.
    """
    batches = [batch.filter(pa.array(_sound(batch, newest_ms)[1])) for batch in _read(file)]
    if rows:
        batches.append(_batch(symbol, rows))
    there = pa.Table.from_batches(batches, SCHEMA)
    times = there["timestamp"].cast("int64").to_numpy()
    if len(times):
        firsts = np.unique(times, return_index=True)[1]  # in the order of time
        _write_whole(file, there.take(pa.array(firsts)).to_batches(ROWS_AT_ONCE))
    else:
        file.unlink()


def opens_of(file: Path, newest_ms: int) -> np.ndarray:
    """Returns the sorted opens in ms of a file's sound bars, int64 `(bars,)`."""
    opens = [np.empty(0, np.int64)]
    for batch in _read(file):
        times, good = _sound(batch, newest_ms)
        opens.append(times[good])
    return np.unique(np.concatenate(opens))


def write_part(file: Path, symbol: str, rows: Sequence[Sequence[float]]) -> None:
    """Writes the next part of a file."""
    part = _parts_folder(file) / f"{int(rows[0][0]):015d}.parquet"
    part.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(part, [_batch(symbol, rows)])


def join(file: Path) -> None:
    """Joins a file and its parts, with at most `ROWS_AT_ONCE` bars in memory."""
    parts = _parts(file)
    if parts:
        _write_whole(file, _later_and_later([file] * file.exists() + parts))
    for part in parts:
        part.unlink()
    if _parts_folder(file).exists():
        for broken in _parts_folder(file).iterdir():
            broken.unlink()
        _parts_folder(file).rmdir()
        if not any(_parts_folder(file).parent.iterdir()):
            _parts_folder(file).parent.rmdir()


def _sound(batch: pa.RecordBatch, newest_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times in ms of a batch, -1 if missing, and which bars are sound."""
    times = batch["timestamp"].cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
    columns = [batch[name].to_numpy(zero_copy_only=False) for name in NUMBERS]
    good = sound(*columns) & (times >= 0) & (times <= newest_ms)
    return times, good & batch["symbol"].is_valid().to_numpy(zero_copy_only=False)


def _batch(symbol: str, rows: Sequence[Sequence[float]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True))
    arrays = [
        pa.array(map(int, columns[0]), pa.int64()).cast(SCHEMA[0].type),
        pa.array([symbol] * len(rows)),
        *[pa.array(map(float, column), pa.float64()) for column in columns[1:]],
    ]
    return pa.record_batch(arrays, schema=SCHEMA)


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields a file's batches in our types; refuses files that are not ours."""
    check_regular(path, str(path))
    try:
        names = parquet.read_schema(path).names
        if names != SCHEMA.names:
            raise InputError(
                "{path} must hold the columns {names} to be continued, has {found}; move it away",
                path=path,
                names=", ".join(SCHEMA.names),
                found=", ".join(names),
            )
        with parquet.ParquetFile(path, read_dictionary=["symbol"]) as source:
            for batch in source.iter_batches(ROWS_AT_ONCE):
                yield batch.cast(SCHEMA)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise _not_continued(path, reason_of(error)) from error


def _not_continued(path: Path, reason: str) -> InputError:
    return InputError(
        "{path} cannot be continued: {reason}; move it away", path=path, reason=reason
    )


def _later_and_later(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Yields the bars of the files in turn, without those that an earlier file already had."""
    last = None
    for path in paths:
        for batch in _read(path):
            if last is not None:
                batch = batch.filter(compute.call_function("greater", [batch["timestamp"], last]))
            if len(batch):
                last = batch["timestamp"][-1]
                yield batch


def _write_whole(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Writes beside the file, and takes its place when all is on the disk."""

    def save(temporary: Path) -> None:
        with parquet.ParquetWriter(temporary, SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)

    atomic.write(path, save)


def _parts_folder(file: Path) -> Path:
    return file.parent / ".parts" / file.stem


def _parts(file: Path) -> list[Path]:
    return sorted(_parts_folder(file).glob("[0-9]*.parquet"))

"""Opens the table of a file of any form; columns of Parquet and Feather files."""

import pandas as pd
import pyarrow as pa
from pyarrow import feather, ipc, parquet

from core.errors import InputError
from core.memory import release_memory
from data.bars.formats.nested import from_json, stacked, two_headers
from data.bars.formats.packed import Source, form, member
from data.bars.formats.table import Table, of_frame
from data.bars.formats.texts import FEW_ROWS, text_table

_CELL = 8  # bytes


def open_table(source: Source) -> Table:
    """Returns the table of a file, its columns not read yet."""
    source.check_regular()
    suffix = form(source.path.name)
    if suffix in (".parquet", ".pq"):
        return _parquet(source)
    if suffix in (".feather", ".arrow"):
        return _arrow(source)
    if suffix == ".zip":
        suffix = form(member(source))
    if suffix not in (".json", ".jsonl", ".ndjson"):
        return text_table(source)
    frame = from_json(source)
    names = list(frame.columns)
    return of_frame(*stacked(names, frame)) if two_headers(names) else of_frame(frame)


def _parquet(source: Source) -> Table:
    """Reads one column after another: a whole table would stand in memory beside the frame.

    In this thread and with a copy, because Arrow's allocator gives nothing back of what other
    threads took or of what columns still use.
    """
    path = source.path
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        kinds = [field.type for field in file.schema_arrow]
        num_rows = file.metadata.num_rows
    if two_headers(names):
        source.check_size(num_rows * len(names) * _CELL)
        with parquet.ParquetFile(path) as file:
            frame = file.read().to_pandas(ignore_metadata=True)
        return of_frame(*stacked(names, frame))

    def read(positions, texts, _first):
        source.check_size(num_rows * len(positions) * _CELL)
        columns = {}
        coded = [names[place] for place in texts if _is_text(kinds[place])]
        with parquet.ParquetFile(path, read_dictionary=coded) as file:
            for position in positions:
                _check_kind(kinds[position], names[position], source)
                column = file.read(columns=[names[position]], use_threads=False).column(0)
                columns[position] = _series(column).copy()
                del column
                if num_rows > FEW_ROWS:
                    release_memory()
        return columns

    return Table(names, len(names), read)


def _is_text(kind) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_kind(kind, name: str, source: Source) -> None:
    if pa.types.is_nested(kind):
        raise InputError(
            "{source}: the column {name} must hold numbers, times or texts, it holds {kind}",
            source=source.name,
            name=name,
            kind=str(kind)[:40],
        )


def _arrow(source: Source) -> Table:
    table = _ipc(source)
    if two_headers(table.column_names):
        frame = table.to_pandas(ignore_metadata=True)
        return of_frame(*stacked(table.column_names, frame))

    def read(positions, *_):
        columns = {}
        for position in positions:
            _check_kind(table.schema.field(position).type, table.column_names[position], source)
            columns[position] = _series(table.column(position)).copy()
        return columns

    return Table(table.column_names, table.num_columns, read)


def _ipc(source: Source) -> pa.Table:
    """Returns the table of a Feather or Arrow file, a batch after another as it may grow."""
    with pa.OSFile(str(source.path)) as file:
        magic = file.read(6)
        file.seek(0)
        if magic[:4] == b"FEA1":  # the first version of Feather
            return feather.read_table(str(source.path))
        if magic == b"ARROW1":
            reader = ipc.open_file(file)
            batches = (reader.get_batch(place) for place in range(reader.num_record_batches))
        else:
            reader = ipc.open_stream(file)
            batches = iter(reader)
        kept, size = [], 0
        for batch in batches:
            size += batch.nbytes
            source.check_size(size)
            kept.append(batch)
        return pa.Table.from_batches(kept, reader.schema)


def _series(column) -> pd.Series:
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if isinstance(column.type, pa.DictionaryType):
        column = column.unify_dictionaries()
    return column.to_pandas(date_as_object=False)

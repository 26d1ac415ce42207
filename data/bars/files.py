"""Tables of bars out of CSV, JSON, Parquet and Feather files, also packed with gzip or zip."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from core.errors import InputError
from core.i18n import _
from core.memory import release_memory
from data.bars.tables import from_json, stacked, two_headers

TEXTS = (".csv", ".txt", ".tsv", ".json")
SUFFIXES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".zip", ".parquet", ".feather")
HEAD_BYTES, BLOCK_BYTES = 1 << 16, 1 << 23
SEPARATORS = ",\t;"


@dataclass
class Table:
    """The columns of a file.

    Args:
        names: of all columns, as the file writes them; None where it has no header.
        width: number of columns.
        read: given positions, and which of them are texts and numbers (a CSV file does not say),
            returns a frame with these columns.
        first: the first row's values as texts, where they are known before reading.
        remarks: what had to be done to read it.
    """

    names: list[str] | None
    width: int
    read: Callable[[Sequence[int], Sequence[int], Sequence[int]], pd.DataFrame]
    first: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def stem(file: Path) -> str:
    """Returns the file's name without what says its format."""
    name = file.name
    while name.lower().endswith((*SUFFIXES, ".gz")):
        name = name.rsplit(".", 1)[0]
    return name


def open_table(file: Path) -> Table:
    """Returns the table of a file, its columns not read yet."""
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        return _parquet(file)
    if suffix == ".feather":
        return _arrow(pa.feather.read_table(file))
    if suffix == ".zip":
        suffix = Path(_member(file)).suffix.lower()
    if suffix == ".json":
        with _stream(file) as stream:
            frame = from_json(stream.read(), file.name)
        return of_frame(frame)
    return _csv(file)


def of_frame(frame: pd.DataFrame, remarks: Sequence[str] = ()) -> Table:
    """Returns the table of a frame; columns named by numbers mean that there is no header."""
    names = None if isinstance(frame.columns, pd.RangeIndex) else [str(n) for n in frame.columns]

    def read(positions, *_):
        return frame.iloc[:, list(positions)].set_axis(list(positions), axis=1)

    first = ["" if pd.isna(value) else str(value) for value in frame.iloc[0]] if len(frame) else []
    return Table(names, frame.shape[1], read, first, list(remarks))


def _member(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
    members = [name for name in members if not name.startswith("__MACOSX")]
    if len(members) != 1:
        raise InputError(
            _(
                "{file} must hold one file, it holds {count} ({names}); unpack it to a folder and "
                "give the folder",
                file=file.name,
                count=len(members),
                names=", ".join(members[:3]) + (", ..." if len(members) > 3 else ""),
            )
        )
    if not members[0].lower().endswith(TEXTS):
        raise InputError(
            _("{file} must hold a file ending in {texts}", file=file.name, texts=", ".join(TEXTS))
        )
    return members[0]


def _stream(file: Path):
    with file.open("rb") as raw:
        magic = raw.read(4)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(file, "rb")
    if magic == b"PK\x03\x04":
        return zipfile.ZipFile(file).open(_member(file))
    return file.open("rb")


def _parquet(file: Path) -> Table:
    """Reads one column after another: a whole table would stand in memory beside the frame.

    In this thread and with a copy, because Arrow's allocator gives nothing back of what other
    threads took or of what columns still use.
    """
    with pa.parquet.ParquetFile(file) as source:
        names = source.schema_arrow.names
        kinds = [field.type for field in source.schema_arrow]
    if two_headers(names):
        with pa.parquet.ParquetFile(file) as source:
            frame = source.read().to_pandas(ignore_metadata=True)
        return of_frame(*stacked(names, frame))

    def read(positions, texts, _first):
        columns = {}
        coded = [names[place] for place in texts if _is_text(kinds[place])]
        with pa.parquet.ParquetFile(file, read_dictionary=coded) as source:
            for position in positions:
                column = source.read(columns=[names[position]], use_threads=False).column(0)
                columns[position] = _series(column).copy()
                del column
                release_memory()
        return pd.DataFrame(columns, copy=False)

    return Table(names, len(names), read)


def _is_text(kind) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _arrow(table: pa.Table) -> Table:
    def read(positions, *_):
        columns = {position: _series(table.column(position)).copy() for position in positions}
        return pd.DataFrame(columns, copy=False)

    if two_headers(table.column_names):
        frame = table.to_pandas(ignore_metadata=True)
        return of_frame(*stacked(table.column_names, frame))
    return Table(table.column_names, table.num_columns, read)


def _series(column) -> pd.Series:
    return column.to_pandas(date_as_object=False)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_no_header(cells: list[str]) -> bool:
    return all(_is_number(cell) or cell.strip()[:1].isdigit() for cell in cells)


def _csv(file: Path) -> Table:
    with _stream(file) as stream:
        head = stream.read(HEAD_BYTES)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = head.decode(encoding, errors="replace").splitlines()
    skip = next((i for i, line in enumerate(lines[:6]) if any(s in line for s in SEPARATORS)), 0)
    lines = [line for line in lines[skip:] if line.strip()]
    if not lines:
        raise InputError(_("{file} cannot be read: it is empty", file=file.name))
    separator = max(SEPARATORS, key=lines[0].count)
    rows = list(csv.reader(lines[:5], delimiter=separator))
    remarks = [_("{skip} line(s) above the header passed over", skip=skip)] if skip else []
    if len(rows) > 2 and two_headers(list(zip(rows[0], rows[1], strict=False))):
        return _two_headed(file, rows, encoding, separator)
    names = None if _has_no_header(rows[0]) else rows[0]
    data = rows if names is None else rows[1:]
    width, first = len(rows[0]), data[0] if data else []
    skip += names is not None
    options = {"skip": skip, "encoding": encoding, "separator": separator, "width": width}
    if separator == ";" and any("," in cell and "." not in cell for cell in first[1:]):
        options["decimal"] = ","
        remarks.append(_("decimal commas"))

    def read(positions, texts, numbers):
        if not data:
            return pd.DataFrame({position: [] for position in positions})
        try:
            return _read_fast(file, positions, texts, numbers, **options)
        except pa.ArrowInvalid:  # a value that does not fit its column: found with its row
            return _read_texts(file, positions, **options)

    return Table(names, width, read, first, remarks)


def _two_headed(file, rows, encoding, separator) -> Table:
    with _stream(file) as stream:
        text = stream.read().decode(encoding)
    named = not any(cell.strip() for cell in rows[2][1:])
    frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, skiprows=2 + named)
    pairs = list(zip(rows[0], rows[1], strict=True))
    pairs[0] = (rows[2][0], "") if named else ("Date", "")
    return of_frame(*stacked(pairs, frame))


def _read_fast(
    file, positions, texts, numbers, *, skip, encoding, separator, width, decimal="."
) -> pd.DataFrame:
    """Reads a block after another into arrays of NumPy, so that no whole table stands beside."""
    keys = [str(position) for position in range(width)]
    kinds = {str(position): pa.dictionary(pa.int32(), pa.string()) for position in texts}
    codes: dict[str, dict[str, int]] = {key: {} for key in kinds}
    kinds |= {str(position): pa.float64() for position in numbers}
    parts: dict[str, list] = {str(position): [] for position in positions}
    with _stream(file) as stream:
        reader = pa.csv.open_csv(
            stream,
            pa.csv.ReadOptions(
                column_names=keys,
                skip_rows=skip,
                encoding="utf8" if encoding == "utf-8-sig" else encoding,
                block_size=BLOCK_BYTES,
            ),
            pa.csv.ParseOptions(delimiter=separator),
            pa.csv.ConvertOptions(
                include_columns=list(parts), column_types=kinds, decimal_point=decimal
            ),
        )
        for batch in reader:
            for key, part in parts.items():
                column = batch.column(key)
                part.append(
                    _coded(column, codes[key])
                    if key in codes
                    else column.to_pandas(date_as_object=False).copy()
                )
    columns = {}
    for key in list(parts):
        part = parts.pop(key)
        if key in codes:
            columns[int(key)] = pd.Categorical.from_codes(np.concatenate(part), list(codes[key]))
        else:
            columns[int(key)] = pd.concat(part, ignore_index=True)
        del part
        release_memory()
    return pd.DataFrame(columns, copy=False)


def _coded(column, codes: dict[str, int]) -> np.ndarray:
    """Returns the column's codes in a dictionary that grows from block to block."""
    own = [codes.setdefault(text, len(codes)) for text in column.dictionary.to_pylist()]
    return np.asarray(own, np.int32)[column.indices.to_numpy(zero_copy_only=False)]


def _read_texts(file, positions, *, skip, encoding, separator, width, decimal=".") -> pd.DataFrame:
    with _stream(file) as stream, io.TextIOWrapper(stream, encoding=encoding) as text:
        frame = pd.read_csv(
            text,
            sep=separator,
            header=None,
            names=list(range(width)),
            skiprows=skip,
            dtype=str,
            keep_default_na=False,
            na_values=["", "NaN", "nan", "null"],
        )
    frame = frame[list(positions)]
    return frame.replace(",", ".", regex=True) if decimal == "," else frame

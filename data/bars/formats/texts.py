"""Tables of bars out of texts with commas, semicolons or tabs between the columns."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from core.errors import InputError
from core.i18n import _, ngettext
from core.memory import release_memory
from data.bars.formats.nested import stacked, two_headers
from data.bars.formats.packed import Source
from data.bars.formats.table import Table, of_frame

HEAD_BYTES, BLOCK_BYTES = 1 << 20, 1 << 22
MOST_COLUMNS = 20_000
FEW_ROWS = 100_000  # of which nothing is worth to be given back
SEPARATORS = ",\t;"
_NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*")


def text_table(source: Source) -> Table:
    """Returns the table of a text, its columns not read yet."""
    with source.open(lines=True) as stream:
        head = stream.read(HEAD_BYTES)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    # As Arrow and pandas divide lines; Python would divide at other signs too.
    lines = re.split(r"\r\n|\r|\n", head.decode(encoding, errors="replace"))
    if len(lines) == 1 and len(head) == HEAD_BYTES:
        told = _("{file} must have a first line of at most 1 MiB; it is longer", file=source.name)
        raise InputError(told)
    skip = next((i for i, line in enumerate(lines[:6]) if any(s in line for s in SEPARATORS)), 0)
    lines = [line for line in lines[skip:] if line.strip()]
    if not lines:
        raise InputError("{file} cannot be read: it is empty", file=source.name)
    separator = max(SEPARATORS, key=lines[0].count)
    rows = list(csv.reader(lines[:5], delimiter=separator))
    if len(rows[0]) > MOST_COLUMNS:
        raise InputError(
            "{file} must have at most {most:,} columns, it has {count:,}",
            file=source.name,
            most=MOST_COLUMNS,
            count=len(rows[0]),
        )
    remarks = []
    if skip:
        remarks.append(
            ngettext(
                "skipped {n} line above the header", "skipped {n} lines above the header", skip
            )
        )
    text = _Text(source, separator, encoding, skip, len(rows[0]))
    if len(rows) > 2 and len(rows[0]) == len(rows[1]):
        if two_headers(list(zip(rows[0], rows[1], strict=True)), named=_is_index_name(rows[2])):
            return text.two_headed(rows, remarks)
    names = None if _has_no_header(rows[0]) else rows[0]
    text.skip += names is not None
    data = rows if names is None else rows[1:]
    first = [*data[0], *[""] * text.width][: text.width] if data else []  # a row may be too short
    read = text.read if data else text.empty
    return Table(names, text.width, read, first, remarks, semicolons=separator == ";")


def _is_index_name(row: list[str]) -> bool:
    return bool(row[0].strip()) and not any(cell.strip() for cell in row[1:])


def _has_no_header(cells: list[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) or cell.strip()[:1].isdigit() for cell in cells)


class _Text:
    """A text of columns, read as far as it is asked for.

    Args:
        source: of the text.
        separator: between the columns.
        encoding: utf-16 or utf-8-sig.
        skip: lines above the first row.
        width: number of columns.
    """

    def __init__(self, source: Source, separator: str, encoding: str, skip: int, width: int):
        self.source, self.separator, self.encoding = source, separator, encoding
        self.skip, self.width = skip, width

    def empty(self, positions, texts, numbers) -> dict[int, pd.Series]:
        """Returns no rows."""
        return {position: pd.Series([], dtype=object) for position in positions}

    def read(self, positions, texts, numbers) -> dict[int, pd.Series]:
        """Returns the columns; those of numbers as texts where some cell is no plain number.

        With semicolons they always are: `64.123` may be thousands there.
        """
        kinds = [pa.float64(), pa.string()] if self.separator != ";" else [pa.string()]
        for kind in kinds:
            try:
                return self._read_fast(positions, texts, dict.fromkeys(numbers, kind))
            except pa.ArrowInvalid:  # a value that does not fit its column
                continue
        return self._read_slowly(positions)

    def two_headed(self, rows: list[list[str]], remarks: list[str]) -> Table:
        """Returns the table of a text under a field and a ticker for each column."""
        named = _is_index_name(rows[2])
        with self.source.open(lines=True) as stream:
            frame = pd.read_csv(
                io.TextIOWrapper(stream, encoding=self.encoding),
                sep=self.separator,
                header=None,
                skiprows=self.skip + 2 + named,
            )
        if frame.shape[1] != self.width:
            raise InputError(
                "{file} must have as many values in each row as names", file=self.source.name
            )
        pairs = list(zip(rows[0], rows[1], strict=True))
        pairs[0] = (rows[2][0], "") if named else ("Date", "")
        frame, more = stacked(pairs, frame)
        return of_frame(frame, [*remarks, *more])

    def _read_fast(self, positions, texts, numbers: dict[int, pa.DataType]) -> dict[int, pd.Series]:
        """Reads a block after another into arrays, so that no whole table stands beside."""
        kinds = {str(place): pa.dictionary(pa.int32(), pa.string()) for place in texts}
        codes: dict[str, dict[str, int]] = {key: {} for key in kinds}
        kinds |= {str(place): kind for place, kind in numbers.items()}
        parts: dict[str, list] = {str(place): [] for place in positions}
        with self.source.open() as stream:
            reader = arrow_csv.open_csv(
                stream,
                arrow_csv.ReadOptions(
                    column_names=[str(place) for place in range(self.width)],
                    skip_rows=self.skip,
                    encoding="utf8" if self.encoding == "utf-8-sig" else self.encoding,
                    block_size=BLOCK_BYTES,
                ),
                arrow_csv.ParseOptions(delimiter=self.separator),
                arrow_csv.ConvertOptions(include_columns=list(parts), column_types=kinds),
            )
            for batch in reader:
                for key, part in parts.items():
                    column = batch.column(key)
                    if key in codes:
                        part.append(_coded(column, codes[key]))
                    else:
                        part.append(column.to_pandas(date_as_object=False).copy())
        columns = {}
        for key in list(parts):
            part = parts.pop(key)
            if key in codes:
                kind = pd.CategoricalDtype(list(codes[key]))
                texts = pd.Categorical.from_codes(np.concatenate(part), dtype=kind)
                columns[int(key)] = pd.Series(texts)
            else:
                columns[int(key)] = (
                    part[0] if len(part) == 1 else pd.concat(part, ignore_index=True)
                )
            del part
            if len(columns[int(key)]) > FEW_ROWS:
                release_memory()
        return columns

    def _read_slowly(self, positions) -> dict[int, pd.Series]:
        """Reads all as texts, whatever stands where; rows with too many values are refused."""
        with self.source.open(lines=True) as stream:
            frame = pd.read_csv(
                io.TextIOWrapper(stream, encoding=self.encoding),
                sep=self.separator,
                header=None,
                names=list(range(self.width + 1)),
                skiprows=self.skip,
                dtype=str,
                keep_default_na=False,
                na_values=[],
            )
        more = (frame[self.width].fillna("") != "").to_numpy()
        if more.any():
            raise InputError(
                "{file}, row {row}: a row must have {width} values, as the first line has; it "
                "has more (a decimal comma or one of thousands without quotation marks?)",
                file=self.source.name,
                row=str(int(more.argmax()) + 1),
                width=self.width,
            )
        return {position: frame[position] for position in positions}


def _coded(column, codes: dict[str, int]) -> np.ndarray:
    """Returns the column's codes in a dictionary that grows from block to block."""
    block_codes = [codes.setdefault(text, len(codes)) for text in column.dictionary.to_pylist()]
    return np.asarray(block_codes, np.int32)[column.indices.to_numpy(zero_copy_only=False)]

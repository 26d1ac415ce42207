"""Numbers as people write them: which sign marks decimals is decided over all cells of a column.

`1.013` is 1013 to whoever writes decimal commas. A cell such as `987,5` or `1,013.2` tells; where
no cell of a column does, the other columns of the file do; where none does, the file is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import InputError, printable
from core.i18n import _

# Of a decimal sign: the sign of thousands that goes with it.
_THOUSANDS = {".": ",", ",": "."}
_NOTHING = ("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat")
_GROUPED = r"^[-+]?\d{1,3}(?:[ '’\x{00a0}\x{2009}\x{202f}]\d{3})+(?:[.,]\d*)?$"
_GAPS = r"[ '’\x{00a0}\x{2009}\x{202f}]"


@dataclass
class _Column:
    """The cells of a column, and by the decimal sign: which of them are numbers so.

    Args:
        cells: stripped texts, null where there is none.
        fits: bool (rows,) for each decimal sign.
        sign: the decimal sign; empty where nothing tells it yet.
    """

    cells: pa.ChunkedArray
    fits: dict[str, np.ndarray]
    sign: str = ""


def read_numbers(
    columns: Mapping[str, pd.Series], source: str, *, points_are_decimal: bool
) -> tuple[dict[str, pd.Series], list[str]]:
    """Returns columns of texts as float64, and remarks on how they were read.

    A column in which some cell is no number stays one of texts, for the check to name the cell.

    Args:
        columns: texts by the name of the column, (rows,) each.
        source: the file's name.
        points_are_decimal: whether a point marks decimals where nothing tells: so do all tools,
            but not all spreadsheets that write semicolons.

    Raises:
        InputError: where a column can be read in two ways.
    """
    parsed = {name: _column(texts) for name, texts in columns.items()}
    signs = {column.sign for column in parsed.values() if column.sign}
    for name, column in parsed.items():
        if not column.sign:
            column.sign = _told(name, column, signs, source, points_are_decimal)
    remarks = []
    if any(column.sign == "," and _holds(column, ",") for column in parsed.values()):
        remarks.append(_("decimal commas"))
    if any(_holds(column, _THOUSANDS[column.sign]) for column in parsed.values()):
        remarks.append(_("thousands separators removed"))
    return {name: _numbers(columns[name], column) for name, column in parsed.items()}, remarks


def _column(texts: pd.Series) -> _Column:
    cells = pa.chunked_array(pa.array(texts, pa.string(), from_pandas=True))
    cells = pc.replace_substring(pc.utf8_trim_whitespace(cells), "\N{MINUS SIGN}", "-")
    nothing = pc.is_in(pc.utf8_lower(cells), pa.array(_NOTHING))
    cells = pc.if_else(nothing, pa.scalar(None, pa.string()), cells)
    grouped = pc.match_substring_regex(cells, _GROUPED)
    if pc.any(grouped).as_py():
        cells = pc.if_else(grouped, pc.replace_substring_regex(cells, _GAPS, ""), cells)
    fits = {sign: _matches(cells, _pattern(sign)) for sign in _THOUSANDS}
    point, comma = (fits[sign] & ~fits[_THOUSANDS[sign]] for sign in (".", ","))
    if point.any() or comma.any():
        return _Column(cells, fits, "." if point.sum() >= comma.sum() else ",")
    return _Column(cells, fits)


def _pattern(decimal: str) -> str:
    """Returns what a number looks like with this decimal sign; India groups hundreds too."""
    groups = rf"[1-9]\d{{0,2}}(?:[{_THOUSANDS[decimal]}]\d{{2,3}})*[{_THOUSANDS[decimal]}]\d{{3}}"
    digits = rf"(?:(?:\d+|{groups})(?:[{decimal}]\d*)?|[{decimal}]\d+)"
    return rf"^[-+]?(?:{digits}(?:[eE][-+]?\d+)?|(?i:inf|infinity))$"


def _matches(cells, pattern: str) -> np.ndarray:
    return pc.fill_null(pc.match_substring_regex(cells, pattern), False).to_numpy()


def _told(
    name: str, column: _Column, signs: set[str], source: str, points_are_decimal: bool
) -> str:
    """Returns the decimal sign of a column whose own cells do not tell it."""
    comma, point = (_matches(column.cells, f"[{sign}]") & column.fits["."] for sign in (",", "."))
    if len(signs) == 1:
        return next(iter(signs))
    if not comma.any() and (points_are_decimal or not point.any()):
        return "."
    row = int((comma | point).argmax())
    cell = column.cells[row].as_py()
    raise InputError(
        "{source}, row {row}: {column} {cell!r} may be {one} or {other}, and nothing else in "
        "the file says which; write numbers with a decimal point and without thousands "
        "separators, in a file with commas between the columns",
        source=source,
        row=str(row + 1),
        column=name,
        cell=printable(cell),
        one=cell.replace(",", "").replace(".", ""),
        other=cell.replace(",", "."),
    )


def _holds(column: _Column, sign: str) -> bool:
    """Says whether a number of the column has this sign."""
    return bool((_matches(column.cells, f"[{sign}]") & column.fits[column.sign or "."]).any())


def _numbers(texts: pd.Series, column: _Column) -> pd.Series:
    fits = column.fits[column.sign]
    plain = pc.replace_substring(column.cells, _THOUSANDS[column.sign], "")
    if column.sign == ",":
        plain = pc.replace_substring(plain, ",", ".")
    known = fits | pc.is_null(column.cells).to_numpy()
    if known.all():
        return pc.cast(plain, pa.float64()).to_pandas()
    kept = pd.Series(plain.to_pandas(), dtype=object)
    return kept.where(known, pd.Series(texts.to_numpy(object)))

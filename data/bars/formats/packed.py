"""Opens files, packed or not, as streams of bounded length, and names the file where one fails."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from core import foreign
from core.errors import InputError, printable
from core.foreign import check_regular
from core.i18n import _

TEXTS = (".csv", ".txt", ".tsv", ".json", ".jsonl", ".ndjson")
PACKINGS = (".gz", ".bz2", ".xz", ".zst")
TABLES = (".parquet", ".pq", ".feather", ".arrow")
SUFFIXES = (*TEXTS, *(text + packing for text in TEXTS for packing in PACKINGS), ".zip", *TABLES)
# Bars shrink to a third or a tenth when packed. What grows by more than the ratio, beyond a size
# that does no harm, was made to fill the memory.
MOST_RATIO, HARMLESS_BYTES = 30, 1 << 28
LONGEST_LINE = 1 << 20  # bytes; less than the blocks in which Arrow reads


@dataclass(frozen=True)
class Source:
    """A file of bars, and how much of it may be read.

    Args:
        path: of the file.
        unpacked_bytes: the most that it may grow to when it is unpacked, and its table may take
            in memory; None: 30 times its size, and 256 MiB in any case.
    """

    path: Path
    unpacked_bytes: int | None = None

    @property
    def name(self) -> str:
        """The file's name as a message may show it."""
        return printable(self.path.name)

    def check_regular(self) -> int:
        """Returns the size of the file, in bytes.

        Raises:
            InputError: where it is a link to nowhere, a device, a pipe: nothing that ends.
        """
        return check_regular(self.path, self.name)

    def check_size(self, num_bytes: int, *, share: float = 1.0) -> None:
        """Raises InputError where the unpacked file is larger than it may be.

        Args:
            num_bytes: unpacked.
            share: of the most bytes that is allowed to what takes more memory than its length.
        """
        most = self.unpacked_bytes
        if most is None:
            size = self.path.stat().st_size
            most = max(HARMLESS_BYTES * share, size * MOST_RATIO, size)
        if num_bytes > most:
            raise InputError(
                "{file} must not grow beyond {most:,.0f} MiB when unpacked, but it would, and "
                "bars do not compress that well: unpack it first, or raise unpacked_bytes",
                file=self.name,
                most=most / 2**20,
            )

    def open(self, *, share: float = 1.0, lines: bool = False) -> BinaryIO:
        """Returns the file's bytes, unpacked, as a stream that refuses to become too long.

        Args:
            share: as in `check_size`.
            lines: whether it is a text whose lines must not be too long either.
        """
        stream, is_packed = _unpacked(self)
        if not is_packed and not lines:
            return stream  # ends where the file does
        return io.BufferedReader(_Bounded(self, stream, share, lines), 1 << 20)


def stem(path: Path) -> str:
    """Returns the file's name without what says its form."""
    name = path.name
    while name.lower().endswith((*SUFFIXES, *PACKINGS)):
        name = name.rsplit(".", 1)[0]
    return name


def form(name: str) -> str:
    """Returns the suffix that says what a file holds when it is unpacked."""
    name = name.lower()
    for packing in PACKINGS:
        name = name.removesuffix(packing)
    return Path(name).suffix


def forms() -> str:
    """Returns the suffixes of files that are read, as a message lists them."""
    return _(
        "{texts} (each also packed: {packings}), .zip, {tables}",
        texts=", ".join(TEXTS),
        packings=", ".join(PACKINGS),
        tables=", ".join(TABLES),
    )


def reading(name: str) -> contextlib.AbstractContextManager[None]:
    """Returns the boundary around what reads a file of bars; see `core.foreign.reading`."""
    return foreign.reading(name, csv.Error, pa.ArrowException)


def member(source: Source) -> str:
    """Returns the name of the one file in a zip."""
    with zipfile.ZipFile(source.path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
    members = [name for name in members if not name.startswith("__MACOSX")]
    if len(members) != 1:
        names = ", ".join(map(printable, members[:3]))
        raise InputError(
            "{file} must hold one file, it holds {count} ({names}); unpack it to a folder and "
            "give the folder",
            file=source.name,
            count=len(members),
            names=names + (", ..." if len(members) > 3 else ""),
        )
    if not members[0].lower().endswith(TEXTS):
        raise InputError(
            "{file} must hold a file ending in {texts}", file=source.name, texts=", ".join(TEXTS)
        )
    return members[0]


class _Bounded(io.RawIOBase):
    """Another stream that ends with a refusal where it, or a line of it, is too long."""

    def __init__(self, source: Source, inner, share: float, lines: bool):
        self._source, self._inner, self._share, self._lines = source, inner, share, lines
        self._length = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        chunk = self._inner.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._length += len(chunk)
        self._source.check_size(self._length, share=self._share)
        if self._lines:
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
            self._line = len(chunk) - end - 1 + (self._line if end < 0 else 0)
            if self._line > LONGEST_LINE:
                raise InputError(
                    "{file} has a line longer than 1 MiB, so it holds no bars",
                    file=self._source.name,
                )
        return len(chunk)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _unpacked(source: Source) -> tuple[Any, bool]:
    """Returns a stream of what the file holds, and whether it is packed."""
    source.check_regular()
    path = source.path
    with path.open("rb") as raw:
        magic = raw.read(6)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb"), True
    if magic[:3] == b"BZh":
        return bz2.open(path, "rb"), True
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path, "rb"), True
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        return pa.input_stream(str(path), compression="zstd"), True
    if magic[:4] == b"PK\x03\x04":
        return zipfile.ZipFile(path).open(member(source)), True
    return path.open("rb"), False

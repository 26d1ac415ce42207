"""Opens files, packed or not, as streams of bounded length, and names the file where one fails."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa

from core.errors import InputError
from core.i18n import N_, _

TEXTS = (".csv", ".txt", ".tsv", ".json", ".jsonl", ".ndjson")
PACKINGS = (".gz", ".bz2", ".xz", ".zst")
TABLES = (".parquet", ".pq", ".feather", ".arrow")
SUFFIXES = (*TEXTS, *(text + packing for text in TEXTS for packing in PACKINGS), ".zip", *TABLES)
# Bars shrink to a third or a tenth when packed. What grows by more than the ratio, beyond a size
# that does no harm, was made to fill the memory.
MOST_RATIO, HARMLESS_BYTES = 30, 1 << 28
LONGEST_LINE = 1 << 20  # bytes; less than the blocks in which Arrow reads
MOST_LETTERS = 60  # of a value or a name in a message
_ROOM = Path(__file__).parents[2]
_FAILURES = (
    *(OSError, ValueError, RuntimeError, ArithmeticError, EOFError, MemoryError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error, struct.error, pa.ArrowException),
)
_KINDS = (
    (stat.S_ISDIR, N_("a folder")),
    (stat.S_ISFIFO, N_("a named pipe")),
    (stat.S_ISSOCK, N_("a socket")),
    (stat.S_ISCHR, N_("a device")),
    (stat.S_ISBLK, N_("a device")),
)


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
        try:
            status = self.path.stat()
        except (OSError, ValueError) as error:
            if self.path.is_symlink():
                told = _("{file} is a link to a file that does not exist", file=self.name)
                raise InputError(told) from error
            raise _refusal(self.name, error) from error
        for of_kind, kind in _KINDS:
            if of_kind(status.st_mode):
                raise InputError(
                    _("{file} must be a regular file, it is {kind}", file=self.name, kind=_(kind))
                )
        return status.st_size

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
                _(
                    "{file} must not grow beyond {most:,.0f} MiB when unpacked, but it would, and "
                    "bars do not compress that well: unpack it first, or raise unpacked_bytes",
                    file=self.name,
                    most=most / 2**20,
                )
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


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """Returns a text as a line that a terminal may show: escaped, and cut where it is long."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


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


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns what a file made fail inside into an InputError with its name.

    Libraries say with many types of exceptions that a file is broken. Those that this project's
    own lines raise, and types that only a fault of the program has, go on as they are.
    """
    try:
        yield
    except InputError:
        raise
    except _FAILURES as error:
        if type(error) in (ValueError, RuntimeError) and _raised_here(error.__traceback__):
            raise
        raise _refusal(name, error) from error


def member(source: Source) -> str:
    """Returns the name of the one file in a zip."""
    with zipfile.ZipFile(source.path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
    members = [name for name in members if not name.startswith("__MACOSX")]
    if len(members) != 1:
        names = ", ".join(map(printable, members[:3]))
        raise InputError(
            _(
                "{file} must hold one file, it holds {count} ({names}); unpack it to a folder and "
                "give the folder",
                file=source.name,
                count=len(members),
                names=names + (", ..." if len(members) > 3 else ""),
            )
        )
    if not members[0].lower().endswith(TEXTS):
        raise InputError(
            _("{file} must hold a file ending in {texts}", file=source.name, texts=", ".join(TEXTS))
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
                    _(
                        "{file} has a line longer than 1 MiB, so it holds no bars",
                        file=self._source.name,
                    )
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


def _refusal(name: str, error: BaseException) -> InputError:
    text = getattr(error, "strerror", None) or str(error)
    reason = text.splitlines()[0] if text.strip() else type(error).__name__
    return InputError(
        _("{file} cannot be read: {reason}", file=name, reason=printable(reason, 200))
    )


def _raised_here(place: TracebackType | None) -> bool:
    """Says whether an exception comes from a line of this project, and of no library."""
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and _ROOM in Path(place.tb_frame.f_code.co_filename).parents

"""A model.keras, checked before Keras builds anything of it: somebody else may have written it.

A file of a few kilobytes can ask for any amount of memory: by what it unpacks to, by the widths
that its layers declare, by arrays that hold nothing but a shape. So its parts are read within
bounds, no class is taken but those that this project saves, and what would be built is counted.
"""

import contextlib
import errno
import io
import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from core.contract import check_contract
from core.errors import MOST_QUOTED, InputError, printable
from core.foreign import check_regular, parse_json, raised_here, reason_of
from core.i18n import N_, _
from models.declared import Foreign, declared

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}
_DIRECTORY_BYTES = 1 << 16  # of the list of a zip's members
_CONFIG_BYTES = 1 << 22
_BYTES_PER_WEIGHT, _SLACK_BYTES = 8, 1 << 24
_END = struct.Struct("<4s4H2LH")  # of a zip
_END_64 = 20  # bytes before it, where a zip is larger than 4 GiB
_MOST_ARRAYS, _DEEPEST = 10_000, 30  # objects in a file of weights, and groups in groups
_TOLD_HERE = (OSError, ValueError, Foreign, zipfile.BadZipFile)  # of a file, by own lines
_NOT_READ = N_("{path} cannot be read: {reason}")
_NO_MODEL = N_("{path} must be a model.keras of this project: {reason}")


@dataclass(frozen=True)
class Bounds:
    """How large the network of a model file may be.

    Args:
        weights: numbers in all its layers, with what they are expanded to for their products.
        window_values: numbers that one window takes in its largest layer; a batch has 256 windows.
        layers: with those of models inside it.
    """

    weights: int = 1 << 26
    window_values: int = 1 << 20
    layers: int = 512


def check_model_file(path: Path, bounds: Bounds) -> dict[str, Any]:
    """Returns the contract of a model file that may be built.

    Args:
        path: of the file.
        bounds: of its network.

    Raises:
        InputError: where it is no regular file, truncated or corrupt, no model of this project or
            one beyond the bounds, or its contract or weights are none.
    """
    name = printable(str(path), 200)
    check_regular(path, name)
    with refused(name, N_("{path} is truncated or corrupt: {reason}")):
        with path.open("rb") as file:
            _check_end(file)
            with zipfile.ZipFile(file) as archive:
                parts = _members(archive, bounds)
        _check_weights(parts[_WEIGHTS], bounds)
    with refused(name):
        network = declared(parse_json(parts[_CONFIG]))
        for field in fields(bounds):
            _check_bound(field.name, getattr(network, field.name), getattr(bounds, field.name))
    contract = network.contract
    check_contract(contract, name)
    expected = (None, contract["sequence_length"], len(contract["feature_names"]))
    if network.input_shape != expected:
        with refused(name):
            raise Foreign(
                _(
                    "its input must have the shape {expected} of its contract, got {found}",
                    expected=expected,
                    found=network.input_shape,
                )
            )
    return contract


@contextlib.contextmanager
def refused(name: str, message: str = _NO_MODEL, *, layers: bool = False) -> Iterator[None]:
    """Has what a model file made fail be told as an InputError with its name.

    Faults of this project's own lines keep their traceback, but for values that they refuse.

    Args:
        name: of the file.
        message: what to say; it is looked up in the language of now.
        layers: whether Keras makes layers inside, with any arguments that the file has for them.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        is_ours = raised_here(error) and not isinstance(error, _TOLD_HERE)
        if is_ours and not layers:
            raise
        if isinstance(error, Foreign):
            message = _NO_MODEL
        elif isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            message = _NOT_READ
        raise InputError(_(message, path=name, reason=_reason(error))) from error


def _reason(error: Exception) -> str:
    """Returns what an exception says; Keras puts that of a layer behind the layer's config."""
    inner = str(error).rpartition("Exception encountered: ")[2].strip()
    return printable(inner.splitlines()[0], MOST_QUOTED) if inner else reason_of(error)


def _check_end(file: BinaryIO) -> None:
    """Checks where the list of members is: zipfile reads all of it, however long."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(2) != b"PK":
        raise Foreign(_("it is not a zip archive"))
    file.seek(max(size - _END.size - _END_64, 0))
    tail = file.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6":
        raise zipfile.BadZipFile(_("its end is missing, so it was cut off: copy it again"))
    if tail.startswith(b"PK\6\7"):
        raise Foreign(_("it is larger than any model of this project"))
    length = _END.unpack(tail[-_END.size :])[5]
    if length > _DIRECTORY_BYTES:
        raise Foreign(_("it holds other files than {names}", names=", ".join(sorted(_MEMBERS))))


def _members(archive: zipfile.ZipFile, bounds: Bounds) -> dict[str, bytes]:
    """Returns what a zip holds, each member whole and as its checksum says."""
    if sorted(archive.namelist()) != sorted(_MEMBERS):
        raise Foreign(_("it holds other files than {names}", names=", ".join(sorted(_MEMBERS))))
    largest = dict.fromkeys(_MEMBERS, _CONFIG_BYTES)
    largest[_WEIGHTS] = bounds.weights * _BYTES_PER_WEIGHT + _SLACK_BYTES
    for name, most in largest.items():
        _check_bound(_("bytes of {name}", name=name), archive.getinfo(name).file_size, most)
    # A member that is longer than it says ends where it said, and its checksum is then wrong.
    return {name: archive.read(name) for name in _MEMBERS}


def _check_bound(what: str, size: int, most: int) -> None:
    if size > most:
        raise Foreign(
            _(
                "it would take {found:,} {what}, at most {most:,} are allowed; bounds=Bounds(...) "
                "of load_classifier allows more",
                found=size,
                what=what,
                most=most,
            )
        )


def _check_weights(content: bytes, bounds: Bounds) -> None:
    """Checks the arrays of an HDF5 file: no links, nothing outside the file, finite numbers."""
    with h5py.File(io.BytesIO(content), "r") as file:
        arrays = list(_arrays(file))
        taken = sum(math.prod(array.shape) * array.dtype.itemsize for _name, array in arrays)
        most = bounds.weights * _BYTES_PER_WEIGHT
        _check_bound(_("bytes of {name}", name=_("arrays")), taken, most)
        for name, array in arrays:
            if array.dtype.kind == "f" and not np.isfinite(array[()]).all():
                raise Foreign(
                    _("its weights {name} hold NaN or infinity", name=printable(name, 100))
                )


def _is_plain(array: h5py.Dataset) -> bool:
    numbers = array.dtype.kind in "fiubV" and array.shape is not None
    return numbers and not array.external and not array.is_virtual


def _arrays(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields path and array of all that is in a file; groups may hold themselves."""
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    met = 0
    while waiting:
        path, group = waiting.pop()
        for key in group:
            name, met = f"{path}/{key}", met + 1
            hard = isinstance(group.get(key, getlink=True), h5py.HardLink)
            if not hard or met > _MOST_ARRAYS or name.count("/") > _DEEPEST:
                raise Foreign(
                    _("its weights {name} are not where they belong", name=printable(name, 100))
                )
            part: Any = group[key]
            if isinstance(part, h5py.Group):
                waiting.append((name, part))
                continue
            array = part if isinstance(part, h5py.Dataset) else None
            if array is None or not _is_plain(array):
                raise Foreign(_("its weights {name} are not numbers", name=printable(name, 100)))
            yield name, array

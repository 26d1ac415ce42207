"""Files of bars with bytes changed at random: read or refused with their name, no traceback."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layout_files import FRAMES, JSONS, TEXTS
from mutations import mutated, restructured

from core.errors import InputError
from data.bars.formats.faults import NUMBERS
from data.bars.read import read_bars

ROUNDS = 2000


def originals():
    """Returns name and bytes of a good file of every form."""
    found = {}
    for place, (name, text, _times, _words) in enumerate(TEXTS.values()):
        found[f"{place}/{name}"] = text.encode()
    for place, (name, value) in enumerate(JSONS.values()):
        found[f"j{place}/{name}"] = json.dumps(value).encode()
    for place, (name, make, _times) in enumerate(FRAMES.values()):
        for suffix in ("parquet", "feather"):
            raw = io.BytesIO()
            getattr(make(), f"to_{suffix}")(raw)
            found[f"f{place}/{name.rpartition('.')[0]}.{suffix}"] = raw.getvalue()
    csv = next(iter(TEXTS.values()))[1].encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A.csv", csv)
    found["p/A.zip"] = packed.getvalue()
    found["p/A.csv.gz"] = gzip.compress(csv)
    found["p/A.csv.zst"] = pa.compress(csv, codec="zstd", asbytes=True)
    return found


COLUMNS = [
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([[1.0]] * n),
    lambda n: pa.array([None] * n),
    lambda n: pa.array([b"\xff\x00"] * n),
    lambda n: pa.array([True] * n),
    lambda n: pa.array(["1,5"] * n).dictionary_encode(),
    lambda n: pa.array([2**63] * n, pa.uint64()),
    lambda n: pa.array([10**30] * n, pa.decimal128(38, 2)),
    lambda n: pa.array([10**11] * n, pa.timestamp("s", tz="Asia/Tokyo")),
    lambda n: pa.array([1] * n, pa.duration("us")),
    lambda n: pa.array([-(10**6)] * n, pa.date32()),
    lambda n: pa.array([3600] * n, pa.time32("s")),
    lambda n: pa.array([[(1, 2.0)]] * n, pa.map_(pa.int32(), pa.float64())),
]


def of_other_columns(raw: bytes, random: np.random.Generator) -> bytes:
    """Returns a Parquet file with columns of other types, and names that are doubled or lost."""
    table = pq.read_table(io.BytesIO(raw))
    names = list(table.column_names)
    for _ in range(random.integers(1, 3)):
        place = int(random.integers(len(names)))
        if random.random() < 0.7:
            column = COLUMNS[random.integers(len(COLUMNS))](table.num_rows)
            table = table.set_column(place, names[place], column)
        else:
            names[place] = ["", "open", "a.b", "\x1b", "('Open', 'A')", names[0]][
                random.integers(6)
            ]
            table = table.rename_columns(names)
    written = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), written)
    return written.getvalue()


def changed(name: str, raw: bytes, random: np.random.Generator) -> bytes:
    """Returns a file that differs from a good one in its bytes, or in what they mean."""
    if name.endswith(".json") and random.random() < 0.7:
        return json.dumps(restructured(json.loads(raw), random)).encode()
    if name.endswith(".parquet") and random.random() < 0.7:
        return of_other_columns(raw, random)
    return mutated(raw, random)


def judge(folder, name, raw):
    """Returns whether the file was read; anything but bars or a refusal with its name fails."""
    path = folder / name.partition("/")[2]
    path.write_bytes(raw)
    try:
        bars = read_bars(path)
    except InputError as error:
        assert error.faults
        for fault in error.faults:
            assert path.name in fault and fault.isprintable() and len(fault) < 1500, fault
        return False
    finally:
        path.unlink()
    assert np.isfinite(bars[list(NUMBERS)].to_numpy()).all() and bars["timestamp"].notna().all()
    assert all(symbol.strip() and symbol.isprintable() for symbol in bars["symbol"].cat.categories)
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_thousands_of_mutated_files_are_read_or_refused_with_their_name(tmp_path):
    files = list(originals().items())
    outcomes = []
    for seed in range(ROUNDS):
        random = np.random.default_rng(seed)
        name, raw = files[seed % len(files)]
        try:
            outcomes.append(judge(tmp_path, name, changed(name, raw, random)))
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name}") from error
    assert 0.05 < np.mean(outcomes) < 0.95  # neither all read nor all refused


def test_the_originals_are_read(tmp_path):
    assert all(judge(tmp_path, name, raw) for name, raw in originals().items())

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from tiny_run import ROOT

import core.lock
from core.errors import InputError
from data.bars.synthetic import random_walk
from data.market.market import build_market
from data.market.parts import by_symbol
from data.market.rows import open_rows
from data.market.settings import MarketSettings
from data.market.store import FolderTable, MemoryTable, folder_of, open_store
from data.market.store_folder import INDEX_NAME, read_index
from data.market.training_rows import training_statistics
from data.market.windows import gather

SETTINGS = MarketSettings(
    sequence_length=10,
    future_window=4,
    label_method="triple_barrier",
    price_change_threshold=0.004,
    target_class_ratios=(0.33, 0.40, 0.33),
    embargo_bars=3,
    max_gap_bars=2,
)


def blocks():
    rng = np.random.default_rng(0)
    for rows in (3, 0, 5):
        yield {
            "features": rng.normal(size=(rows, 2)).astype(np.float32),
            "symbols": np.full(rows, rows, np.int16),
            "timestamps": np.arange(rows).astype("datetime64[ns]"),
        }


def add(table, block):
    kinds = {name: (values.dtype, values.shape[1:]) for name, values in block.items()}
    rows = len(next(iter(block.values())))
    for name, column in table.grow(rows, kinds).items():
        column[:] = block[name]


def filled(table):
    for block in blocks():
        add(table, block)
    return table.finish()


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_a_table_is_the_blocks_one_after_another(kind, tmp_path):
    columns = filled(MemoryTable() if kind == "memory" else FolderTable(tmp_path / "store"))
    for name in ("features", "symbols", "timestamps"):
        expected = np.concatenate([block[name] for block in blocks()])
        np.testing.assert_array_equal(columns[name], expected)
        assert columns[name].dtype == expected.dtype


def test_columns_of_a_folder_are_mapped_and_read_only(tmp_path):
    columns = filled(FolderTable(tmp_path))
    assert all(isinstance(values, np.memmap) for values in columns.values())
    with pytest.raises(ValueError, match="read-only"):
        columns["features"][0] = 1


def test_a_finished_store_opens_again(tmp_path):
    columns = filled(FolderTable(tmp_path))
    again = open_store(tmp_path)
    assert set(again) == set(columns)
    np.testing.assert_array_equal(again["features"], columns["features"])


def test_an_earlier_store_is_replaced(tmp_path):
    filled(FolderTable(tmp_path))
    table = FolderTable(tmp_path)
    add(table, {"close": np.ones(4)})
    table.finish()
    assert [path.name for path in tmp_path.rglob("*.bin")] == ["close.bin"]
    assert len(list(tmp_path.iterdir())) == 2 and set(open_store(tmp_path)) == {"close"}


def test_an_unfinished_store_has_no_columns(tmp_path):
    table = FolderTable(tmp_path)
    add(table, next(blocks()))
    assert open_store(tmp_path) == {}


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="new or empty folder .* letter.txt"):
        FolderTable(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written: "):
        FolderTable(tmp_path / "file")


def test_a_folder_without_a_store_does_not_open(tmp_path):
    with pytest.raises(ValueError, match=f"must hold {INDEX_NAME}"):
        open_store(tmp_path)


def test_a_market_with_a_store_equals_the_one_in_memory(tmp_path):
    bars = random_walk(3, 700).drop(index=range(1000, 1010)).reset_index(drop=True)
    here = build_market(bars, SETTINGS)
    there = build_market(bars, SETTINGS, feature_store=tmp_path / "store")
    assert isinstance(there.features, np.memmap)
    for name in ("features", "timestamps", "symbols", "forward_return", "close", "bounds"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    for name in ("train", "validation", "test", "labels", "persistence", "threshold"):
        expected = getattr(here.folds[0], name)
        np.testing.assert_array_equal(expected, getattr(there.folds[0], name))
    ends = here.folds[0].test
    np.testing.assert_array_equal(gather(here.features, ends, 10), gather(there.features, ends, 10))
    for here_figures, figures in zip(
        training_statistics(here, here.folds[0]),
        training_statistics(there, there.folds[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(here_figures, figures)


def test_another_process_opens_the_market_that_one_made(tmp_path):
    bars = random_walk(num_symbols=2, num_bars=700, seed=3)
    made = build_market(bars, SETTINGS, feature_store=tmp_path)
    opened = build_market(None, SETTINGS, feature_store=tmp_path)
    assert isinstance(opened.features, np.memmap)
    for name, expected in vars(made).items():
        if name != "folds":
            np.testing.assert_equal(getattr(opened, name), expected)
    for name, expected in vars(made.folds[0]).items():
        np.testing.assert_equal(getattr(opened.folds[0], name), expected)


def test_a_store_that_was_broken_off_is_not_opened_as_a_market(tmp_path):
    FolderTable(tmp_path)
    with pytest.raises(InputError, match="is not finished"):
        build_market(None, SETTINGS, feature_store=tmp_path)


def test_of_two_writers_at_once_each_gets_its_own_rows(tmp_path):
    markets, together = [random_walk(2, 700, seed=seed) for seed in (1, 2)], threading.Barrier(2)
    found = {}

    def parts(bars):
        for own in by_symbol(bars):
            together.wait()  # each writes a symbol before the other writes its next
            yield own

    def build(number):
        found[number] = build_market(parts(markets[number]), SETTINGS, feature_store=tmp_path)

    writers = [threading.Thread(target=build, args=(number,)) for number in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for number, bars in enumerate(markets):
        expected = build_market(bars, SETTINGS)
        np.testing.assert_array_equal(found[number].features, expected.features)
        np.testing.assert_array_equal(found[number].folds[0].labels, expected.folds[0].labels)
    folders = {folder_of(market.features) for market in found.values()}
    assert len(folders) == 2 and read_index(tmp_path) in [read_index(each) for each in folders]


HOLD = """
import sys
import numpy as np
from data.market.parts import by_symbol
from data.market.rows import open_rows
from data.market.store import FolderTable
table = FolderTable(sys.argv[1])
table.grow(2, {"close": (np.float32, ())})["close"][:] = 7
columns = table.finish()
print("finished", flush=True)
sys.stdin.read()
"""


def test_what_another_process_maps_stays_until_it_has_ended(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as other:
        other.stdout.readline()
        theirs = tmp_path / read_index(tmp_path)["made"]
        filled(FolderTable(tmp_path))
        assert (open_store(theirs)["close"] == [7, 7]).all()
        other.kill()
    filled(FolderTable(tmp_path))
    assert not theirs.exists()


def test_a_disk_without_locks_keeps_all_files(tmp_path, monkeypatch):
    monkeypatch.setattr(core.lock, "_locked", lambda handle: None)
    for _ in range(2):
        filled(FolderTable(tmp_path))
    assert len(list(tmp_path.rglob("features.bin"))) == 2


def test_a_later_store_that_breaks_off_leaves_the_columns_of_one_that_is_in_use(tmp_path):
    columns = filled(FolderTable(tmp_path))
    FolderTable(tmp_path)
    np.testing.assert_array_equal(open_store(tmp_path)["features"], columns["features"])


def test_equal_rows_have_one_digest_however_they_were_divided(tmp_path):
    columns, digests = filled(FolderTable(tmp_path)), []
    for parts, changed in [(1, 0), (2, 0), (2, 1)]:
        table = FolderTable(tmp_path)
        for start in range(0, 8, 8 // parts):
            part = {name: v[start : start + 8 // parts] for name, v in columns.items()}
            add(table, part | {"features": part["features"] + changed})
        table.finish()
        digests.append(read_index(tmp_path)["sha256"])
    assert digests[0] == digests[1] != digests[2]


def changed(index, **values):
    return json.dumps(index | values)


@pytest.mark.parametrize(
    "breaks",
    [
        lambda index: "{",
        lambda index: "[]",
        lambda index: "[" * 100_000,
        lambda index: changed(index, rows="many"),
        lambda index: changed(index, rows=-1),
        lambda index: changed(index, rows=9),
        lambda index: changed(index, rows=10**30),
        lambda index: changed(index, columns=None),
        lambda index: changed(index, columns={"../close": {"dtype": "<f4", "shape": []}}),
        lambda index: changed(index, columns={"close": {"dtype": "|O", "shape": []}}),
        lambda index: changed(index, columns={"none": {"dtype": "<f4", "shape": []}}),
        lambda index: changed(index, columns={"close": {"dtype": "x", "shape": 3}}),
        lambda index: changed(index, made=".."),
        lambda index: changed(index, made=7),
        lambda index: changed(index, facts={"feature_names": 3}),
        lambda index: changed(index, facts=7),
    ],
)
def test_a_broken_store_is_told_as_one_and_made_again(breaks, tmp_path):
    table = FolderTable(tmp_path)
    add(table, {"close": np.ones(8, np.float32)})
    columns = table.finish({"feature_names": [], "symbol_names": [], "bounds": [0, 8]})
    (tmp_path / INDEX_NAME).write_text(breaks(read_index(tmp_path)))
    with pytest.raises(InputError, match="is broken .*: delete it|is not finished"):
        open_rows(tmp_path)
    assert (columns["close"] == 1).all()
    filled(FolderTable(tmp_path))
    assert len(open_store(tmp_path)["features"]) == 8


def test_every_store_has_a_name_of_its_own(tmp_path):
    names = set()
    for _ in range(2):
        filled(FolderTable(tmp_path))
        names.add(read_index(tmp_path)["made"])
    assert len(names) == 2

import numpy as np
import pytest

from core.errors import InputError
from data.bars.synthetic import random_walk
from data.market.market import build_market, training_statistics
from data.market.store import INDEX_NAME, FolderTable, MemoryTable, open_store, read_index
from data.market.windows import gather

SETTINGS = {
    "sequence_length": 10,
    "future_window": 4,
    "label_method": "triple_barrier",
    "price_change_threshold": 0.004,
    "target_class_ratios": (0.33, 0.40, 0.33),
    "embargo_bars": 3,
    "max_gap_bars": 2,
}


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["close.bin", INDEX_NAME]


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
    here = build_market(bars, **SETTINGS)
    there = build_market(bars, **SETTINGS, feature_store=tmp_path / "store")
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
    made = build_market(bars, **SETTINGS, feature_store=tmp_path)
    opened = build_market(None, **SETTINGS, feature_store=tmp_path)
    assert isinstance(opened.features, np.memmap)
    for name, expected in vars(made).items():
        if name != "folds":
            np.testing.assert_equal(getattr(opened, name), expected)
    for name, expected in vars(made.folds[0]).items():
        np.testing.assert_equal(getattr(opened.folds[0], name), expected)


def test_a_store_that_was_broken_off_is_not_opened_as_a_market(tmp_path):
    FolderTable(tmp_path)
    with pytest.raises(InputError, match="is not finished"):
        build_market(None, **SETTINGS, feature_store=tmp_path)


def test_every_store_has_a_name_of_its_own(tmp_path):
    names = set()
    for _ in range(2):
        filled(FolderTable(tmp_path))
        names.add(read_index(tmp_path)["made"])
    assert len(names) == 2

import errno
import hashlib
import os
import signal

import numpy as np
import pytest

from models.training.callbacks.checkpoint import load_latest, save_checkpoint

ARRAYS = {
    "model/00000": np.arange(6, dtype="float32").reshape(2, 3),
    "seed": np.array([2**32 - 1, 7], "uint32"),
    "callbacks/best/0": np.array([np.nan, -0.0, 1e-45], "float32"),
    "scalar": np.array(5),
}
STATE = {"rows": [{"epoch": 0, "loss": 0.1 + 0.2}], "name": "ä", "none": None}


def save(folder, *epochs, size=1):
    for epoch in epochs:
        arrays = ARRAYS | {"epoch": np.full(size, epoch)}
        save_checkpoint(folder, epoch, arrays, STATE | {"of": epoch})


def names(folder):
    return sorted(os.listdir(folder))


def test_arrays_and_state_come_back_bit_for_bit(tmp_path):
    path = save_checkpoint(tmp_path / "new" / "folder", 4, ARRAYS, STATE)
    assert path.name == "epoch-000004.checkpoint"
    assert (latest := load_latest(tmp_path / "new" / "folder")) is not None
    epoch, arrays, state = latest
    assert epoch == 4 and state == STATE and list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype and arrays[name].shape == expected.shape
        assert arrays[name].tobytes() == expected.tobytes()


def test_no_folder_and_an_empty_folder_have_no_checkpoint(tmp_path):
    assert load_latest(tmp_path / "none") is None
    assert load_latest(tmp_path) is None
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert load_latest(tmp_path) is None


def test_the_last_two_are_kept(tmp_path):
    save(tmp_path, 0, 1, 2, 3)
    assert names(tmp_path) == ["epoch-000002.checkpoint", "epoch-000003.checkpoint"]


def test_those_of_an_abandoned_training_go(tmp_path):
    save(tmp_path, 7, 8)
    save(tmp_path, 0)
    assert names(tmp_path) == ["epoch-000000.checkpoint"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"\0" * len(content),
    ],
    ids=["last byte", "half", "empty", "one bit", "zeros"],
)
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_note(damage, tmp_path):
    save(tmp_path, 0, 1)
    newest = tmp_path / "epoch-000001.checkpoint"
    newest.write_bytes(damage(newest.read_bytes()))
    notes = []
    assert (latest := load_latest(tmp_path, notes.append)) is not None
    epoch, arrays, state = latest
    assert epoch == 0 and state["of"] == 0 and arrays["epoch"] == [0]
    (note,) = notes
    assert "epoch-000001.checkpoint is skipped" in note and "checksum mismatch" in note


def test_where_all_are_damaged_there_is_none_and_every_one_is_named(tmp_path):
    save(tmp_path, 0, 1)
    for name in names(tmp_path):
        (tmp_path / name).write_bytes(b"torn")
    notes = []
    assert load_latest(tmp_path, notes.append) is None
    assert len(notes) == 2


@pytest.mark.parametrize("body", [b"no archive", b"PK\3\4 no archive either"])
def test_a_file_with_a_right_checksum_that_is_none_of_ours_is_passed_over(body, tmp_path):
    save(tmp_path, 0)
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    (tmp_path / "epoch-000001.checkpoint").write_bytes(content)
    (tmp_path / "epoch-000002.checkpoint").mkdir()
    notes = []
    assert load_latest(tmp_path, notes.append)[0] == 0 and len(notes) == 1


def test_a_temporary_file_of_a_killed_save_is_no_checkpoint(tmp_path):
    save(tmp_path, 0)
    left = ".epoch-000001.0123456789abcdef.tmp.checkpoint"
    (tmp_path / left).write_bytes(b"half of a checkp")
    assert load_latest(tmp_path)[0] == 0
    save(tmp_path, 1)
    assert names(tmp_path) == [left, "epoch-000000.checkpoint", "epoch-000001.checkpoint"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_while_saving_leaves_the_older_files_whole(call, tmp_path, monkeypatch):
    save(tmp_path, 0, 1)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def disk_full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, disk_full)
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, 2)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    assert load_latest(tmp_path)[0] == 1


def test_a_disk_that_fills_up_in_the_middle_of_the_file_leaves_the_older_ones_whole(tmp_path):
    resource = pytest.importorskip("resource", reason="needs limits of a process: not on Windows")
    save(tmp_path, 0, 1)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_objects_are_refused_and_nothing_is_pickled(tmp_path):
    with pytest.raises(ValueError, match="arrays must hold numbers or texts, a holds objects"):
        save_checkpoint(tmp_path, 0, {"a": np.array([{}])}, {})
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 0, {}, {"a": object()})
    assert names(tmp_path) == []


def test_floats_of_the_state_keep_all_digits(tmp_path):
    values = [1 / 3, 1e-300, float("inf")]
    save_checkpoint(tmp_path, 0, {}, {"values": values})
    assert load_latest(tmp_path)[2]["values"] == values

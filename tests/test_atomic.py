import os

import pytest

from core.atomic import write


def test_what_was_saved_stands_at_the_path_and_nothing_else(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    seen = []
    write(path, lambda temporary: (seen.append(temporary), temporary.write_text("new")))
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["model.keras"]
    assert seen[0].parent == tmp_path and seen[0].suffix == ".keras" and seen[0] != path


def test_the_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a)))
    write(tmp_path / "a.txt", lambda temporary: temporary.write_text("a"))
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


@pytest.mark.parametrize("call", ["fsync", "replace", None])
def test_a_failure_leaves_the_older_file_whole_and_no_other(call, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fails(*arguments):
        raise OSError(28, "No space left on device")

    if call:
        monkeypatch.setattr(os, call, fails)

    def save(temporary):
        temporary.write_text("half")
        if not call:
            fails()

    with pytest.raises(OSError, match="No space left"):
        write(path, save)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]

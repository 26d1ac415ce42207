import os
import threading

import pytest

from core.atomic import clear, write


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


def test_a_thousand_reads_and_writes_at_once_are_all_whole(tmp_path):
    path = tmp_path / "table.csv"
    write(path, lambda temporary: temporary.write_text("0" * 5000))
    faults = []

    def work(number):
        for turn in range(125):
            try:
                if number % 2:
                    text = str(number) * 5000
                    write(path, lambda temporary, text=text: temporary.write_text(text))
                else:
                    found = path.read_text()
                    assert len(found) == 5000 and len(set(found)) == 1
            except (OSError, AssertionError) as error:
                faults.append((number, turn, error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and os.listdir(tmp_path) == ["table.csv"]


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path):
    left = []
    for folder in (tmp_path, tmp_path / "checkpoint"):
        folder.mkdir(exist_ok=True)
        write(folder / "a.b.txt", lambda temporary: (left.append(temporary), temporary.touch()))
        left[-1].write_text("half")
        (folder / ".mine.tmp.txt").write_text("mine")
    clear(tmp_path)
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert found == [
        ".mine.tmp.txt",
        "a.b.txt",
        "checkpoint/.mine.tmp.txt",
        "checkpoint/a.b.txt",
    ]


def test_the_longest_name_that_a_disk_knows_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 251}.csv"
    write(path, lambda temporary: temporary.write_text("a"))
    assert path.read_text() == "a"

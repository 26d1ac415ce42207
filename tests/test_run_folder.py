import sys

from recipe.run.folder import differences, other_runs_on, peak_memory_bytes, write_json


def test_differences_are_named_and_compared_as_json():
    before = {"flags": {"SEED": 0, "AFL_GAMMA": [1.0, 2.0]}, "bars": "ab12", "keras": "3.15.1"}
    now = {"flags": {"SEED": 1, "AFL_GAMMA": (1.0, 2.0)}, "bars": "cd34", "new": None}
    assert differences(before, now) == [
        "flags.SEED was 0 and is 1",
        'bars was "ab12" and is "cd34"',
        'keras was "3.15.1" and is null',
    ]
    assert differences(before, {**before}) == []


def test_a_system_without_peaks_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # an import of it fails
    assert peak_memory_bytes() is None


def test_a_copy_of_a_run_is_no_further_trial(tmp_path):
    for name, info in {"one": "a", "copy": "a", "two": "b", "other bars": "c"}.items():
        (tmp_path / name).mkdir()
        bars = "elsewhere" if info == "c" else "bars"
        write_json(tmp_path / name / "run.json", {"bars_sha256": bars, "command": [info]})
        write_json(tmp_path / name / "metrics.json", {})
    assert other_runs_on(tmp_path / "now", "bars") == 2

import sys

from recipe.run.folder import differences, peak_memory_bytes


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

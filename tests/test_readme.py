from pathlib import Path

import pytest

import config

ROOT = Path(config.__file__).parent
COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python train_model.py",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
]
ELSEWHERE = ("XLSTM_DATA_DIR", "XLSTM_GOLDEN_DIR", "KERAS_BACKEND")
READMES = pytest.mark.parametrize("name", ["README.md", "README.ru.md"])


@READMES
def test_the_two_commands_stand_at_the_top(name):
    top = (ROOT / name).read_text(encoding="utf-8").splitlines()[:10]
    assert [line.strip() for line in top if line.strip() in COMMANDS] == COMMANDS


@READMES
def test_every_module_is_in_the_file_map_and_every_entry_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    listed = {p.strip() for row in rows for p in row.split(",") if p.strip().endswith(".py")}
    there = {
        str(path.relative_to(ROOT))
        for folder in (".", "data", "models", "recipe")
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    assert listed == there


@READMES
def test_files_and_tests_of_the_improvements_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = [
        line for line in text.splitlines() if line.startswith(tuple(f"| {n} |" for n in "12345678"))
    ]
    assert len(rows) == 8
    for row in rows:
        for path in ",".join(row.split("|")[4:6]).split(","):
            assert (ROOT / path.strip()).exists(), path


@READMES
def test_every_flag_named_in_a_readme_is_one(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for part in text.split("`")[1::2]:
        if part.isupper() and "_" in part and "." not in part and part not in ELSEWHERE:
            assert part in config._flag_types(), part

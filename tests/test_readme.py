from pathlib import Path

import pytest

import config

ROOT = Path(config.__file__).parent
COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python train_model.py",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
]
ELSEWHERE = ("XLSTM_DATA_DIR", "XLSTM_GOLDEN_DIR", "XLSTM_SECRET", "KERAS_BACKEND")
READMES = pytest.mark.parametrize("name", ["README.md", "README.ru.md"])


@READMES
def test_the_two_commands_stand_at_the_top(name):
    top = (ROOT / name).read_text(encoding="utf-8").splitlines()[:10]
    assert [line.strip() for line in top if line.strip() in COMMANDS] == COMMANDS


@READMES
def test_the_tree_names_every_folder_and_only_those(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    tree = next(part for part in text.split("```") if "\ntrain_model.py " in part)
    stack, listed = [], set()
    for line in tree.strip().splitlines():
        entry = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        stack[depth:] = [entry]
        listed.add("".join(stack))
    there = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in tracked("*.py")}
    there |= {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in tracked("*.ipynb")}
    there = there - {"./"} | {path.name for path in ROOT.glob("*.py")}
    assert listed - {"tests/golden/"} == there - {"tests/golden/"}


def tracked(pattern):
    rooms = "core data models evaluation recipe tests benchmarks notebooks examples".split()
    return [path for room in rooms for path in (ROOT / room).rglob(pattern)]


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
            assert part in config.Flags.__annotations__, part

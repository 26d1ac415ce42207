import re
import tomllib
from pathlib import Path

import pytest

import config

ROOT = Path(config.__file__).parent
COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python train_model.py",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
]
ELSEWHERE = ("XLSTM_DATA_DIR", "XLSTM_GOLDEN_DIR", "XLSTM_SECRET", "KERAS_BACKEND")
MOST_LINES = 130
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAIRS = [("README.md", "docs/index.md"), ("README.ru.md", "docs/ru/index.md")]
READMES = pytest.mark.parametrize("name", ["README.md", "README.ru.md"])
EVERY = pytest.mark.parametrize("name", ["README.md", "README.ru.md", *PAGES])


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


@READMES
def test_the_two_commands_stand_at_the_top(name):
    top = text_of(name).splitlines()[:16]
    assert [line.strip() for line in top if line.strip() in COMMANDS] == COMMANDS


@READMES
def test_a_readme_is_short_and_names_the_other_language_in_its_first_lines(name):
    lines = text_of(name).splitlines()
    other = {"README.md": "README.ru.md", "README.ru.md": "README.md"}[name]
    assert len(lines) <= MOST_LINES
    assert f"({other})" in "".join(lines[:3])


@EVERY
def test_what_a_page_links_to_is_there(name):
    links = re.findall(r"\]\(([^)#\s]+)", text_of(name))
    for link in links:
        if not link.startswith("https://"):
            assert (ROOT / name).parent.joinpath(link).exists(), link


def test_every_page_is_in_the_navigation_and_linked_from_a_first_page():
    navigation = text_of("mkdocs.yml").split("\nnav:")[1]
    listed = re.findall(r": (\S+\.md)", navigation)
    assert sorted(f"docs/{page}" for page in listed) == PAGES
    for readme, index in PAIRS:
        linked = {
            Path(index).parent / link for link in re.findall(r"\]\((\S+?\.md)\)", text_of(index))
        }
        beside = {path.relative_to(ROOT) for path in (ROOT / index).parent.glob("*.md")}
        assert beside - {Path(index)} <= {Path(path) for path in linked}
        assert index in text_of(readme)


@pytest.mark.parametrize(
    "page", ["commands", "data", "python", "flags", "market", "studies", "serving", "young"]
)
def test_commands_and_code_of_both_languages_are_the_same(page):
    def commands(name):
        lines = [line for line in text_of(name).splitlines() if line.startswith("    python ")]
        return [re.split(r"  +", line.strip())[0] for line in lines]

    assert commands(f"docs/{page}.md") == commands(f"docs/ru/{page}.md")
    flags = [
        set(re.findall(r"`([A-Z_]{4,})", text_of(f"docs/{part}.md")))
        for part in (page, f"ru/{page}")
    ]
    assert flags[0] == flags[1]


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/ru/architecture.md"])
def test_the_tree_names_every_folder_and_only_those(name):
    tree = next(part for part in text_of(name).split("```") if "\ntrain_model.py " in part)
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
    rooms.append("xlstm_classifier")
    return [path for room in rooms for path in (ROOT / room).rglob(pattern)]


@pytest.mark.parametrize("name", ["README.md", "README.ru.md", "docs/flags.md", "docs/ru/flags.md"])
def test_files_and_tests_of_the_improvements_exist(name):
    rows = [
        line
        for line in text_of(name).splitlines()
        if line.startswith(tuple(f"| {n} |" for n in "12345678"))
    ]
    assert len(rows) == 8
    for row in rows:
        for path in ",".join(row.split("|")[4:6]).split(","):
            assert (ROOT / path.strip()).exists(), path


@EVERY
def test_every_flag_named_on_a_page_is_one(name):
    spans = re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL).split("`")[1::2]
    for part in " + ".join(spans).split(" + "):
        if part.isupper() and "_" in part and "." not in part and part not in ELSEWHERE:
            assert part in config.Flags.__annotations__, part


@EVERY
def test_files_named_on_a_page_are_there(name):
    rooms = "benchmarks|examples|notebooks|recipe|tests|models|data|core|evaluation"
    for path in re.findall(rf"(?<![\w/])(?:{rooms})/[\w/]+\.(?:py|md|ipynb)", text_of(name)):
        assert (ROOT / path).exists(), path


@EVERY
def test_extras_named_on_a_page_are_there(name):
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    for extra in re.findall(r"'?\.\[([a-z,-]+)\]", text_of(name)):
        assert set(extra.split(",")) <= set(extras)

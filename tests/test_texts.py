"""Texts of others on their way out: to a terminal, a spreadsheet, a page, a refusal."""

import base64
import hashlib
import io
import re

import pandas as pd
import pytest

import config
from core.errors import InputError, one_line, printable
from evaluation.report.formats import with_policy
from recipe.cli import console
from recipe.live.newest import _append
from recipe.serve.guards import plain_cells
from recipe.study.page import _page

STEERING = "\x1b[2J\x1b]0;title\x07\u202e\r\x9b31m"


@pytest.mark.parametrize("shown", [printable, one_line])
def test_codes_that_steer_a_terminal_are_escaped(shown):
    text = shown(f"BTC{STEERING}")
    assert text.isprintable() and text.startswith("BTC\\x1b")
    assert one_line("1\N{NO-BREAK SPACE}000 баров") == "1\N{NO-BREAK SPACE}000 баров"


def test_long_texts_are_cut():
    assert len(printable("x" * 10**6)) == 60 and len(one_line("x" * 10**6)) < 1000
    assert one_line("x" * 900) == "x" * 900


def test_a_refusal_is_a_few_lines_for_a_terminal():
    error = InputError([f"{STEERING}{'x' * 100_000}"] * 5000)
    assert len(error.faults) == 100 and all(len(line) < 1000 for line in error.faults)
    assert all(line.isprintable() for line in error.faults)


@pytest.mark.parametrize(
    "arguments",
    [
        {"assignments": ["SEED=" + "9" * 100_000]},
        {"assignments": ["x" * 100_000]},
        {"assignments": ["X" * 100_000 + "=1"]},
        {"LABEL_METHOD": "y" * 100_000},
        {"LR_BASE": "1e999"},
        {"LR_BASE": float("inf")},
        {"SEED": "9" * 400},
        {"EMA_DECAY": 10**400},
        {"SUPERVISED_EPOCHS": 1e300},
        {"SEED": STEERING},
    ],
)
def test_flags_that_are_none_are_refused_in_a_short_line(arguments):
    with pytest.raises(InputError) as raised:
        config.load(**arguments)
    (fault,) = raised.value.faults
    assert len(fault) < 500 and fault.isprintable()


def test_the_screen_shows_no_codes_of_others(capsys):
    row = dict(p_sell=0.2, p_hold=0.3, p_buy=0.5, unfamiliar=0.0, call="BUY")
    row |= {"timestamp": pd.Timestamp("2024-01-01"), "symbol": STEERING}
    console.note(STEERING)
    console.table({"run": 9}, [[STEERING]])
    console.answers(pd.DataFrame([row]))
    shown = capsys.readouterr().out
    assert shown.count("\\x1b[2J") == 3
    assert all(line.isprintable() for line in shown.splitlines())


FORMULAS = ["=HYPERLINK(0)", "+1", "-1", "@SUM(1)"]


def test_no_symbol_is_a_formula_in_a_table_of_answers(tmp_path):
    table = pd.DataFrame({"symbol": pd.Categorical([*FORMULAS, "BTC/USDT"]), "p_sell": -0.1})
    written = plain_cells(table)
    assert written["symbol"].tolist() == [*(f"'{name}" for name in FORMULAS), "BTC/USDT"]
    assert plain_cells(table[4:]) is not None and plain_cells(table[4:]).equals(table[4:])
    _append(tmp_path / "a.csv", written)
    _append(tmp_path / "a.csv", written)
    lines = io.StringIO((tmp_path / "a.csv").read_text()).readlines()[1:]
    assert len(lines) == 10 and not any(line.startswith(tuple("=+-@")) for line in lines)


def policy_of(page):
    (meta,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return dict(part.strip().split(" ", 1) for part in meta.split(";"))


def test_a_page_runs_its_own_script_alone_and_loads_nothing():
    page = '<html><head><meta charset="utf-8">\n</head><script>\nlet a = 1;\n</script></html>'
    policy = policy_of(with_policy(page))
    digest = base64.b64encode(hashlib.sha256(b"\nlet a = 1;\n").digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'" and policy["default-src"] == "'none'"
    assert policy_of(with_policy(page.replace("script", "b")))["script-src"] == "'none'"


def test_every_page_has_a_policy(finished):
    policy = policy_of((finished / "report.html").read_text())
    assert policy["img-src"] == "data:" and "unsafe" not in policy["script-src"]
    page = (finished / "report.html").read_text()
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"<[^>]*\son\w+=", re.sub("<script>.*?</script>", "", page, flags=re.S))


def test_the_page_of_a_study_has_a_policy(tmp_path):
    from recipe.study import plan

    flags = config.load()
    found = plan.make(tmp_path / "study", "seeds", None, flags, 1, database=False)
    runs = pd.DataFrame([{"cell": "a", "arm": "a", "seed": 0, "state": "open"}])
    assert policy_of(_page(found, runs, [], {"pictures": {}}))

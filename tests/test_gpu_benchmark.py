"""The pieces of benchmarks/gpu.py, without a GPU and without looking at times."""

import importlib.util
import subprocess
import sys

import pytest
from tiny_run import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu  # noqa: E402
from gpu_page import Found, Row, page  # noqa: E402
from gpu_work import Ceilings, Work, limit, work_of  # noqa: E402

with_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)
ROWS = [Row(f"row {n}", "", "jax", "step", {"n": n}, most=30) for n in range(4)]
OURS = {
    "flops": {"float32": 1e12, "bfloat16": 2e12},
    "bandwidth": 1e9,
    "turn": 1e-5,
    "launch": 1e-6,
    "step": 1e-3,
    "device": "a card",
    "jax": "1.0",
}
GAVE = {"seconds": 0.1, "count": 50, "work": {"flops": 5e10, "moved": 1e6}}


class Program:
    """Takes so many seconds of a clock for each row, and fails where it is told to."""

    now, made = 0.0, 0

    def __init__(self, name):
        Program.made += 1

    def ask(self, row, seconds):
        Program.now += min(seconds, 10)
        return {"fault": "out of memory"} if row.arguments["n"] == 1 else GAVE

    def end(self):
        pass


@pytest.fixture
def found_within():
    Program.now, Program.made = 0.0, 0
    looks = []

    def measured(seconds):
        found = gpu.measure(ROWS, seconds, looks.append, lambda: Program.now, Program)
        assert len(looks) <= len(ROWS)
        return found

    return measured


def test_the_rows_are_those_that_are_asked_for_and_each_once():
    rows = gpu.planned(small=False)
    steps = [row.arguments for row in rows if row.kind == "step"]
    asked = {(step["units"], step["batch"], step["policy"]) for step in steps}
    assert len(asked) == len(steps) == 30
    assert {step["batch"] for step in steps} >= {16, 4096}
    for row in rows:
        given = row.arguments
        if row.kind in ("mlstm", "slstm", "official"):
            assert given["batch"] * given["time_steps"] == 65_536 and given["heads"] == 16
    assert {row.arguments["width"] for row in rows if row.kind == "mlstm"} == {128, 256}
    first = [(row.program, row.kind) for row in rows].index
    assert first(("jax", "ceilings")) < first(("jax", "step"))


def test_a_row_that_fails_is_left_out_and_the_next_has_a_new_process(found_within):
    found = found_within(1000)
    assert [row.name for row, _ in found.rows] == ["row 0", "row 2", "row 3"]
    assert [(row.name, why) for row, why in found.left] == [("row 1", "out of memory")]
    assert Program.made == 2


def test_no_row_begins_where_the_time_is_over(found_within):
    found = found_within(29)
    assert Program.now <= 29
    assert [why for _, why in found.left] == ["out of memory", *["no time left"] * 2]


def test_a_process_that_takes_too_long_or_ends_is_a_fault(tmp_path, monkeypatch):
    for code, told in (("import time; time.sleep(60)", "not done in 1 s"), ("1 / 0", "ZeroDiv")):
        script = tmp_path / "program.py"
        script.write_text(code)
        monkeypatch.setattr(gpu, "__file__", str(script))
        program = gpu.Program("jax")
        if "sleep" not in code:
            program.process.wait()
        assert told in program.ask(ROWS[0], 1)["fault"]
        program.end()


@with_jax
def test_products_bytes_turns_and_launches_are_counted():
    import jax
    import jax.numpy as jnp

    batch, width, turns = 5, 8, 7
    w, x = jnp.ones((width, width)), jnp.ones((batch, width))

    def function(w, x):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), h), x @ w, length=turns)[1].sum()

    product, arrays = 2 * batch * width**2, 4 * batch * width
    found = work_of(jax.jit(function), w, x)
    once = 2 * arrays + 4 * width**2
    assert found.flops == product * (1 + turns)
    assert (found.turns, found.launches) == (turns, 1)
    assert found.moved == once + 4 * width**2 + 2 * arrays + turns * arrays
    back = work_of(jax.grad(function, argnums=(0, 1)), w, x)
    assert back.turns == 2 * turns and back.flops == 3 * found.flops


def test_the_largest_part_limits_and_none_does_where_all_are_small():
    parts = Ceilings(OURS["flops"], 1e9, 1e-5, 1e-6, 1e-3).seconds(
        Work(4e10, 1e7, 1e3, 1e3, 1), "bfloat16"
    )
    expected = {"arithmetic": 0.02, "memory bandwidth": 0.01, "launches": 0.011}
    assert parts == pytest.approx(expected | {"Keras between steps": 1e-3})
    assert limit(parts, 0.04) == "arithmetic, 50%"
    assert limit(parts, 0.2) == "none of these; arithmetic, 10%"


def test_the_page_has_each_row_its_limit_and_what_is_missing():
    golden = Row("golden", "highest", "golden", "float32", {})
    failed = {"passed": 60, "failed": ["tests/test_golden.py::a"], "stopped": "stopped after 9 s"}
    ceilings = Row("ceilings", "", "jax", "ceilings", {})
    rows = [(ceilings, OURS), (golden, failed), (ROWS[0], GAVE)]
    told = page(Found(rows, [(ROWS[1], "no time left")]))
    assert "60 hold, 1 do not: tests/test_golden.py::a; stopped after 9 s" in told
    limits = "arithmetic 50, memory bandwidth 1 | arithmetic, 50% |"
    assert f"| row 0 |  | float32 | 100 | 500 | {limits}" in told
    assert "15.3" in told and "Left out: row 1" in told and "(no time left)" in told
    assert "no limits are told" in page(Found([(ROWS[0], GAVE)]))


@with_jax
@pytest.mark.slow
def test_it_ends_with_a_table_on_a_cpu(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--out", str(tmp_path / "gpu.md")]
    done = subprocess.run(
        [*command, "--only", "jax"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "gpu.md").read_text() in done.stdout + "\n"
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert sum("ours" in row for row in rows) == 5
    assert sum("training step" in row for row in rows) == 2
    assert "Left out" not in done.stdout


@with_jax
@pytest.mark.slow
def test_golden_numbers_hold_and_their_failures_are_counted():
    found = gpu.golden("highest", 300, "mlstm_core_from and float32")
    assert found["passed"] >= 3 and not found["failed"] and not found["stopped"]

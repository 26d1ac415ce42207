"""What the screen says: lines elsewhere, drawn tables on a terminal, nothing with --quiet."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from report_run import training_run
from tiny_run import settings

import train_model
from evaluation import verdict_words
from evaluation.figures.run import Chosen, Member, Split
from recipe.cli import console
from recipe.cli.screen import table

RUN_INFO = {"wall_seconds": 61.2, "peak_memory_bytes": 1.5e9}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def metrics():
    return training_run()[0]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    return Terminal()


def test_where_it_is_no_terminal_the_end_is_aligned_text(metrics, capsys):
    console.conclude(metrics, Path("runs/one"), RUN_INFO)
    lines = capsys.readouterr().out.splitlines()
    test, given = metrics.test, metrics.baselines["constant prior"].test
    assert lines[1:4] == [
        "test windows            direction  movement     MCC  bal. acc.     NLL     ECE",
        f"xLSTM                      {test.direction:.4f}    {test.movement:.4f}  "
        f"{test.mcc:.4f}     {test.balanced_accuracy:.4f}  {test.nll:.4f}  "
        f"{test.ece:.4f}",
        f"constant prior             0.0000    0.0000  0.0000     0.3333  {given.nll:.4f}  "
        f"{given.ece:.4f}",
    ]
    assert lines[5] == "true, predicted        SELL     HOLD      BUY"
    counts = "".join(f"{count:>9,}" for count in test.confusion[0])
    assert lines[6] == f"SELL              {counts}"
    told = verdict_words.lines(metrics.verdict)
    first = lines.index(f"verdict    {told[0]}")
    assert lines[first + 1 : -2] == [f"{'':<11}{line}" for line in told[1:]]
    assert lines[-2:] == ["run        61 s, 1.50 GB at its peak", "report     runs/one/report.html"]


def test_the_members_of_a_fold_stand_beside_their_mean(metrics, capsys):
    (fold,) = metrics.folds
    members = [
        Member(seed, Chosen("val_nll", seed), {}, [], fold.validation, replace(fold.test, mcc=mcc))
        for seed, mcc in enumerate((0.111, 0.222))
    ]
    several = replace(metrics, folds=[replace(fold, members=members)])
    console.conclude(several, Path("runs/one"), RUN_INFO)
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("members ")]
    nll = f"{fold.test.nll:.4f}"
    assert line.endswith(
        f"test MCC 0.1110  0.2220, together {fold.test.mcc:.4f}; NLL {nll}  {nll}, together {nll}"
    )


def test_a_peak_of_memory_that_no_one_knows_is_left_out(metrics, capsys):
    console.conclude(metrics, Path("runs/one"), RUN_INFO | {"peak_memory_bytes": None})
    assert "\nrun        61 s\n" in capsys.readouterr().out


def test_on_a_terminal_the_same_figures_are_drawn(metrics, terminal):
    with contextlib.redirect_stdout(terminal):
        console.conclude(metrics, Path("runs/one"), RUN_INFO)
    text = terminal.getvalue()
    assert "───" in text
    test = metrics.test
    for figure in (test.direction, test.movement, test.mcc, test.nll, test.ece):
        assert f"{figure:.4f}" in text
    assert metrics.verdict.sentence in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


SPLITS = {
    "train": Split(
        windows=7078,
        class_counts={"SELL": 1987, "HOLD": 2671, "BUY": 2420},
        first_time="2001-05-10T00:00:00",
        last_time="2009-07-01T00:00:00",
    )
}


def test_splits_are_lines_elsewhere_and_drawn_on_a_terminal(capsys, terminal):
    console.describe(SPLITS)
    assert capsys.readouterr().out == (
        "train        7,078 windows  SELL 28.1%  HOLD 37.7%  BUY 34.2%  2001-05-10 to 2009-07-01\n"
    )
    with contextlib.redirect_stdout(terminal):
        console.describe(SPLITS)
    drawn = terminal.getvalue()
    assert "───" in drawn and "37.7%" in drawn and "2009-07-01" in drawn


def test_names_are_no_markup(terminal):
    with contextlib.redirect_stdout(terminal):
        console.table({"run": 10, "[red]MCC[/red]": 5}, [["runs/[bold]x", "1"]])
    assert "runs/[bold]x" in terminal.getvalue() and "[red]MCC[/red]" in terminal.getvalue()


LONG = "the quick brown fox jumps over the lazy dog " * 4


@pytest.mark.parametrize("columns", [80, 120, 30])
def test_a_text_is_wrapped_by_words_where_the_width_is_known(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    console.log("name", LONG + "runs/" + "x" * 130)
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("name       the quick") and len(others) > 1
    assert all(line.startswith(" " * 11) and line[11] != " " for line in others)
    *words, path = [first, *others]
    assert path.strip() == "runs/" + "x" * 130  # never broken
    assert max(map(len, words)) <= max(columns, 40)
    assert " ".join(" ".join(words).split()[1:]) == LONG.strip()


def test_a_text_is_one_line_where_no_one_says_how_wide_it_may_be(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    console.log("name", LONG)
    assert capsys.readouterr().out == f"name       {LONG}\n"


def test_an_epoch_is_one_line_and_counts_from_1(capsys):
    row = {"loss": 0.8356, "val_nll": 1.0712, "val_direction": 0.03, "val_mcc": 0.1}
    console.epoch(2, 10, row, 4.2)
    console.epoch(0, 10, {"loss": 1.0}, 754.0)
    assert capsys.readouterr().out == (
        "epoch      3/10  loss 0.836  val NLL 1.0712  direction +0.030  4 s\n"
        "epoch      1/10  loss 1.000  13 min\n"
    )


@pytest.mark.parametrize(
    "devices, told", [(["cpu:0"], "CPU, "), (["gpu:0", "gpu:1"], "2 × GPU"), (["tpu:0"], "1 × TPU")]
)
def test_the_device_is_told(devices, told, capsys):
    console.announce_device(devices)
    assert capsys.readouterr().out.startswith(f"device     {told}")


@pytest.mark.parametrize(
    "seconds, told", [(9.4, "9 s"), (119, "119 s"), (900, "15 min"), (3723, "1 h 2 min")]
)
def test_times_are_told_as_people_say_them(seconds, told):
    assert console.took(seconds) == told


@pytest.mark.parametrize("data", [None, "bars"])
def test_only_the_demo_ends_with_a_market_that_has_something_to_find(metrics, data, capsys):
    console.conclude(metrics, Path("runs/one"), RUN_INFO | {"data": data})
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert (last == console.TRY_NEXT) == (data is None)


def test_what_takes_long_is_a_line_elsewhere(capsys):
    with console.working("baselines", "boosted trees"):
        pass
    assert capsys.readouterr().out == "baselines  boosted trees\n"


def test_what_takes_long_shows_the_time_left_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(terminal), console.working("reading", "bars/") as done:
        for share in (0.25, 0.5, 0.1):  # what comes next begins anew
            done(share)
    assert terminal.getvalue().startswith("reading    bars/\n") and "━" in terminal.getvalue()


def test_the_time_that_folds_still_take_is_told_once_one_is_over(capsys):
    for arguments in [(0, 1), (0, 3), (1, 3, 3723.4)]:
        console.announce_number(*arguments)
    said = "fold       1 of 3\nfold       2 of 3, about 1 h 2 min left\n"
    assert capsys.readouterr().out == said


def test_quiet_says_nothing_but_errors(bars_file, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--data", str(bars_file), "--quiet", "--brief", "--out", str(out)]
    short = settings(XLSTM_BLOCKS="m", SUPERVISED_EPOCHS=1, LR_WARMUP_EPOCHS=0)
    assert train_model.main([*arguments, *short]) == 0
    told = capsys.readouterr()
    assert told.out == "" and (out / "metrics.json").exists()
    assert train_model.main([*arguments, *short]) == 2
    assert "must not exist yet" in capsys.readouterr().err


def test_a_table_in_a_pipe_is_80_columns_wide_unless_its_cells_are_wider(capsys):
    names = {
        "run": 30,
        "val. direction": 16,
        "test direction": 16,
        "test MCC": 10,
        "above best": 31,
    }
    row = ["runs/first-run", "+0.1234", "+0.1234", "+0.1234", "-0.0123 (-0.0223 to +0.0123)"]
    table(names, [row])
    head, second, cells = capsys.readouterr().out.splitlines()
    assert max(map(len, (head, second, cells))) <= 80
    assert head.split() == ["run", "val.", "test", "test", "above"]
    assert second.split() == ["direction", "direction", "MCC", "best"]
    assert cells.split("  ")[0] == row[0] and cells.endswith(row[-1])
    table(names, [["r" * 70, *row[1:]]])
    assert "r" * 70 in capsys.readouterr().out

"""The verb `study`: what it refuses, and a study from the command to its page."""

import json
import subprocess

import pytest
from study_workers import made
from tiny_run import command, settings

import train_model
from recipe.study import plan as plans


@pytest.mark.parametrize(
    "options, text",
    [
        (["ablation", "--set", "USE_PRIOR_BIAS=false"], "improvement 2"),
        (["ablation", "--trials", "3"], "counts its seeds"),
        (["sweep", "--seeds", "3"], "counts its trials"),
        (["seeds", "--seeds", "0"], "at least 1"),
        (["seeds", "--workers", "0"], "at least 1"),
        (["seeds", "somewhere"], "--out DIR"),
        (["work"], "needs the folder"),
        (["show", "nowhere"], "study.json"),
        (["work", "nowhere", "--seeds", "3"], "--seeds"),
    ],
)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(options, text, tmp_path, capsys):
    out = [] if options[0] in ("work", "show") else ["--out", str(tmp_path / "study")]
    assert train_model.main(["study", *options, *out]) == 2
    told = capsys.readouterr().err
    assert text in told and told.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_a_folder_that_is_there_is_refused(tmp_path, capsys):
    assert train_model.main(["study", "seeds", "--out", str(tmp_path)]) == 2
    assert "must not exist yet" in capsys.readouterr().err


def test_bars_that_cannot_be_read_fail_each_cell_with_the_reason(tmp_path, capsys):
    folder = tmp_path / "study"
    asked = ["seeds", "--seeds", "1", "--data", str(tmp_path / "none.csv"), "--out", str(folder)]
    assert train_model.main(["study", *asked]) == 1
    told = capsys.readouterr().out
    assert "1 of 1 cells done" not in told and "0 running, 1 failed" in told
    assert "as-flagged-seed0: status 2" in told and "none.csv" in told
    assert train_model.main(["study", "show", str(folder)]) == 1


def test_a_plan_that_was_read_again_is_the_same(tmp_path):
    for kind in plans.KINDS:
        plan = made(tmp_path / kind, kind=kind)
        assert plans.load(plan.folder).cells == plan.cells


@pytest.mark.slow
def test_two_workers_train_an_ablation_as_one_does(bars_file, tmp_path):
    told = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        asked = ["ablation", "--data", bars_file, "--seeds", "1", "--workers", workers]
        asked += ["--out", folder, *settings(SUPERVISED_EPOCHS=2, AFL_WARMUP_EPOCHS=1)]
        subprocess.run(command("study", *asked), check=True, cwd=tmp_path)
        told[workers] = {
            path.parent.name: json.loads(path.read_text())["folds"][0]["test"]
            for path in folder.glob("runs/*/metrics.json")
        }
        page = (folder / "study.html").read_text()
        assert "18 of 18 cells done" in page
    assert told[1] == told[2] and len(told[1]) == 18

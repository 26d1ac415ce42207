import json
import os
import shutil
import signal
import socket
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from tiny_run import command, metrics_of, settings, undrawn, wait_for

import recipe.run.run
import train_model
from core.errors import InputError
from data.bars.synthetic import persistent_drift
from models.training.callbacks.checkpoint import load_latest, save_checkpoint
from recipe.run import folder as files
from recipe.run import market
from recipe.run.origin import check_checkpoints


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(market, "read_market", interrupted)
    assert train_model.main(["--out", str(tmp_path / "run")]) == 130
    assert "nothing was written yet" in capsys.readouterr().err
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text('{"data": null}')
    (tmp_path / "old" / "config.json").write_text("{}")
    assert train_model.main(["resume", str(tmp_path / "old")]) == 130
    assert f"resume {tmp_path / 'old'}" in capsys.readouterr().err


def killed_run(folder, bars_file, epoch, delay, kill, *more):
    """Starts a run and kills it some time after the checkpoint of an epoch was written."""
    process = subprocess.Popen(
        command("--data", bars_file, "--out", folder, *settings(), *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder / "checkpoint" / "fold-0" / f"epoch-{epoch:06d}.checkpoint", process)
    time.sleep(delay)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_a_killed_run_that_goes_on_ends_as_if_never_killed(finished, bars_file, tmp_path):
    folder = tmp_path / "one"
    delay = np.random.default_rng(0).uniform(0, 0.5)
    status, _ = killed_run(folder, bars_file, 0, delay, signal.SIGKILL, "--brief")
    assert status == -signal.SIGKILL and not (folder / "metrics.json").exists()
    assert train_model.main(["resume", str(folder)]) == 0
    ours, expected = metrics_of(folder), metrics_of(finished)
    assert ours["test"] == expected["test"]
    for figures in ("chosen", "calibration", "collapse", "mining", "repeats"):
        assert ours["folds"][0][figures] == expected["folds"][0][figures]
    assert (folder / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    tables = [pd.read_parquet(f / "predictions.parquet") for f in (folder, finished)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    last = "checkpoint/fold-0/epoch-000002.checkpoint"
    assert (folder / last).exists()


@pytest.fixture(scope="module")
def uninterrupted(bars_file, tmp_path_factory):
    """A run in a process of its own: in that of the tests the last digits may differ."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    subprocess.run(command("--data", bars_file, "--out", folder, *settings()), check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number, epoch", list(enumerate([0, 1, 1, 2])))
def test_a_run_killed_at_a_random_point_goes_on(number, epoch, uninterrupted, bars_file, tmp_path):
    folder = tmp_path / "one"
    delay = np.random.default_rng(number).uniform(0, 3)
    killed_run(folder, bars_file, epoch, delay, signal.SIGKILL)
    done = subprocess.run(command("resume", folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics_of(folder) == metrics_of(uninterrupted)
    for name in ("history.csv", "predictions.parquet", "checkpoint/fold-0/epoch-000002.checkpoint"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name


@pytest.mark.slow
def test_ctrl_c_ends_a_training_cleanly(bars_file, tmp_path):
    folder = tmp_path / "one"
    status, errors = killed_run(folder, bars_file, 0, 0.03, signal.SIGINT)  # while it trains
    assert status == 130
    assert errors.strip() == f"interrupted; go on with: python train_model.py resume {folder}"


def test_a_changed_flag_or_file_is_refused_with_its_name(finished, tmp_path, capsys):
    folder = tmp_path / "one"
    shutil.copytree(finished, folder)
    (folder / "metrics.json").unlink()
    assert train_model.main(["resume", str(folder), "--set", "EMA_DECAY=0.5"]) == 2
    assert "EMA_DECAY" in capsys.readouterr().err
    other = tmp_path / "other.parquet"
    persistent_drift(num_symbols=3, num_bars=900, seed=2).to_parquet(other)
    assert train_model.main(["resume", str(folder), "--data", str(other)]) == 2
    assert "bars_sha256" in capsys.readouterr().err


@pytest.fixture
def broken_off(finished, tmp_path):
    """A copy of a run that was killed after its last epoch."""
    folder = tmp_path / "broken off"
    shutil.copytree(finished, folder)
    for name in ("metrics.json", "report.html"):
        (folder / name).unlink()
    return folder


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "value"), [("SEED", 5), ("LR_BASE", 0.01), ("CE_WEIGHT_END", 0.5), ("COST_BPS", 0.0)]
)
def test_an_edited_config_is_refused_with_its_flag(name, value, broken_off, capsys):
    before = json.loads((broken_off / "config.json").read_text())[name]
    edit(broken_off / "config.json", **{name: value})
    assert train_model.main(["resume", str(broken_off)]) == 2
    told = capsys.readouterr().err
    assert told == f"flags.{name} was {before} and is {value}; --force accepts it\n"
    assert not (broken_off / "metrics.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda origin: origin | {"fold": 1},
        lambda origin: origin | {"member": 1},
        lambda origin: origin | {"bars_sha256": "0" * 64},
        lambda origin: origin | {"store_sha256": "0" * 64},
        lambda origin: origin | {"flags": origin["flags"] | {"SEED": 1}},
    ],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_checkpoint_of_another_run_is_refused(change, force, broken_off, capsys):
    part = broken_off / "checkpoint" / "fold-0"
    assert (latest := load_latest(part)) is not None
    epoch, arrays, state = latest
    save_checkpoint(part, epoch, arrays, state | {"origin": change(state["origin"])})
    assert train_model.main(["resume", str(broken_off), *force]) == 2
    told = capsys.readouterr().err
    assert f"the checkpoint in {part} is of another run" in told and told.count("\n") == 1


def test_a_checkpoint_without_an_origin_needs_force(broken_off, capsys):
    part = broken_off / "checkpoint" / "fold-0"
    assert (latest := load_latest(part)) is not None
    epoch, arrays, state = latest
    save_checkpoint(part, epoch, arrays, {n: v for n, v in state.items() if n != "origin"})
    assert train_model.main(["resume", str(broken_off)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("the checkpoint in checkpoint/fold-0 does not say what it is of; --for")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", 7),
        ("command", ["train_model.py", 7]),
        ("data", 7),
        ("bars_sha256", []),
        ("versions", "new"),
        ("brief", "yes"),
        ("resumes", "2"),
        ("resumes", -1),
        ("accepted_changes", "all"),
        ("origins", []),
        ("origins", [7]),
    ],
)
def test_an_edited_run_json_is_refused_before_training(name, value, broken_off, capsys):
    edit(broken_off / "run.json", **{name: value})
    assert train_model.main(["resume", str(broken_off)]) == 2
    told = capsys.readouterr().err
    assert f"{broken_off / 'run.json'} was not written by a run: {name} is {value!r}" in told


@pytest.mark.parametrize("text", ['{"resumes": NaN}', '{"resumes": 1e999}', "[" * 100_000, "\0"])
def test_json_that_no_run_writes_is_refused(text, broken_off, capsys):
    (broken_off / "run.json").write_text(text)
    assert train_model.main(["resume", str(broken_off)]) == 2
    assert f"{broken_off / 'run.json'} must hold a JSON object" in capsys.readouterr().err


def test_a_run_that_another_process_writes_is_refused_with_its_pid(broken_off, capsys, monkeypatch):
    monkeypatch.setattr(files.lock, "__defaults__", (0,))
    with files.lock(broken_off):
        for arguments in (["resume", str(broken_off)], ["train", "--out", str(broken_off)]):
            assert train_model.main(arguments) == 2
            who = f"in use by process {os.getpid()} on {socket.gethostname()}"
            told = capsys.readouterr().err
            assert f"the run folder {broken_off} is {who}" in told and told.count("\n") == 1


def test_a_run_whose_report_failed_is_resumed_and_what_force_accepted_is_told_and_not_asked_again(
    finished, broken_off, monkeypatch
):
    def fails(*arguments, **options):
        raise RuntimeError("no ink")

    edit(broken_off / "config.json", COST_BPS=0.0)
    monkeypatch.setattr(recipe.run.run, "report_page", fails)
    with pytest.raises(RuntimeError, match="no ink"):
        train_model.main(["resume", str(broken_off), "--force"])
    before = metrics_of(broken_off)
    assert before["folds"][0]["test"] == metrics_of(finished)["folds"][0]["test"]
    assert not (broken_off / "report.html").exists() and not (broken_off / ".lock").exists()
    monkeypatch.undo()
    with undrawn():
        assert train_model.main(["resume", str(broken_off)]) == 0
    assert metrics_of(broken_off) == before
    run_info = json.loads((broken_off / "run.json").read_text())
    assert run_info["accepted_changes"] == ["flags.COST_BPS was 5.0 and is 0.0"]
    assert [origin["flags"]["COST_BPS"] for origin in run_info["origins"]] == [5.0, 0.0]
    page = (broken_off / "report.html").read_text()
    assert "flags.COST_BPS was 5.0 and is 0.0" in page[page.index("Machine and bars") :]
    assert check_checkpoints(broken_off, run_info["origins"]) == []
    with pytest.raises(InputError, match="another run"):
        check_checkpoints(broken_off, run_info["origins"][1:])


def test_what_a_killed_writer_left_is_removed_by_resume(broken_off, monkeypatch):
    left = broken_off / "checkpoint" / "fold-0" / ".epoch-000002.0123456789abcdef.tmp.checkpoint"
    left.write_bytes(b"half")
    assert train_model.main(["resume", str(broken_off), "--set", "SEED=9"]) == 2
    assert not left.exists()


def test_a_finished_run_is_not_run_again(finished, capsys):
    before = (finished / "metrics.json").read_bytes()
    assert train_model.main(["resume", str(finished)]) == 0
    assert f"is finished; its report is {finished / 'report.html'}" in capsys.readouterr().out
    assert (finished / "metrics.json").read_bytes() == before


def test_a_finished_run_without_a_report_names_its_figures(tmp_path, capsys):
    for name in ("config.json", "metrics.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "run.json").write_text('{"brief": true}')
    assert train_model.main(["resume", str(tmp_path)]) == 0
    found = capsys.readouterr().out
    assert f"is finished; its figures are in {tmp_path / 'metrics.json'}" in found

import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny_run import command

import config
import recipe.retrain.retrain as retraining
import train_model
from core.errors import InputError
from data.bars.synthetic import persistent_drift
from evaluation.paired import Paired
from models.deployable import contract_of, load_classifier
from recipe.live import newest
from recipe.retrain.beside import LOG, Beside, seconds_of
from recipe.run.folder import current_model
from recipe.run.market import market_settings
from recipe.serve.predict import classify

NUM_BARS = 1500


@pytest.fixture(scope="module")
def newer_bars(tmp_path_factory):
    """The bars of `finished`, and more that came since."""
    path = tmp_path_factory.mktemp("bars") / "newer.parquet"
    persistent_drift(num_symbols=3, num_bars=NUM_BARS, seed=1).to_parquet(path)
    return path


@pytest.fixture
def run_folder(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder


def better_by(nats):
    return Paired(1.0 - nats, 1.0, (-nats - 0.02, -nats + 0.02), 0.01, 30)


@pytest.fixture
def without_training(monkeypatch, finished):
    """Has a retraining take the files of another run for those of a training."""

    def trained(_, market, folder, **more):
        shutil.copytree(finished, folder)
        return {}

    monkeypatch.setattr(retraining, "run", trained)
    return lambda nats: monkeypatch.setattr(retraining, "compared", lambda *_: better_by(nats))


def retrain(folder, bars):
    return train_model.main(["retrain", str(folder), "--data", str(bars)])


def kept(folder):
    return sorted((folder / "retrained").iterdir())


def test_a_model_that_is_not_worse_answers_from_now_on(
    run_folder, newer_bars, without_training, capsys
):
    without_training(0.1)
    assert retrain(run_folder, newer_bars) == 0
    (new,) = kept(run_folder)
    assert current_model(run_folder) == new / "model.keras"
    told = capsys.readouterr().out.splitlines()[-1]
    assert "The new model answers" in told and "NLL 0.9000 against 1.0000" in told
    decision = json.loads((new / "decision.json").read_text())
    assert decision["taken"] and decision["against"] == "model.keras"
    assert (run_folder / "model.keras").exists()


def test_a_worse_model_is_kept_and_does_not_answer(
    run_folder, newer_bars, without_training, capsys
):
    without_training(-0.1)
    assert retrain(run_folder, newer_bars) == 0
    (new,) = kept(run_folder)
    assert current_model(run_folder) == run_folder / "model.keras"
    assert "The old model goes on" in capsys.readouterr().out.splitlines()[-1]
    assert not json.loads((new / "decision.json").read_text())["taken"]
    assert (new / "model.keras").exists() and not (new / "checkpoint").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["decision.json", "current.json"])
def test_a_kill_between_any_two_files_leaves_the_old_model_and_the_next_retraining_works(
    name, run_folder, newer_bars, without_training, monkeypatch
):
    without_training(0.1)
    write = retraining.files.write_json

    def killed(path, content):
        if path.name == name:
            raise Killed
        write(path, content)

    monkeypatch.setattr(retraining.files, "write_json", killed)
    with pytest.raises(Killed):
        retrain(run_folder, newer_bars)
    assert current_model(run_folder) == run_folder / "model.keras"
    monkeypatch.setattr(retraining.files, "write_json", write)
    time.sleep(1.1)  # a folder is named by the second
    assert retrain(run_folder, newer_bars) == 0
    assert current_model(run_folder) == kept(run_folder)[-1] / "model.keras"
    assert all((folder / "decision.json").exists() for folder in kept(run_folder))


def test_too_few_new_bars_are_refused_before_training(run_folder, bars_file, tmp_path, capsys):
    bars = pd.read_parquet(bars_file)
    few = tmp_path / "few.parquet"
    bars[bars["timestamp"] < bars["timestamp"].quantile(0.7)].to_parquet(few)
    assert retrain(run_folder, few) == 2
    told = capsys.readouterr().err
    assert "a new model needs at least 108 bars after" in told and told.count("\n") == 1
    assert not (run_folder / "retrained").exists()


def test_validation_and_test_lie_in_the_bars_that_came_since(finished, newer_bars):
    contract = contract_of(load_classifier(finished / "model.keras"))
    shares = {"TEST_FRACTION": 0.9, "VALIDATION_FRACTION": 0.05}
    wanted = market_settings(config.load(replay=finished / "config.json", **shares))
    found = retraining.shares_since(str(newer_bars), wanted, contract)
    times = pd.read_parquet(newer_bars)["timestamp"]
    ended = pd.Timestamp(contract["training_period"][1], tz="UTC")
    new = (times.max() - ended) / (times.max() - times.min())
    assert found["TEST_FRACTION"] == pytest.approx(new / 2)
    assert found["VALIDATION_FRACTION"] == 0.05


def test_a_real_retraining_ends_with_a_decision_and_a_model_that_answers(run_folder, newer_bars):
    assert retrain(run_folder, newer_bars) == 0
    (new,) = kept(run_folder)
    decision = json.loads((new / "decision.json").read_text())
    assert decision["num_blocks"] >= 2 and np.isfinite(decision["nll"] + decision["other"])
    expected = new / "model.keras" if decision["taken"] else run_folder / "model.keras"
    assert current_model(run_folder) == expected
    contracts = [contract_of(load_classifier(f / "model.keras")) for f in (run_folder, new)]
    ends = [contract["training_period"][1] for contract in contracts]
    assert ends[0] < ends[1]
    history = pd.read_csv(new / "history.csv")
    assert len(history) == json.loads((new / "config.json").read_text())["WARM_EPOCHS"]


@pytest.mark.slow
def test_kill_9_at_random_moments_leaves_a_model_that_answers(run_folder, newer_bars):
    rng, bars = np.random.default_rng(0), pd.read_parquet(newer_bars).tail(400)
    bars = bars.assign(symbol=bars["symbol"].astype(str))
    took = 0.0
    for attempt in range(8):
        begun = time.monotonic()
        process = subprocess.Popen(
            command("retrain", run_folder, "--data", newer_bars),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if attempt:  # the first one shows how long it takes
            time.sleep(rng.uniform(0.1, 1.0) * took)
            process.kill()
        process.wait()
        took = took or time.monotonic() - begun
        table = classify(load_classifier(current_model(run_folder)), bars)
        assert len(table)
    time.sleep(1.1)
    done = subprocess.run(command("retrain", run_folder, "--data", newer_bars), check=False)
    assert done.returncode == 0
    assert all((folder / "decision.json").exists() for folder in kept(run_folder))


# --- beside


@pytest.mark.parametrize(("span", "seconds"), [("5m", 300), ("12h", 43200), ("7d", 604800)])
def test_a_span_in_seconds(span, seconds):
    assert seconds_of(span) == seconds


@pytest.mark.parametrize("span", ["7", "0d", "-1d", "d", "7 d", "1y", ""])
def test_no_span_is_refused(span):
    with pytest.raises(InputError, match="--retrain-every must be a number with m, h, d or w"):
        seconds_of(span)


class Looked:
    """A `Beside` at a clock of its own, whose command is a piece of Python."""

    def __init__(self, run, code):
        (run / "run.json").write_text("{}")
        (run / "model.keras").write_bytes(b"old")
        self.run, self.code = run, code
        self.begin(time.time())

    def begin(self, now):
        """Starts anew, as after a kill."""
        self.now, self.told = now, []
        self.beside = Beside(
            self.run,
            self.run / "model.keras",
            [sys.executable, "-c", self.code],
            100,
            self.told.append,
            clock=lambda: self.now,
        )

    def ended(self):
        self.beside._process.wait(60)
        return self.beside.look()


SWITCH = """
import json, pathlib
new = pathlib.Path({run!r}) / "retrained" / "new"
new.mkdir(parents=True)
(new / "model.keras").write_bytes(b"new")
named = json.dumps({{"model": "retrained/new/model.keras"}})
(new.parent.parent / "current.json").write_text(named)
print("first"); print("it answers")
"""


def test_it_retrains_when_the_time_has_come_and_says_which_model_answers(tmp_path):
    looked = Looked(tmp_path, SWITCH.format(run=str(tmp_path)))
    with looked.beside:
        assert looked.beside.look() is None and looked.beside._process is None
        looked.now += 101
        looked.beside.look()  # starts it
        looked.ended()
        assert looked.beside.answers == tmp_path / "retrained" / "new" / "model.keras"
        begins, ended = looked.told
        assert f"retraining begins, its output is in {tmp_path / LOG}" in begins
        assert ended == "it answers" and looked.beside.look() is None


def test_a_retraining_that_fails_is_told_and_tried_again_after_the_span(tmp_path):
    looked = Looked(tmp_path, "import sys; print('no bars'); sys.exit(2)")
    with looked.beside:
        looked.now += 101
        looked.beside.look()
        assert looked.ended() is None
        told = looked.told[-1]
        assert "no bars" in told and "status 2" in told and str(tmp_path / LOG) in told
        looked.now += 99
        looked.beside.look()
        assert looked.beside._process is None
        looked.now += 2
        looked.beside.look()
        assert looked.beside._process is not None


def test_a_retraining_that_cannot_be_started_is_told_and_tried_again_after_the_span(tmp_path):
    looked = Looked(tmp_path, "print('done')")
    looked.beside.command = [str(tmp_path / "nothing")]
    with looked.beside:
        looked.now += 101
        assert looked.beside.look() is None and looked.beside.look() is None
        (told,) = looked.told
        assert "no retraining can be started" in told and "nothing" in told
        looked.beside.command = [sys.executable, "-c", "print('done')"]
        looked.now += 101
        looked.beside.look()
        assert looked.ended() is None and looked.told[-1] == "done"


def test_after_a_restart_the_span_counts_from_the_last_retraining(tmp_path):
    looked = Looked(tmp_path, "print('the old one goes on')")
    for path in (tmp_path / "run.json", tmp_path / "model.keras"):
        os.utime(path, (0, 0))
    looked.begin(time.time())
    looked.beside.look()
    looked.ended()
    for span, is_due in [(90, False), (120, True)]:
        looked.begin(time.time() + span)
        looked.beside.look()
        assert (looked.beside._process is not None) == is_due
    looked.ended()


def test_a_model_that_answers_by_now_is_taken_though_it_was_made_before_the_start(tmp_path):
    looked = Looked(tmp_path, SWITCH.format(run=str(tmp_path)))
    subprocess.run(looked.beside.command, check=True, stdout=subprocess.DEVNULL)
    assert looked.beside.look() == tmp_path / "retrained" / "new" / "model.keras"


def test_it_ends_the_retraining_that_is_under_way(tmp_path):
    looked = Looked(tmp_path, "import time; time.sleep(600)")
    with looked.beside:
        looked.now += 101
        looked.beside.look()
        process = looked.beside._process
    assert process.returncode is not None


def test_retraining_beside_needs_bars_an_exchange_and_to_follow(run_folder, capsys):
    given = ["predict", str(run_folder), "--exchange", "binance", "--retrain-every", "7d"]
    assert train_model.main([*given, "--follow"]) == 2
    assert "--retrain-every goes with --exchange and --follow" in capsys.readouterr().err


def test_answers_go_on_with_the_newer_model(monkeypatch):
    members = newest.Members(("A",), {"A": 1}, {})
    monkeypatch.setattr(newest, "contract_of", lambda model: {"interval_seconds": 900.0})
    monkeypatch.setattr(newest, "settings_of", lambda contract: SimpleNamespace(columns=()))
    monkeypatch.setattr(newest.exchanges, "open_exchange", lambda *_, **__: None)
    monkeypatch.setattr(newest, "members_of", lambda *_: (members, ""))
    monkeypatch.setattr(newest.following, "follow", lambda *_, **__: iter("abc"))
    monkeypatch.setattr(newest, "_answers", lambda model, *_, **__: model)
    models, answered = iter([None, "new", None]), []
    newest.answer_newest(
        "old",
        "binance",
        [],
        follow=True,
        out=None,
        note=print,
        answered=answered.append,
        newer=lambda: next(models),
    )
    assert answered == ["old", "old", "new"]

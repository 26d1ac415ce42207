import json
import pickle
import shutil

import pandas as pd
import pytest
from markupsafe import escape
from sklearn.base import clone
from tiny_run import TINY, metrics_of, undrawn

import config
import train_model
from core.errors import InputError
from models.training.callbacks.nan_guard import TrainingDiverged
from recipe.run import run as running
from xlstm_classifier import XLSTMClassifier

COLUMNS = ["timestamp", "symbol", "call", "p_sell", "p_hold", "p_buy", "unfamiliar"]


@pytest.fixture(scope="module")
def frame(bars_file):
    """The bars as a person might hold them: newest first, times of New York in the index."""
    bars = pd.read_parquet(bars_file)
    bars["timestamp"] = bars["timestamp"].dt.tz_convert("America/New_York")
    return bars.set_index("timestamp")[::-1]


@pytest.fixture(scope="module")
def fitted(frame):
    with undrawn():
        return XLSTMClassifier(**TINY).fit(frame, quiet=True)


def test_fit_gives_the_figures_of_the_command_line(fitted, finished):
    ours = fitted.report().parent
    assert metrics_of(ours) == metrics_of(finished)
    for name in ("predictions.parquet", "validation.parquet"):
        pd.testing.assert_frame_equal(*(pd.read_parquet(f / name) for f in (ours, finished)))
    before = (json.loads((f / "run.json").read_text())["bars_sha256"] for f in (ours, finished))
    assert len(set(before)) == 1


def test_predict_says_what_the_command_line_says(fitted, finished, bars_file, frame, tmp_path):
    table = tmp_path / "table.csv"
    command = ["predict", str(finished / "model.keras"), "--data", str(bars_file)]
    assert train_model.main([*command, "--out", str(table)]) == 0
    expected = pd.read_csv(table, parse_dates=["timestamp"])
    found = fitted.predict(frame)
    assert list(found.columns) == COLUMNS
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)
    newest = fitted.predict(frame, newest_only=True)
    last = found.groupby("symbol", as_index=False).last()
    pd.testing.assert_frame_equal(
        newest.sort_values("symbol", ignore_index=True), last[COLUMNS], check_dtype=False, rtol=1e-4
    )


def test_what_is_saved_answers_the_same_and_has_no_checkpoints(fitted, frame, tmp_path):
    saved = fitted.save(tmp_path / "kept")
    loaded = XLSTMClassifier.load(saved)
    pd.testing.assert_frame_equal(loaded.predict(frame), fitted.predict(frame))
    assert str(loaded.evaluate()) == str(fitted.evaluate())
    assert loaded.get_params() == fitted.get_params() and repr(loaded) == repr(fitted)
    assert not (saved / "checkpoint").exists() and [p.name for p in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(InputError, match="must not exist yet"):
        fitted.save(saved)


def test_a_run_of_the_command_line_is_loaded(finished, bars_file):
    loaded = XLSTMClassifier.load(finished)
    assert loaded.get_params() == config.as_dict(config.load(**TINY))
    assert len(loaded.predict(bars_file)) and loaded.report() == finished / "report.html"


def test_the_evaluation_has_verdict_and_table(fitted):
    found = fitted.evaluate()
    metrics = json.loads((fitted.report().parent / "metrics.json").read_text())
    assert found.verdict.replace("\n", " ") == metrics["verdict"]["sentence"]
    assert found.verdict.startswith("Skill in direction")
    assert found.table.loc["xLSTM", "nll"] == metrics["test"]["nll"]
    assert list(found.table.index) == ["xLSTM", *metrics["baselines"]]
    assert found.table["net_return"].notna().all()
    assert found.verdict in str(found)
    assert all(escape(line) in fitted._repr_html_() for line in found.verdict.splitlines())


def test_texts_of_others_are_escaped_in_the_card(fitted, tmp_path):
    folder = fitted.save(tmp_path / "kept")
    info = json.loads((folder / "run.json").read_text()) | {"data": "<b>bars</b>"}
    (folder / "run.json").write_text(json.dumps(info))
    page = XLSTMClassifier.load(folder)._repr_html_()
    assert "<b>bars" not in page and "&lt;b&gt;bars" in page


def test_the_report_is_copied_where_it_is_wanted(fitted, tmp_path):
    copy = fitted.report(tmp_path / "page.html")
    assert copy.read_bytes() == fitted.report().read_bytes()
    with pytest.raises(InputError, match="must not exist yet"):
        fitted.report(copy)


def test_the_flags_are_checked_by_name():
    with pytest.raises(InputError) as error:
        XLSTMClassifier(SUPERVISED_EPOCH=3)
    assert error.value.faults == ["unknown flag SUPERVISED_EPOCH; did you mean SUPERVISED_EPOCHS?"]
    model = XLSTMClassifier(SUPERVISED_EPOCHS=3)
    with pytest.raises(InputError):
        model.set_params(SUPERVISED_EPOCHS=0, SEED=1)
    assert model.get_params()["SEED"] == 0
    assert model.set_params(SEED=7) is model and model.get_params()["SEED"] == 7
    assert repr(model) == "XLSTMClassifier(SUPERVISED_EPOCHS=3, SEED=7)"
    assert "SEED=7" in model._repr_html_()


def test_it_is_cloned_as_estimators_of_scikit_learn_are(fitted):
    copy = clone(fitted)
    assert isinstance(copy, XLSTMClassifier)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(InputError, match="nothing is trained yet"):
        copy.evaluate()
    assert pickle.loads(pickle.dumps(copy)).get_params() == copy.get_params()
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(fitted)


@pytest.mark.parametrize("ask", ["evaluate", "report", "predict", "save"])
def test_nothing_is_answered_before_fit(ask, tmp_path):
    arguments = {"predict": ["synthetic:walk"], "save": [tmp_path / "new"]}.get(ask, [])
    with pytest.raises(InputError, match="nothing is trained yet"):
        getattr(XLSTMClassifier(), ask)(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.drop(columns="close"), "it lacks close"),
        (lambda f: f[:100], "a symbol needs at least"),
        (lambda f: "nowhere.csv", "no file or folder of bars at nowhere.csv"),
        (lambda f: "synthetic:nothing", "synthetic"),
        (lambda f: 3, "bars must be a DataFrame"),
    ],
)
def test_faults_of_bars_leave_nothing_behind(spoil, words, frame, tmp_path):
    model = XLSTMClassifier(**TINY)
    with pytest.raises(InputError) as error:
        model.fit(spoil(frame), tmp_path / "run", quiet=True)
    assert len(error.value.faults) == 1 and words in error.value.faults[0]
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="nothing is trained yet"):
        model.evaluate()


def test_labels_are_not_taken_for_a_folder(frame):
    with pytest.raises(InputError, match="must be a path, got Series; labels are made of the bars"):
        XLSTMClassifier(**TINY).fit(frame, frame["close"], quiet=True)


def test_a_fit_that_fails_leaves_the_model_of_before(fitted, frame, monkeypatch):
    before = str(fitted.evaluate())

    def diverges(*args, **kwargs):
        raise TrainingDiverged(0, None, "the loss is not finite")

    monkeypatch.setattr(running, "run", diverges)
    with pytest.raises(TrainingDiverged):
        fitted.fit(frame, quiet=True)
    assert str(fitted.evaluate()) == before and len(fitted.predict(frame))


def interrupted(model, frame, folder, monkeypatch):
    """Has training end as by Ctrl-C after its first checkpoint."""
    from models.training.callbacks.checkpoint import Checkpointer

    save = Checkpointer.on_epoch_end

    def then_stop(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpointer, "on_epoch_end", then_stop)
        with pytest.raises(KeyboardInterrupt):
            model.fit(frame, folder, quiet=True)


@pytest.mark.slow  # that a killed run goes on to the same figures is also seen by test_resume.py
@pytest.mark.parametrize("named", [True, False], ids=["in a folder", "in a temporary folder"])
def test_an_interrupted_fit_goes_on_to_the_same_figures(
    named, fitted, frame, tmp_path, monkeypatch
):
    folder = tmp_path / "run" if named else None
    model = XLSTMClassifier(**TINY)
    interrupted(model, frame, folder, monkeypatch)
    with pytest.raises(InputError, match="nothing is trained yet"):
        model.evaluate()
    with pytest.raises(InputError, match="LR_BASE was 0.002 and is 0.1"):
        model.set_params(LR_BASE=0.1).fit(frame, folder, resume=True, quiet=True)
    model.set_params(LR_BASE=2e-3).fit(frame, folder, resume=True, quiet=True)
    assert metrics_of(model.report().parent) == metrics_of(fitted.report().parent)
    info = json.loads((model.report().parent / "run.json").read_text())
    assert info["resumes"] == 1


def test_a_finished_run_is_taken_as_it_is(finished, bars_file, frame, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = (folder / "metrics.json").stat()
    model = XLSTMClassifier(**TINY).fit(frame, folder, resume=True, quiet=True)
    assert (folder / "metrics.json").stat() == before
    assert len(model.predict(frame))
    with pytest.raises(InputError, match="SEED was 0 and is 1"):
        XLSTMClassifier(**TINY, SEED=1).fit(frame, folder, resume=True, quiet=True)
    with pytest.raises(InputError, match="bars_sha256 was"):
        XLSTMClassifier(**TINY).fit(frame[5:], folder, resume=True, quiet=True)
    with pytest.raises(InputError, match="must not exist yet"):
        XLSTMClassifier(**TINY).fit(frame, folder, quiet=True)


def test_the_command_line_asks_for_bars_that_were_in_memory(fitted, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(fitted.report().parent, folder)
    (folder / "metrics.json").unlink()
    assert train_model.main(["resume", str(folder)]) == 2
    assert "were a DataFrame in memory: give them again" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_remarks_of_predict_are_warnings(fitted, frame):
    short = frame[frame["symbol"] == frame["symbol"].iloc[0]][:100].assign(symbol="NEW")
    with pytest.warns(UserWarning, match="symbol NEW is skipped"):
        fitted.predict(pd.concat([frame, short]))


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "model.keras", "run.json"])
def test_a_folder_that_lacks_a_part_is_told_in_one_line(name, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / name).unlink()
    with pytest.raises(InputError) as error:
        XLSTMClassifier.load(folder)
    assert len(error.value.faults) == 1 and name in error.value.faults[0]


@pytest.mark.slow
def test_a_made_up_market_is_fitted_in_silence_where_that_is_asked_for(capfd):
    flags = TINY | {"SUPERVISED_EPOCHS": 1, "STEPS_PER_EPOCH": 2}
    model = XLSTMClassifier(**flags)
    model.fit("synthetic:persistent_drift?bars=700&symbols=3", quiet=True)
    assert capfd.readouterr() == ("", "")
    assert "known_optimum" in model.evaluate().metrics


def test_the_names_of_the_package_are_there():
    import xlstm_classifier

    for name in dir(xlstm_classifier):
        assert getattr(xlstm_classifier, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xlstm_classifier.nothing  # noqa: B018


def test_bars_in_a_file_are_those_in_a_frame(fitted, bars_file, frame):
    pd.testing.assert_frame_equal(fitted.predict(bars_file), fitted.predict(frame))


@pytest.mark.parametrize("folder", [None, 1, ["models/first"]])
def test_what_is_no_path_is_refused_in_one_line(folder):
    with pytest.raises(InputError, match="must be a path, such as models/first, got") as told:
        XLSTMClassifier.load(folder)
    assert len(told.value.faults) == 1

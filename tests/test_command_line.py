"""What is typed wrong or short: the flag's name, the folder of a run, the newest bar alone."""

import json
import shutil

import pandas as pd
import pytest
from test_predict import make_model

import config
import train_model
from core.errors import InputError, hint
from data.bars.synthetic import random_walk
from data.features.settings import FeatureSettings
from models.calibration import RestoreProbabilities
from models.deployable import contract_of, make_deployable, save_model
from models.xlstm_rl_model import build_xlstm_classifier
from recipe.cli.study import SMALL, study
from recipe.serve.predict import classify


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run folder with a model alone, and bars for it."""
    folder = tmp_path_factory.mktemp("run")
    contract = contract_of(make_model())
    network = build_xlstm_classifier(
        contract["sequence_length"],
        len(contract["feature_names"]),
        units=4,
        num_heads=2,
        blocks="m",
    )
    model = make_deployable(network, RestoreProbabilities(), contract)
    save_model(model, folder / "model.keras")
    random_walk(2, 300).to_parquet(folder / "bars.parquet")
    return folder


@pytest.mark.parametrize(
    "arguments, told",
    [
        (
            ["--epochs", "5"],
            "unknown option --epochs; flags are set with --set SUPERVISED_EPOCHS=5",
        ),
        (["--lr=0.1"], "unknown option --lr; flags are set with --set LR_BASE=0.1"),
        (
            ["--ema-decay", "0.9"],
            "unknown option --ema-decay; flags are set with --set EMA_DECAY=0.9",
        ),
        (["LEARNING_RATE=1"], "unknown option LEARNING_RATE; flags are set with --set LR_BASE=1"),
        (
            ["train", "SEED=3"],
            "unknown option SEED; flags are set with --set SEED=3",
        ),
        (["predict", "a", "--epochs", "5"], "unrecognized arguments: --epochs 5"),
        (["--quite"], "unknown option --quite; did you mean --quiet?"),
        (["resume", "a", "b"], "unrecognized arguments: b"),
        (["--set", "LEARNING_RATE=0.1"], "unknown flag LEARNING_RATE; did you mean LR_BASE?"),
        (["--set", "ema_decy=0.1"], "unknown flag ema_decy; did you mean EMA_DECAY?"),
    ],
)
def test_whoever_misses_a_flag_is_told_its_name(arguments, told, capsys):
    assert train_model.main(arguments) == 2
    assert capsys.readouterr().err == told + "\n"


def test_what_other_tools_say_are_flags_and_is_none_of_ours():
    flags = config.as_dict(config.Flags())
    assert set(config.MEANT.values()) <= set(flags) and not set(config.MEANT) & set(flags)


def test_a_market_feature_that_is_misspelt_has_a_hint():
    with pytest.raises(InputError, match=r"got standrad; did you mean standard\?"):
        FeatureSettings(market=("standrad",))
    assert hint("xyz", ["standard"]) == ""


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        train_model.main(["--version"])
    assert ended.value.code == 0 and "keras 3." in capsys.readouterr().out


def test_predict_takes_a_run_folder(run, tmp_path, capsys):
    data = ["--data", str(run / "bars.parquet")]
    tables = []
    for model in (run, run / "model.keras"):
        out = tmp_path / f"{model.name}.csv"
        assert train_model.main(["predict", str(model), *data, "--out", str(out)]) == 0
        tables.append(pd.read_csv(out))
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["call"].isin(["SELL", "HOLD", "BUY"]).all()
    assert train_model.main(["predict", str(tmp_path), *data]) == 2
    assert f"{tmp_path} has no model.keras: is it a finished run?" in capsys.readouterr().err


def test_predict_newest_says_the_call_of_each_symbol(run, tmp_path, capsys):
    out, whole = tmp_path / "newest.csv", tmp_path / "all.csv"
    asked = ["predict", str(run), "--data", str(run / "bars.parquet")]
    assert train_model.main([*asked, "--newest", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert train_model.main([*asked, "--out", str(whole)]) == 0
    newest = pd.read_csv(out)
    last = pd.read_csv(whole).groupby("symbol", as_index=False).tail(1)
    pd.testing.assert_frame_equal(newest, last.reset_index(drop=True), atol=1e-6)
    assert [line.split()[2:4] for line in lines] == newest[["symbol", "call"]].to_numpy().tolist()
    assert train_model.main(["predict", str(run), "--exchange", "x", "--newest"]) == 2
    assert "--newest goes with --data" in capsys.readouterr().err


def test_newest_without_data_takes_the_bars_of_the_run_and_says_so(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    asked = ["predict", str(folder), "--newest"]
    assert train_model.main(asked) == 2
    assert "--newest needs --data PATH: no run.json in" in capsys.readouterr().err
    data = str(folder / "bars.parquet")
    assert train_model.main([*asked, "--data", data]) == 0
    expected = capsys.readouterr().out
    (folder / "run.json").write_text(json.dumps({"data": data}))
    assert train_model.main(asked) == 0
    told = capsys.readouterr()
    assert expected and told.out == expected
    assert f"the bars are those of the run: {data}" in told.err


def test_a_model_that_was_cut_off_says_so(run, tmp_path, capsys):
    model = tmp_path / "model.keras"
    shutil.copy(run / "model.keras", model)
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    assert train_model.main(["predict", str(model), "--data", str(run / "bars.parquet")]) == 2
    assert "its end is missing, so it was cut off: copy it again" in capsys.readouterr().err


def test_a_model_of_another_version_says_which_feature_changed(run):
    bars = pd.read_parquet(run / "bars.parquet")
    names = list(contract_of(make_model())["feature_names"])
    old = ["momentum", *names[1:]]
    with pytest.raises(InputError, match=f"trained on momentum, .* without {names[0]}; train"):
        classify(make_model(feature_names=old), bars)
    turned = [names[1], names[0], *names[2:]]
    with pytest.raises(InputError, match=f"the first that does not is {names[1]}; train it again"):
        classify(make_model(feature_names=turned), bars)


@pytest.mark.parametrize("action", ["ablation", "sweep", "seeds"])
def test_a_smoke_study_is_small(action, tmp_path, monkeypatch):
    def begun(options):
        import recipe.study.launch

        monkeypatch.setattr(recipe.study.launch, "run_workers", lambda plan, *_: plans.append(plan))
        return study(options)

    plans = []
    monkeypatch.setattr("recipe.cli.commands.study", begun)
    out = str(tmp_path / "study")
    assert train_model.main(["study", action, "--smoke", "--out", out, "--lang", "en"]) == 1
    (plan,) = plans
    assert plan.count == SMALL and plan.flags.SUPERVISED_EPOCHS == 2
    assert train_model.main(["study", "show", "--lang", "en", out]) == 0

"""What a study says, from run folders with planted answers."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

import config
from evaluation.answers import answers
from evaluation.figures.plain import to_plain
from evaluation.metrics import evaluate
from recipe.study import plan as plans
from recipe.study import results
from recipe.study.page import PAGE, RUNS, TABLE, WINNER, write_study

SKILL = {"all-on": 0.6, "all-off": 0.4, "without-8": 0.2, "without-3": 1.0}
TOGETHER, HELPS, HARMS = 0, 8, 3
PRIOR = (0.3, 0.4, 0.3)


def finish(plan, cell, skill, seconds=2.0, num_windows=600):
    """Writes the files of a finished run whose answers know the label by so much."""
    run = plan.run(cell)
    run.mkdir(parents=True)
    flags = plan.cells[cell].flags
    plan.flags_file(cell).write_text(json.dumps(config.as_dict(flags)))
    (run / "config.json").write_text(json.dumps(config.as_dict(flags)))
    (run / "run.json").write_text(json.dumps({"wall_seconds": seconds}))
    scores = {}
    for split, name in results.SPLITS.items():
        rng = np.random.default_rng([list(plan.cells).index(cell), len(split)])
        labels = np.random.default_rng(0).integers(0, 3, num_windows)
        logits = rng.normal(0, 0.5, (num_windows, 3))
        logits[np.arange(num_windows), labels] += skill + rng.normal(0, 0.02)
        given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        times = pd.date_range("2024-01-01", periods=num_windows, freq="3min", tz="UTC")
        table = pd.DataFrame({"timestamp": times, "symbol": "A", "label": labels})
        table[["p_sell", "p_hold", "p_buy"]] = given
        said = answers(given, PRIOR)
        table["call"], table["side"] = said.calls, said.sides
        table.to_parquet(run / name)
        scores[split] = evaluate(labels, given, PRIOR)
    metrics = {
        "num_folds": 1,
        "verdict": {"block_seconds": 3600.0},
        "timing": {"seconds_per_epoch": [9.0, seconds, seconds]},
        "folds": [to_plain(scores)],
    }
    (run / "metrics.json").write_text(json.dumps(metrics))


def ablation(folder, seeds=3):
    plan = plans.make(folder, "ablation", None, config.Flags(), seeds, database=False)
    for cell in plan.cells.values():
        off = cell.arm == "without-8"
        skill = SKILL.get(cell.arm, SKILL["all-off"] if cell.arm.startswith("only") else 0.6)
        finish(plan, cell.name, skill, seconds=1.0 if off else 2.0)
    return plan


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return ablation(tmp_path_factory.mktemp("studies") / "one")


def words(plan):
    effects = results.effects_table(plan)
    decided = effects[effects["word"] != ""]
    return dict(zip(decided["improvement"], decided["word"], strict=True))


def test_ensembles_of_two_seeds_share_no_member_and_take_longer(tmp_path):
    flags = config.Flags(SEED=4, ENSEMBLE_SIZE=3)
    plan = plans.make(tmp_path / "study", "seeds", None, flags, 2, database=False)
    assert [cell.flags.SEED for cell in plan.cells.values()] == [4, 7]
    finish(plan, "as-flagged-seed7", 0.5, seconds=2.0)
    assert results.training_seconds(plan, "as-flagged-seed7") == 2.0 * 3 * flags.SUPERVISED_EPOCHS


def test_what_helps_and_what_harms_is_found_and_nothing_else(studied):
    found = words(studied)
    assert [found.pop(n) for n in (TOGETHER, HELPS, HARMS)] == ["helps", "helps", "harms"]
    assert set(found.values()) == {"no difference seen"} and len(found) == 6


def test_the_effects_are_those_of_the_metrics_averaged_over_seeds(studied):
    effects = results.effects_table(studied).set_index(
        ["improvement", "comparison", "split", "measure"]
    )
    for split, measure in product(("validation", "test"), ("direction", "mcc")):
        differences = []
        for seed in range(3):
            both = [
                json.loads((studied.run(f"{arm}-seed{seed}") / "metrics.json").read_text())
                for arm in ("without-8", "all-on")
            ]
            one, other = (metrics["folds"][0][split][measure] for metrics in both)
            differences.append(one - other)
        row = effects.loc[8, "off", split, measure]
        assert row["effect"] == pytest.approx(np.mean(differences))
        assert row["low"] < row["effect"] < row["high"] < 0
    epochs = config.Flags().SUPERVISED_EPOCHS
    assert effects.loc[8, "off", "test", "mcc"]["cost_seconds"] == epochs * 1.0
    assert len(effects) == (1 + 8 * 2) * 2 * 4


def test_all_eight_together_are_one_question_and_not_corrected_for_eight(studied):
    effects = results.effects_table(studied)
    own = effects[effects["improvement"] == TOGETHER].set_index(["split", "measure"])
    assert set(own["comparison"]) == {"together"} and list(own["p_holm"]) == list(own["p"])
    nll = [
        np.mean(
            [
                results._measured(results._sums(studied, f"{arm}-seed{s}", "test"))["nll"]
                for s in range(3)
            ]
        )
        for arm in ("all-off", "all-on")
    ]
    assert own.loc[("test", "nll"), "effect"] == pytest.approx(nll[0] - nll[1])


def test_no_word_rests_on_test_windows(studied, tmp_path):
    plan = ablation(tmp_path / "two", seeds=3)
    for cell in plan.cells:
        path = plan.run(cell) / "predictions.parquet"
        table = pd.read_parquet(path)
        table[["p_sell", "p_hold", "p_buy"]] = np.random.default_rng(1).dirichlet(
            [1] * 3, len(table)
        )
        table.to_parquet(path)
    assert words(plan) == words(studied)


def test_the_page_says_the_words_shows_the_plot_first_and_names_every_run(studied):
    paths = write_study(studied, lambda name, text: None)
    assert [path.name for path in paths] == [PAGE, TABLE, RUNS]
    page = paths[0].read_text()
    assert page.index("<img") < page.index("<table") < page.index("<h2>Runs")
    assert '<td class="helps">helps' in page and '<td class="harms">harms' in page
    assert all(cell in page for cell in studied.cells)
    assert "54 of 54 cells done" in page
    assert page.index("<h2>All switched off") < page.index("<h2>Switched off")
    assert len(pd.read_csv(paths[2])) == 54


def test_a_study_half_way_shows_what_is_there(tmp_path):
    plan = plans.make(tmp_path / "study", "ablation", None, config.Flags(), 2, database=False)
    told = []
    write_study(plan, lambda name, text: told.append(text))
    assert told == ["no cell is done yet"]
    finish(plan, "all-on-seed0", 0.6)
    finish(plan, "without-4-seed0", 0.6)
    plan.end("all-on-seed1", plans.FAILED, "the bars are broken")
    write_study(plan, lambda name, text: told.append(text))
    assert words(plan) == {4: "too few seeds or blocks"}
    assert "all-on-seed1: the bars are broken" in (plan.folder / PAGE).read_text()


def test_a_sweep_is_won_on_validation_and_opens_the_test_windows_of_the_winner_alone(tmp_path):
    plan = plans.make(tmp_path / "study", "sweep", None, config.Flags(), 4, database=False)
    for cell, skill in zip(list(plan.cells)[:3], (0.3, 0.9, 0.5), strict=True):
        finish(plan, cell, skill)
    told = []
    write_study(plan, lambda name, text: told.append(text))
    assert told[0].startswith("trial-0001, the least validation NLL of 3 trials")
    runs = pd.read_csv(plan.folder / RUNS).set_index("cell")
    assert list(runs["test_mcc"].notna()) == [False, True, False, False]
    assert config.load(replay=plan.folder / WINNER) == config.Flags()


def test_seeds_say_how_much_is_luck(tmp_path):
    plan = plans.make(tmp_path / "study", "seeds", None, config.Flags(), 3, database=False)
    for cell, skill in zip(plan.cells, (0.3, 0.9, 0.5), strict=True):
        finish(plan, cell, skill)
    told = []
    write_study(plan, lambda name, text: told.append(text))
    spread = pd.read_csv(plan.folder / TABLE).set_index("measure")
    values = pd.read_csv(plan.folder / RUNS)["test_direction"]
    assert spread.loc["test_direction", "std"] == pytest.approx(values.std())
    assert told[0].startswith("3 of 3 seeds: test direction")


def rank(plan, cell, skill, num_symbols=12, num_bars=80):
    """Makes the windows of a finished run those of some symbols, with returns to be ranked by."""
    for number, name in enumerate(results.SPLITS.values()):
        rng = np.random.default_rng([list(plan.cells).index(cell), number])
        path, count = plan.run(cell) / name, num_symbols * num_bars
        table = pd.read_parquet(path).sample(count, replace=True, random_state=number)
        start = pd.Timestamp("2024-01-01", tz="UTC") + number * num_bars * pd.Timedelta("1h")
        times = pd.date_range(start, periods=num_bars, freq="1h")
        table["timestamp"] = np.tile(times, num_symbols)
        table["symbol"] = pd.Categorical(np.repeat([f"S{n}" for n in range(num_symbols)], num_bars))
        table["forward_return"] = skill * (table["p_buy"] - table["p_sell"]) + rng.normal(
            size=count
        )
        table.to_parquet(path)


def test_a_study_of_many_symbols_tells_rank_correlations_beside_the_rest(tmp_path):
    plan = ablation(tmp_path / "study", seeds=2)
    for cell in plan.cells.values():
        rank(plan, cell.name, 0.0 if cell.arm == "without-8" else 3.0)
    runs = results.runs_table(plan)
    first = list(plan.cells)[0]
    tables = {s: pd.read_parquet(plan.run(first) / name) for s, name in results.SPLITS.items()}
    by_bar = [
        (own["p_buy"] - own["p_sell"]).corr(own["forward_return"], method="spearman")
        for _, own in tables["test"].groupby("timestamp")
    ]
    assert runs.loc[0, "test_rank_correlation"] == pytest.approx(np.mean(by_bar))
    both = pd.concat(tables.values()).sort_values(["symbol", "timestamp"])
    both["said"] = both["p_buy"] - both["p_sell"]
    past = both.set_index("timestamp").groupby("symbol", observed=True)["said"]
    usual = past.transform(lambda own: own.rolling("5D", closed="left", min_periods=30).mean())
    both["usual"] = usual.to_numpy()
    tested = both[both["timestamp"] >= tables["test"]["timestamp"].min()]
    timing = [
        (own["said"] - own["usual"]).corr(own["forward_return"], method="spearman")
        for _, own in tested.groupby("timestamp")
    ]
    assert runs.loc[0, "test_timing"] == pytest.approx(np.mean(timing))
    effects = results.effects_table(plan).set_index(
        ["improvement", "comparison", "split", "measure"]
    )
    assert effects.loc[(HELPS, "off", "test", "rank_correlation"), "high"] < 0
    page = write_study(plan, lambda name, text: None)[0].read_text()
    assert "test rank correlation</th>" in page and 'alt="timing"' in page


def test_a_study_of_few_symbols_says_nothing_of_ranks(studied, tmp_path):
    plan = plans.make(tmp_path / "study", "seeds", None, config.Flags(), 1, database=False)
    (cell,) = plan.cells
    finish(plan, cell, 0.6)
    rank(plan, cell, 3.0, num_symbols=9)
    assert not [name for name in results.runs_table(plan) if "rank" in name]
    page = write_study(studied, lambda name, text: None)[0].read_text()
    assert "rank correlation" not in page and "timing" not in page


def test_windows_of_both_splits_are_a_past_once(tmp_path):
    plan = plans.make(tmp_path / "study", "seeds", None, config.Flags(), 1, database=False)
    (cell,) = plan.cells
    finish(plan, cell, 0.6)
    rank(plan, cell, 3.0)
    alone = results.runs_table(plan).loc[0, "test_timing"]
    paths = [plan.run(cell) / name for name in results.SPLITS.values()]
    validation, test = map(pd.read_parquet, paths)
    pd.concat([validation, test.iloc[::2]]).to_parquet(paths[0])
    results._read_sums.cache_clear()
    assert results.runs_table(plan).loc[0, "test_timing"] == pytest.approx(alone)

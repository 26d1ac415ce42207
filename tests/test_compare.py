"""Runs side by side: from folders to the page and the screen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from report_run import training_run

import train_model
from core.i18n import speaking
from evaluation.answers import Answers
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.summary import CrossSectionSummary, RunSummary
from evaluation.report.compare import Run, compare_page, compare_runs
from evaluation.verdict import verdict
from recipe.cli.compare import comparison
from recipe.run import folder as files

SAID = ["call", "side"]


def changed_run(run, name, validation_direction, **changes):
    (fold,) = run.metrics.folds
    fold = replace(fold, validation=replace(fold.validation, direction=validation_direction))
    return replace(run, name=name, metrics=replace(run.metrics, folds=[fold]), **changes)


@pytest.fixture(scope="module")
def runs():
    """The best, one whose answers are half those of chance, and one on other windows."""
    metrics, _, predictions = training_run()
    figures = from_plain(RunSummary, to_plain(metrics))
    run = Run("A", {"SEED": 0, "LR_BASE": 1e-3}, {"wall_seconds": 61.5}, figures, predictions)
    mixed = predictions.copy()
    for column in SAID:
        mixed.loc[::2, column] = np.roll(mixed.loc[::2, column], 1)
    mixed = mixed.sample(frac=1, random_state=0)
    return [
        changed_run(
            run,
            "other windows",
            0.1,
            flags={"SEED": 2, "LR_BASE": 1e-3},
            predictions=predictions.iloc[10:],
        ),
        changed_run(run, "worse", 0.2, flags={"SEED": 0, "LR_BASE": 1e-2}, predictions=mixed),
        changed_run(run, "best", 0.3),
    ]


def test_runs_are_sorted_by_validation_and_paired_where_windows_are_the_same(runs):
    rows = compare_runs(runs)["rows"]
    assert [row["name"] for row in rows] == ["best", "worse", "other windows"]
    assert [row["values"]["validation_direction"] for row in rows] == [0.3, 0.2, 0.1]
    best, worse, other = rows
    assert best["difference"] is other["difference"] is None
    assert not other["same_windows"]
    given = {run.name: run.predictions.sort_values("timestamp") for run in runs}
    expected = verdict(
        given["best"]["timestamp"].dt.tz_localize(None).to_numpy(),
        given["best"]["label"].to_numpy(),
        *(Answers(*given[name][SAID].to_numpy().T) for name in ("worse", "best")),
        baseline="best",
        block_seconds=9000,
    ).direction
    assert worse["difference"] == expected.difference < -0.1
    assert worse["interval"] == expected.difference_interval


def test_other_labels_are_not_compared(runs):
    _, worse, best = runs
    labels = (best.predictions["label"] + 1) % 3
    relabelled = replace(worse, predictions=worse.predictions.assign(label=labels))
    assert compare_runs([relabelled, best])["rows"][1]["interval"] is None


def test_only_flags_that_differ_are_told_in_the_order_of_the_rows(runs):
    assert compare_runs(runs)["flags"] == {"SEED": [0, 0, 2], "LR_BASE": [1e-3, 1e-2, 1e-3]}


def test_the_page_says_how_many_were_looked_at(runs):
    page = compare_page(compare_runs(runs))
    assert "3 runs were looked at" in page and "other test windows or labels" in page
    assert page.index(">best<") < page.index(">worse<")
    assert "http:" not in page and "https:" not in page


def test_the_page_and_the_lines_are_in_russian_too(runs, capsys):
    found = compare_runs(runs)
    with speaking("ru"):
        page = compare_page(found)
        comparison(found)
    told = capsys.readouterr().out
    for text in page, told:
        assert "ассмотрено 3 запуска" in text and "другие тестовые окна или метки" in text
    assert "0,3000" in page and "0.3000" not in page and '<html lang="ru">' in page
    difference = f"{found['rows'][1]['difference']:+.4f}".replace(".", ",")
    assert f"{difference} (от " in told


def written(run, folder, metrics=None):
    folder.mkdir()
    metrics = metrics or to_plain(run.metrics)
    for name, content in [
        (files.CONFIG, run.flags), (files.RUN, run.run_info), (files.METRICS, metrics),
    ]:  # fmt: skip
        (folder / name).write_text(json.dumps(content))
    run.predictions.to_parquet(folder / files.PREDICTIONS)
    return str(folder)


def test_the_verb_reads_folders_and_leaves_a_page_and_lines(runs, tmp_path, capsys):
    folders = [written(run, tmp_path / run.name.replace(" ", "-")) for run in runs]
    page = tmp_path / "compare.html"
    assert train_model.main(["compare", *folders, "--out", str(page)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "bars       the sample, None"
    rows = [line for line in told if line.startswith(tuple(folders))]
    assert [line.split()[0] for line in rows] == folders[::-1]
    assert rows[-1].endswith("other test windows or labels")
    assert "3 runs were looked at" in page.read_text() and "LR_BASE" in "".join(told)
    before = page.read_bytes()
    assert train_model.main(["compare", *folders[:2], "--out", str(page)]) == 0
    assert page.read_bytes() != before  # its own page is made anew
    capsys.readouterr()
    (foreign := tmp_path / "mine.html").write_text("<p>mine</p>")
    assert train_model.main(["compare", *folders, "--out", str(foreign)]) == 2
    assert "must not exist yet" in capsys.readouterr().err
    assert foreign.read_text() == "<p>mine</p>"


def test_runs_on_other_bars_are_a_group_of_their_own_and_every_pair_has_its_interval(runs):
    """Of two groups the first has three runs, two of them on the same windows."""
    elsewhere = [
        replace(run, name=f"{run.name}, later", run_info=run.run_info | {"bars_sha256": "b" * 64})
        for run in [*runs[1:], replace(runs[1], name="again")]
    ]
    found = compare_runs([*runs, *elsewhere])
    first, second = found["groups"]
    assert [row["name"] for row in first["rows"]] == ["best", "worse", "other windows"]
    assert [(pair["name"], pair["other"]) for pair in first["pairs"]] == [("worse", "best")]
    assert second["bars"] == "b" * 12 and len(second["pairs"]) == 3
    assert found["rows"] == first["rows"] + second["rows"]
    assert second["rows"][0]["same_windows"] and second["rows"][1]["interval"] is not None
    (pair,) = (p for p in second["pairs"] if p["other"] != second["rows"][0]["name"])
    assert pair["difference"] == 0 and pair["interval"] == [0, 0]  # the same answers
    page = compare_page(found)
    assert page.count("Run against run") == 2 and page.count("<figure>") == 4


def test_the_page_says_where_calls_are_relative(runs):
    told = "SELL and BUY are relative to the market"
    assert told not in compare_page(compare_runs(runs))
    metrics = runs[0].metrics
    verdict = replace(metrics.verdict, relative=True)
    relative = replace(runs[0], metrics=replace(metrics, verdict=verdict))
    assert told in compare_page(compare_runs([relative, runs[1]]))


def test_what_is_no_finished_run_is_refused_in_a_line(runs, tmp_path, capsys):
    one = written(runs[0], tmp_path / "one")
    (unfinished := tmp_path / "two").mkdir()
    page = tmp_path / "compare.html"
    for given, told in [
        ([one], "needs two run folders or more, got 1"),
        ([one, one], "needs different run folders"),
        ([one, str(unfinished)], "need a run folder with config.json"),
    ]:
        assert train_model.main(["compare", *given, "--out", str(page)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert not page.exists()


def edited(content, names, value):
    """Returns a copy of a JSON object with one value changed."""
    if not names:
        return value
    copy = list(content) if isinstance(content, list) else dict(content)
    copy[names[0]] = edited(content[names[0]], names[1:], value)
    return copy


@pytest.mark.parametrize(
    "value", [None, "0.5", True, 10**400], ids=["none", "text", "truth", "400 digits"]
)
@pytest.mark.parametrize(
    "names",
    [
        ("test", "nll"),
        ("test", "direction"),
        ("costs",),
        ("costs", "model", "trades"),
        ("verdict",),
        ("verdict", "block_seconds"),
        ("folds", 0),
        ("folds", 0, "validation", "nll"),
    ],
)
def test_an_edited_figure_is_refused_with_its_name(names, value, runs, tmp_path, capsys):
    metrics = edited(to_plain(runs[0].metrics), names, value)
    folders = [written(runs[2], tmp_path / "one"), written(runs[0], tmp_path / "two", metrics)]
    page = tmp_path / "compare.html"
    assert train_model.main(["compare", *folders, "--out", str(page)]) == 2
    told = capsys.readouterr().err
    name = ".".join(map(str, names))
    assert f"{folders[1]}/metrics.json was not written by a run of this version: {name}" in told
    assert max(len(line) for line in told.splitlines()) < 300 and not page.exists()


@pytest.mark.parametrize(
    "names",
    [
        ("cross_section",),
        ("cross_section", "model"),
        ("cross_section", "model", "timing"),
        ("cross_section", "model", "timing", "value"),
    ],
)
def test_an_edited_rank_correlation_is_refused_and_a_missing_one_is_not(
    names, runs, tmp_path, capsys
):
    first, page = written(runs[2], tmp_path / "one"), str(tmp_path / "page.html")
    for place, value in enumerate(["0.5", None]):
        metrics = edited(to_plain(runs[0].metrics), names, value)
        second = written(runs[0], tmp_path / f"edited-{place}", metrics)
        refused = value is not None
        assert train_model.main(["compare", first, second, "--out", page]) == 2 * refused
        name = f"was not written by a run of this version: {'.'.join(names)}"
        assert (name in capsys.readouterr().err) == refused


def test_rank_correlations_are_compared_where_a_run_has_them(runs):
    few = [
        replace(run, metrics=replace(run.metrics, cross_section=CrossSectionSummary()))
        for run in runs
    ]
    page = compare_page(compare_runs(few))
    assert "rank correlation" not in page and "timing" not in page
    found = compare_runs([runs[0], few[1]])
    value = runs[0].metrics.cross_section.model.rank_correlation.value
    by_name = {row["name"]: row["values"] for row in found["rows"]}
    assert by_name["other windows"]["rank_correlation"] == value
    assert by_name["worse"]["rank_correlation"] is None
    page = compare_page(found)
    assert "test rank correlation" in page and f">{value:.4f}<" in page


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop(columns="call"),
        lambda table: table.assign(side="up"),
        lambda table: table.assign(label=7),
        lambda table: table.assign(timestamp=0),
        lambda table: table.assign(symbol=b"\xff"),
    ],
)
def test_edited_predictions_are_refused(change, runs, tmp_path, capsys):
    run = replace(runs[0], predictions=change(runs[0].predictions))
    folders = [written(runs[2], tmp_path / "one"), written(run, tmp_path / "two")]
    assert train_model.main(["compare", *folders, "--out", str(tmp_path / "page.html")]) == 2
    told = capsys.readouterr().err
    assert f"{folders[1]}/predictions.parquet must be the predictions of a finished run" in told


def test_every_run_that_is_none_is_named(runs, tmp_path, capsys):
    folders = [written(run, tmp_path / str(place)) for place, run in enumerate(runs[:3])]
    (tmp_path / "0" / files.METRICS).unlink()
    (tmp_path / "2" / files.CONFIG).unlink()
    assert train_model.main(["compare", *folders, "--out", str(tmp_path / "page.html")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [f"{tmp_path}/{name}" in line for name, line in zip("02", told, strict=True)] == [
        True
    ] * 2

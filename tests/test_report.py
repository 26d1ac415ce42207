import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest
from report_run import recent_bars, training_run

from core.i18n import speaking
from evaluation import verdict_words
from evaluation.figures.run import Chosen, PooledScores
from evaluation.figures.scores import SkillByPart
from evaluation.report import plots, svg
from evaluation.report.report import report_page
from recipe.run.metrics import in_words

RUN_INFO = {
    "command": ["train_model.py", "--data", "my bars"],
    "bars_sha256": "abc123",
    "versions": {"keras": "3.15"},
}
EXTRAS = {
    "recent": recent_bars(),
    "run_info": RUN_INFO,
    "flags": {"SEED": 7, "AFL_ALPHA": [1.0, 2.0, 1.0]},
    "defaults": {"SEED": 7, "AFL_ALPHA": (1.0,)},
}
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are nested, and collects tags, images and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.links, self.said, self.text = [], [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag == "img":
            assert attributes["alt"]
            self.images.append(attributes["src"])
            self.said.append(attributes["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} " if self.open[-1:] not in (["style"], ["script"]) else ""


@pytest.fixture(scope="module")
def run():
    return training_run()


def written(metrics, history, predictions, **more):
    return report_page("one", metrics=metrics, history=history, predictions=predictions, **more)


@pytest.fixture(scope="module")
def source(run):
    """Returns the page of a whole run; drawing it takes a second."""
    return written(*run, **EXTRAS)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")


def test_page_is_well_formed_and_says_everything(run, source):
    metrics, page = run[0], Page(source)
    text = " ".join(page.text.split())
    verdict = metrics.verdict
    said = [verdict_words.headline(verdict), *verdict_words.remarks(verdict)]
    assert all(text.index(part) < text.index("Against the baselines") for part in said)
    low, high = verdict.direction.interval
    for part in [
        f"Skill yes direction {verdict.direction.mcc:+.3f} ({low:+.3f} to {high:+.3f})",
        "Better than the constant prior yes difference in direction",
        f"Net result {verdict.net_return:+.1%} {verdict.trades} trades, 5 basis points",
        f"Calibration {metrics.test.ece:.1%} mean distance",
        "SELL is never called, and 25.0% of the windows are SELL.",
        "Sharpe mean over spread of the gains, for a year",
        "xLSTM",
        "constant prior",
        "Validation windows",
        *(f"{figure:.4f}" for figure in (metrics.test.direction, metrics.test.mcc)),
        "Epoch and temperature were chosen on these windows",
        "temperature 1.234",
        "HOLD everywhere",
        "buy and hold",
        "2024-01-07T05:45:00",
        "warm-up rows 960",
        "epoch 4, batches 6, reached 1, largest 2.5 class or symbol windows repeats",
        "SELL 1,200 1.125",
        "AAA 3,600 0.875",
        "3 SELL 97 6% · 12% · 25% 0.2515 38% of 50% 3.75 52%",
        "3 HOLD 97 6% · 12% · 25% 0.2515 50% 3.75 52%",
        "epoch 0: no signal: see <b>LR_BASE</b> (and so on until epoch 3)",
        "epoch 3: prior shift: see <b>LR_BASE</b>",
        "14.5 in the middle, 10 to 19 (10 values)",
        "seed 7",
    ]:
        assert part in text
    assert len(page.images) == 11 + 2 + 2
    assert text.count("no signal: see") == 1
    assert "Walk-forward" not in text and "fold" not in text


def test_the_cards_tell_the_data_where_the_run_knows_it(run, undrawn):
    for data, told in [(None, "the sample"), ("bars/btc.parquet", "btc.parquet")]:
        text = " ".join(Page(written(*run, run_info={"data": data})).text.split())
        assert f"Data {told} 2024-01-01 to 2024-01-07 1 symbol tested on 600 windows" in text


def test_where_calls_are_relative_every_caption_of_them_says_so(run, undrawn):
    metrics, *others = run
    relative = replace(metrics, verdict=replace(metrics.verdict, relative=True))
    told = "(SELL and BUY relative to the market)"
    captions = ["Direction and movement of xLSTM", "Confusion matrix", "AAA: the last 100 test"]
    captions += ["Direction by calendar month", "Direction by symbol"]
    for given, said in [(metrics, False), (relative, True)]:
        page = written(given, *others, **EXTRAS)
        found = re.findall("<figcaption>(.*?)</figcaption>", page)
        for start in captions:
            (caption,) = (own for own in found if own.startswith(start))
            assert (told in caption) == said


def test_the_page_is_read_in_order(source):
    text = Page(source).text
    parts = [
        "Skill: yes",
        "Net result",
        "Against the baselines",
        "Does it hold over time and markets?",
        "Symbol against symbol",
        "What it would have done",
        "The last test bars",
        "Why",
        "Known and unfamiliar",
        "How it was trained",
        "Everything else",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_flags_command_and_machine_are_told(source):
    text = " ".join(Page(source).text.split())
    changed, in_all = text[text.index("Flags that differ") :].split("All flags")
    assert "AFL_ALPHA 1, 2, 1 1" in changed and "SEED" not in changed
    assert "SEED 7 7" in in_all and "AFL_ALPHA" in in_all
    assert "python train_model.py --data 'my bars'" in text
    assert "abc123" in text and "keras 3.15" in text and "labels per second 12,346" in text


def test_the_five_features_that_moved_most_and_ten_that_matter_are_shown(source):
    page = Page(source)
    told = page.text[page.text.index("Known and unfamiliar") :]
    assert "feature_4" in told and "feature_5" not in told
    (why,) = [said for said in page.said if said.startswith("Rise of the NLL by feature")]
    assert "feature_9 +0.0020" in why and "feature_10" not in why


def test_every_symbol_can_be_chosen_and_the_first_is_open(source):
    page = Page(source)
    assert re.findall(r'<details name="symbol"( open)?>', source) == [" open", ""]
    counts = recent_bars()["call"].to_numpy()[:100]
    told = f"Calls: SELL {(counts == 0).sum()}, HOLD {(counts == 1).sum()}"
    assert len([said for said in page.said if said.startswith(told)]) == 2
    assert "B<b>" in page.text


def test_a_picture_that_fails_costs_itself_and_a_line(run, monkeypatch):
    draw = svg.to_svg

    def some(figure):
        if len(failed) < 3:
            failed.append(figure)
            raise ValueError("\n$\\foo{$\n^\nParseFatalException: <b>")
        return draw(figure)

    failed = []
    monkeypatch.setattr(svg, "to_svg", some)
    page = Page(written(*run, **EXTRAS))
    assert len(page.images) == 11 + 2 + 2 - 3
    line = "A picture could not be drawn. ValueError: $\\foo{$ ^ ParseFatalException: <b>"
    assert " ".join(page.text.split()).count(line) == 3


def test_each_fold_is_shown_apart_and_beside_the_pool(run, undrawn):
    metrics, history, predictions = run
    (first,) = metrics.folds
    second = replace(
        first,
        test=replace(first.test, mcc=0.9191),
        validation=replace(first.validation, mcc=0.8181),
        chosen=Chosen("val_mcc", 1),
        calibration={"temperature": 3.75},
        collapse=replace(first.collapse, alarms=[]),
    )
    both = replace(metrics, num_folds=2, folds=[first, second])
    histories = pd.concat([history, history.assign(fold=1)], ignore_index=True)
    page = Page(written(both, histories, predictions))
    text = " ".join(page.text.split())
    assert "Test windows, all 2 folds together" in text
    pool, of_first, of_second = re.split(r"Fold \d of 2", text)
    assert "pooled" in pool and "Validation windows" not in pool
    assert f"{metrics.test.mcc:.4f}" in pool and "0.9191" in pool  # the table of folds
    assert "temperature 1.234" in of_first and "no signal: see" in of_first
    assert "temperature 3.75" in of_second and "There was no alarm" in of_second
    assert "0.8181" in of_second and "0.8181" not in pool + of_first
    assert len(page.images) == 7 + 2 + 2 * 4


def test_the_curves_of_a_fold_are_its_own(run, monkeypatch):
    metrics, history, predictions = run
    drawn = []
    monkeypatch.setattr(plots, "learning_curves", lambda rows, chosen: drawn.append((rows, chosen)))
    monkeypatch.setattr(svg, "to_svg", lambda figure: b"<svg/>")
    (fold,) = metrics.folds
    folds = [fold, replace(fold, chosen=Chosen("val_mcc", 1))]
    histories = pd.concat([history, history.assign(fold=1, loss=7.0)], ignore_index=True)
    written(replace(metrics, folds=folds), histories, predictions)
    assert [chosen for _, chosen in drawn] == [2, 1]
    assert (drawn[0][0]["loss"] < 7).all() and (drawn[1][0]["loss"] == 7).all()


def test_page_needs_no_network(source):
    page = Page(source)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert not {"link", "iframe"} & set(page.tags) and page.tags.count("script") == 1
    assert not [word for word in ("url(", "@import", "fetch(", "http:", "https:") if word in source]


def test_images_are_valid_svg_without_text_that_needs_a_font(source):
    for image in Page(source).images:
        tree = ElementTree.fromstring(base64.b64decode(image.partition(",")[2]))
        assert tree.tag.endswith("svg")
        assert not [node for node in tree.iter() if node.tag.endswith("}text")]


def test_same_run_gives_the_same_page(run, source):
    assert written(*run, **EXTRAS) == source


def test_what_came_from_outside_is_escaped(source):
    assert "<b>LR_BASE" not in source
    assert "&lt;b&gt;LR_BASE" in source


def test_what_a_run_does_not_have_is_left_out(run, undrawn):
    metrics, *_ = run
    (fold,) = metrics.folds
    bare = replace(fold, importance=None, drift={}, mining=[], dropped={}, calibration={})
    empty = replace(metrics, folds=[bare], skill=SkillByPart([], [], []))
    page = Page(written(empty, pd.DataFrame(), pd.DataFrame()))
    for left_out in ("Why", "Hard windows", "Dropped", "From training logits"):
        assert left_out in Page(written(*run)).text and left_out not in page.text
    assert "Undefined" not in page.text and "None" not in page.text


def test_figures_that_are_none_are_dashes(run, source):
    assert run[0].costs.buy_and_hold.gross_bps_per_trade is None
    assert re.search(r"<td>buy and hold</td>.*?–", source, re.DOTALL)
    assert ">None<" not in source and ">nan<" not in source


def test_best_figure_of_each_column_is_shaded(run, undrawn):
    metrics, _, _ = run
    prior = PooledScores(replace(metrics.test, mcc=0.0, nll=1.0))
    metrics = replace(
        metrics,
        test=replace(metrics.test, mcc=0.2, nll=1.2, ece=0.1),
        baselines={"constant prior": prior},
        folds=[],
    )
    source = written(metrics, pd.DataFrame(), pd.DataFrame())
    shaded = re.findall(r'<td class="n best">([\d.]+)</td>', source)
    assert "0.2000" in shaded and "1.0000" in shaded
    assert "1.2000" not in shaded and "0.0000" not in shaded


# What stays in Russian: names of figures, features, classes, flags, commands and libraries.
LATIN = """
    MCC NLL ECE PSI SHA xLSTM SELL HOLD BUY AAA BBB feature SEED AFL_ALPHA seed keras python
    train_model py data my bars abc gamma volatility market one
    FUTURE_WINDOW SEQUENCE_LENGTH LABEL_METHOD LR_BASE WEIGHT_DECAY_L AFL_GAMMA CLASS_SMOOTHING
    CE_WEIGHT_END TARGET_CLASS_RATIOS
"""


def test_in_russian_every_text_is_russian_and_every_number_has_a_comma(run, undrawn):
    metrics, *others = run
    with speaking("ru"):
        source = written(in_words(metrics), *others, **EXTRAS)
    page = Page(source)
    text = page.text + " ".join(page.said)
    text = text.replace("B<b>", "")  # a symbol
    assert set(re.findall(r"[A-Za-z][A-Za-z_]*[A-Za-z]", text)) <= set(LATIN.split())
    assert '<html lang="ru">' in source
    mcc = f"{run[0].test.mcc:.4f}"
    assert mcc.replace(".", ",") in text and mcc not in text
    assert "07.01.2024 05:45:00" in text and "2024-01-07" not in text
    assert "меток в секунду 12 346" in " ".join(text.split())
    assert "none" not in text.lower() and "{" not in text


def test_the_same_page_in_english_knows_nothing_of_it(run, source):
    with speaking("ru"), speaking("en"):
        assert written(*run, **EXTRAS) == source

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest
from report_run import training_run

from evaluation.report import plots
from evaluation.report.report import write_report

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are nested, and collects tags, images and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.links, self.text = [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag == "img":
            assert attributes["alt"]
            self.images.append(attributes["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} " if self.open[-1:] != ["style"] else ""


@pytest.fixture(scope="module")
def run():
    return training_run()


def written(folder, metrics, history, predictions):
    path = write_report(folder, metrics=metrics, history=history, predictions=predictions)
    return path.read_text(encoding="utf-8")


def test_page_is_well_formed_and_says_everything(tmp_path, run):
    metrics, history, predictions = run
    page = Page(written(tmp_path, *run))
    text = " ".join(page.text.split())
    assert text.index(metrics["verdict"]["sentence"]) < text.index("Against the baselines")
    for part in [
        "xLSTM",
        "constant prior",
        "Validation windows",
        f"{metrics['test']['mcc']:.4f}",
        "temperature 1.234",
        "favour HOLD",
        "buy and hold",
        "2024-01-07T05:45:00",
        "warm-up rows 960",
        "epoch 3 windows repeats SELL 1,200 1.125",
        "AAA 3,600 0.875",
        "epoch 0: no signal: see <b>LR_BASE</b> (and so on until epoch 2)",
        "epoch 3: prior shift: see <b>LR_BASE</b>",
        "14.5 in the middle, 10 to 19 (10 values)",
        "seed 7",
    ]:
        assert part in text
    assert len(page.images) == 5
    assert text.count("no signal: see") == 1
    assert "Walk-forward" not in text and "fold" not in text


def test_each_fold_is_shown_apart_and_beside_the_pool(tmp_path, run):
    metrics, history, predictions = run
    (first,) = metrics["folds"]
    second = {
        **first,
        "test": {**first["test"], "mcc": 0.9191},
        "validation": {**first["validation"], "mcc": 0.8181},
        "chosen": {"metric": "val_mcc", "epoch": 1},
        "calibration": {"temperature": 3.75},
        "collapse": {**first["collapse"], "alarms": []},
    }
    both = {**metrics, "num_folds": 2, "folds": [first, second]}
    histories = pd.concat([history, history.assign(fold=1)], ignore_index=True)
    page = Page(written(tmp_path, both, histories, predictions))
    text = " ".join(page.text.split())
    assert "Test windows, all 2 folds together" in text
    pool, of_first, of_second = re.split(r"Fold \d of 2", text)
    assert "pooled" in pool and "Validation windows" not in pool
    assert f"{metrics['test']['mcc']:.4f}" in pool and "0.9191" in pool  # the table of folds
    assert "temperature 1.234" in of_first and "no signal: see" in of_first
    assert "temperature 3.75" in of_second and "There was no alarm" in of_second
    assert "0.8181" in of_second and "0.8181" not in pool + of_first
    assert len(page.images) == 3 + 2 * 2


def test_the_curves_of_a_fold_are_its_own(tmp_path, run, monkeypatch):
    metrics, history, predictions = run
    drawn = []
    monkeypatch.setattr(plots, "learning_curves", lambda rows, chosen: drawn.append((rows, chosen)))
    monkeypatch.setattr(plots, "to_svg", lambda figure: b"<svg/>")
    (fold,) = metrics["folds"]
    folds = [fold, {**fold, "chosen": {"metric": "val_mcc", "epoch": 1}}]
    histories = pd.concat([history, history.assign(fold=1, loss=7.0)], ignore_index=True)
    written(tmp_path, {**metrics, "folds": folds}, histories, predictions)
    assert [chosen for _, chosen in drawn] == [2, 1]
    assert (drawn[0][0]["loss"] < 7).all() and (drawn[1][0]["loss"] == 7).all()


def test_page_needs_no_network(tmp_path, run):
    source = written(tmp_path, *run)
    page = Page(source)
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in source and "@import" not in source


def test_images_are_valid_svg_without_text_that_needs_a_font(tmp_path, run):
    for image in Page(written(tmp_path, *run)).images:
        tree = ElementTree.fromstring(base64.b64decode(image.partition(",")[2]))
        assert tree.tag.endswith("svg")
        assert not [node for node in tree.iter() if node.tag.endswith("}text")]


def test_same_run_gives_the_same_page(tmp_path, run):
    assert written(tmp_path, *run) == written(tmp_path, *run)


def test_what_came_from_outside_is_escaped(tmp_path, run):
    source = written(tmp_path, *run)
    assert "<b>LR_BASE" not in source
    assert "&lt;b&gt;LR_BASE" in source


def test_each_missing_part_is_left_out(tmp_path, run, monkeypatch):
    monkeypatch.setattr(plots, "to_svg", lambda figure: b"<svg/>")
    metrics, history, predictions = run
    (fold,) = metrics["folds"]
    cut = [{n: v for n, v in metrics.items() if n != missing} for missing in metrics]
    for missing in fold:
        rest = {name: value for name, value in fold.items() if name != missing}
        cut.append(metrics | {"folds": [rest, rest]})
    for rest in cut:
        assert "Undefined" not in Page(written(tmp_path, rest, history, predictions)).text


def test_a_run_without_anything_still_has_a_page(tmp_path):
    page = Page(written(tmp_path, {}, pd.DataFrame(), pd.DataFrame()))
    assert "There is no verdict." in page.text
    assert not page.images


def test_figures_that_are_none_are_dashes(tmp_path, run):
    metrics, history, predictions = run
    assert metrics["costs"]["buy_and_hold"]["gross_bps_per_trade"] is None
    source = written(tmp_path, metrics, history, predictions)
    assert re.search(r"<td>buy and hold</td>.*?–", source, re.DOTALL)
    assert ">None<" not in source and ">nan<" not in source


def test_best_figure_of_each_column_is_shaded(tmp_path, run):
    metrics, _, _ = run
    metrics = {
        "test": {**metrics["test"], "mcc": 0.2, "nll": 1.2, "ece": 0.1},
        "baselines": {"constant prior": {"test": {**metrics["test"], "mcc": 0.0, "nll": 1.0}}},
    }
    source = written(tmp_path, metrics, pd.DataFrame(), pd.DataFrame())
    shaded = re.findall(r'<td class="n best">([\d.]+)</td>', source)
    assert "0.2000" in shaded and "1.0000" in shaded
    assert "1.2000" not in shaded and "0.0000" not in shaded


def test_a_failed_write_leaves_the_old_page_whole(tmp_path, run, monkeypatch):
    before = written(tmp_path, *run)

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("evaluation.report.report.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        written(tmp_path, {}, pd.DataFrame(), pd.DataFrame())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before

"""What a run does beside its training."""

import threading

import pytest
from small_market import SETTINGS

from config import Flags
from data.bars.synthetic import random_walk
from data.market.market import build_market
from recipe.run import run
from recipe.run.deploy import Deployed
from recipe.run.ensemble import FoldResult
from recipe.run.reporter import SILENT
from recipe.run.settings import run_settings


class Training:
    """The training of a fold that is never trained."""

    def __init__(self, market):
        self.number, self.fold = 0, market.folds[0]


@pytest.fixture
def market():
    return build_market(random_walk(2, 1200), SETTINGS)


def train(market, folder):
    info = {run.ORIGINS: [{}]}
    kept = run._Run(run_settings(Flags()), market, folder, info, SILENT, False)
    return kept._train_fold(Training(market))


def test_the_baselines_are_fitted_while_the_network_is_trained(market, monkeypatch, tmp_path):
    fitted, (fold,) = threading.Event(), market.folds

    def train_fold(*given, **options):
        assert fitted.wait(10)
        return FoldResult(fold, Deployed(None, {}, {}, (None, None)), [])

    monkeypatch.setattr(run, "fit_learners", lambda *given, **options: fitted.set() or {})
    monkeypatch.setattr(run, "train_fold", train_fold)
    monkeypatch.setattr(run, "explain", lambda *given, **options: {})
    assert set(train(market, tmp_path).baselines) == {"constant prior", "persistence"}


def test_memory_is_given_up_between_a_training_and_its_figures(market, monkeypatch, tmp_path):
    seen, (fold,) = [], market.folds

    def train_fold(*given, **options):
        seen.append("trained")
        return FoldResult(fold, Deployed(None, {}, {}, (None, None)), [])

    monkeypatch.setattr(run, "fit_learners", lambda *given, **options: {})
    monkeypatch.setattr(run, "train_fold", train_fold)
    monkeypatch.setattr(run, "explain", lambda *given, **options: seen.append("explained"))
    monkeypatch.setattr(run, "release_memory", lambda: seen.append("given up"))
    monkeypatch.setattr(run, "baseline_probabilities", lambda *given: seen.append("figures"))
    train(market, tmp_path)
    assert seen == ["trained", "explained", "given up", "figures"]


def test_an_error_of_the_baselines_is_raised_where_they_are_asked_for(
    market, monkeypatch, tmp_path
):
    trained, (fold,) = [], market.folds

    def fit(*given, **options):
        raise MemoryError("summaries")

    def train_fold(*given, **options):
        trained.append(True)
        return FoldResult(fold, Deployed(None, {}, {}, (None, None)), [])

    monkeypatch.setattr(run, "fit_learners", fit)
    monkeypatch.setattr(run, "train_fold", train_fold)
    monkeypatch.setattr(run, "explain", lambda *given, **options: {})
    with pytest.raises(MemoryError, match="summaries"):
        train(market, tmp_path)
    assert trained

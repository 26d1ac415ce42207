import json
from dataclasses import replace

import numpy as np
import pytest
from planted_answers import forecasts, grid, probabilities, rows

from core.i18n import speaking
from evaluation.across.cross_section import Forecasts, correlations, cross_section, sentence
from evaluation.figures.plain import from_plain, to_plain
from evaluation.figures.scores import CrossSection, Estimate, FewSymbols

BARS, SYMBOLS = 600, 30


def judged(scores, came, **settings):
    settings = {"horizon": 4, "cost_bps": 5.0, "block_seconds": 86_400.0} | settings
    windows = scores if isinstance(scores, Forecasts) else forecasts(scores)
    found = cross_section(windows, rows(came), rows(came), **settings)
    assert isinstance(found, CrossSection)
    return found


def left_out(scores, came):
    return cross_section(
        forecasts(scores), rows(came), rows(came), horizon=4, cost_bps=5.0, block_seconds=86_400.0
    )


def value(found, part):
    return getattr(found.model, part).value


def reach(found, part):
    return getattr(found.model, part).interval


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_known_rank_correlation_is_measured(rng):
    scores, noise = rng.normal(size=(2, 1500, 40)).clip(-3, 3)
    rho = 0.3
    came = rho * scores + np.sqrt(1 - rho**2) * noise + 5 * rng.normal(size=(1500, 1))
    found = judged(scores, came)
    # Moran 1948, Biometrika 35:203: the mean of Spearman's coefficient of normal variables.
    expected = 6 / np.pi / 41 * (np.arcsin(rho) + 38 * np.arcsin(rho / 2))
    assert value(found, "rank_correlation") == pytest.approx(expected, abs=0.01)
    low, high = reach(found, "rank_correlation")
    assert low < expected < high and high - low < 0.05


def test_what_moves_all_symbols_alike_counts_nothing(rng):
    came = np.tile(rng.normal(size=(BARS, 1)), SYMBOLS) + 0.01 * rng.normal(size=(BARS, SYMBOLS))
    scores = np.tile(came[:, :1], SYMBOLS).clip(-3, 3) + 0.1 * rng.normal(size=(BARS, SYMBOLS))
    low, high = reach(judged(scores, came), "rank_correlation")
    assert low < 0 < high


def test_a_constant_tilt_has_no_timing(rng):
    tilt = np.linspace(-2, 2, SYMBOLS)
    scores = np.tile(tilt, (BARS, 1))
    came = 0.5 * tilt + rng.normal(size=(BARS, SYMBOLS))
    found = judged(scores, came)
    assert value(found, "timing") == pytest.approx(0, abs=1e-3)
    assert value(found, "tilt") == pytest.approx(value(found, "rank_correlation"), abs=0.01)
    assert value(found, "tilt") > 0.4


def test_an_answer_of_the_moment_has_no_tilt(rng):
    scores = rng.normal(size=(BARS, SYMBOLS)).clip(-3, 3)
    came = 0.7 * scores + rng.normal(size=(BARS, SYMBOLS))
    found = judged(scores, came)
    low, high = reach(found, "tilt")
    assert low < 0 < high and abs(value(found, "tilt")) < 0.03
    assert value(found, "timing") == pytest.approx(value(found, "rank_correlation"), abs=0.02)
    assert reach(found, "timing")[0] > 0.4


def test_an_old_answer_is_worth_what_it_said_of_now(rng):
    came = rng.normal(size=(BARS, SYMBOLS)).clip(-3, 3)
    scores = np.roll(came, -3, axis=0)  # says what comes three bars later
    ages = {part.bars: part.value for part in judged(scores, came).model.ages}
    assert list(ages) == [0, 1, 3, 6]
    assert ages[3] == pytest.approx(1)
    assert max(abs(ages[age]) for age in (0, 1, 6)) < 0.05


def test_answers_before_give_the_first_bars_a_past_and_are_not_judged(rng):
    tilt = np.linspace(-2, 2, SYMBOLS)
    scores = np.tile(tilt, (BARS, 1)) + rng.normal(size=(BARS, SYMBOLS))
    came = tilt + rng.normal(size=(BARS, SYMBOLS))
    whole, late = forecasts(scores), np.arange(BARS) >= 500
    late_rows = np.tile(late, SYMBOLS)
    parts = [
        Forecasts(*(own[chosen] for own in (whole.times, whole.symbols, whole.probabilities)))
        for chosen in (late_rows, ~late_rows)
    ]
    settings = {"horizon": 4, "cost_bps": 5.0, "block_seconds": 86_400.0}
    all_came = rows(came)
    found = cross_section(
        parts[0], all_came[late_rows], all_came[late_rows], before=parts[1], **settings
    )
    alone = cross_section(parts[0], all_came[late_rows], all_came[late_rows], **settings)
    assert isinstance(found, CrossSection) and isinstance(alone, CrossSection)
    assert found.bars == alone.bars == 100
    assert value(found, "rank_correlation") == value(alone, "rank_correlation")
    per_bar, blocks = correlations(whole, all_came, block_seconds=86_400.0)
    assert value(found, "tilt") == pytest.approx(per_bar["tilt"][500:].mean())
    assert value(found, "timing") == pytest.approx(per_bar["timing"][500:].mean())
    assert len(blocks) == BARS and np.isnan(per_bar["tilt"][:30]).all()
    assert value(alone, "tilt") != value(found, "tilt")


def test_the_order_of_the_windows_changes_nothing(rng):
    scores, came = rng.normal(size=(2, 100, 12)).clip(-3, 3)
    windows, order = forecasts(scores), rng.permutation(1200)
    mixed = Forecasts(windows.times[order], windows.symbols[order], windows.probabilities[order])
    returns = rows(came)
    settings = {"horizon": 4, "cost_bps": 5.0, "block_seconds": 86_400.0}
    assert cross_section(mixed, returns[order], returns[order], **settings) == judged(scores, came)


def test_symbols_that_come_and_go_are_ranked_where_they_are(rng):
    scores, came = rng.normal(size=(2, BARS, SYMBOLS)).clip(-3, 3)
    came = came + scores
    there = np.ones((BARS, SYMBOLS), bool)
    there[:300, :5] = False
    there[400:, 10:12] = False
    there[200:210, 9:] = False  # 4 symbols: left out
    kept = rows(there).astype(bool)
    windows = forecasts(scores)
    part = Forecasts(windows.times[kept], windows.symbols[kept], windows.probabilities[kept])
    settings = {"horizon": 4, "cost_bps": 5.0, "block_seconds": 86_400.0}
    found = cross_section(part, rows(came)[kept], rows(came)[kept], **settings)
    assert isinstance(found, CrossSection)
    assert (found.bars, found.symbols) == (BARS - 10, SYMBOLS)
    assert value(found, "rank_correlation") == pytest.approx(0.69, abs=0.03)


def test_fewer_than_ten_symbols_are_left_out_with_a_word(rng):
    scores, came = rng.normal(size=(2, 50, 9)).clip(-3, 3)
    found = left_out(scores, came)
    assert found == FewSymbols(9)
    assert sentence(found) == (
        "Not judged as a cross-section: that needs at least 10 symbols in a bar, and no bar has "
        "more than 9."
    )
    assert left_out(scores[:, :1], came[:, :1]) == FewSymbols(1)
    came[:] = np.nan
    assert left_out(scores, came) == FewSymbols(0)


def test_baselines_are_judged_alike_and_the_lead_is_paired(rng):
    scores, noise = rng.normal(size=(2, BARS, SYMBOLS)).clip(-3, 3)
    came = 0.3 * scores + noise
    windows = forecasts(scores)
    weak = probabilities(rows((scores + 2 * rng.normal(size=scores.shape)).clip(-6, 6)))
    found = judged(
        scores, came, baselines={"weak": (weak, None), "same": (windows.probabilities, None)}
    )
    assert found.baselines["same"] == replace(found.model, lead=Estimate(0.0, [0.0, 0.0]))
    lead = found.baselines["weak"].lead
    theirs = found.baselines["weak"].rank_correlation.value
    assert lead.value == pytest.approx(value(found, "rank_correlation") - theirs)
    assert lead.interval[0] > 0


def test_what_is_found_is_json_and_small(rng):
    scores, came = rng.normal(size=(2, 3000, 12)).clip(-3, 3)
    found = judged(scores, 0.01 * came)
    text = json.dumps(to_plain(found), allow_nan=False)
    assert from_plain(CrossSection, json.loads(text)) == found
    assert len(text) < 20_000
    assert len(found.curve_times) == len(found.model.book.net_curve) == 200
    assert found.curve_times[0] == "2024-01-01T00:00"


def test_the_sentence_says_all_three_with_their_intervals(rng):
    scores, noise = rng.normal(size=(2, BARS, SYMBOLS)).clip(-3, 3)
    with speaking("ru"):
        found = judged(scores, scores + noise)
    own = found.model.rank_correlation
    low, high = reach(found, "rank_correlation")
    said_so = f"a rank correlation of {own.value:+.3f} ({low:+.3f} to {high:+.3f})"
    assert said_so in sentence(found) and "the next 4 bars" in sentence(found)
    assert "intervals over 25 time blocks" in sentence(found)
    short = judged(scores[:20], noise[:20])
    assert value(short, "timing") is None
    assert "Timing: unknown." in sentence(short)


def test_windows_without_a_return_are_not_judged(rng):
    scores, came = rng.normal(size=(2, 60, 12)).clip(-3, 3)
    came[:20] = np.nan
    assert judged(scores, came).bars == 40
    times, symbols = grid(60, 12)
    assert times.shape == symbols.shape == (720,)


def test_seconds_by_which_feeds_are_late_change_nothing(rng):
    scores, came = rng.normal(size=(2, 100, 12)).clip(-3, 3)
    windows = forecasts(scores)
    late = np.where(windows.symbols % 2, 1, 0) * np.timedelta64(3, "s")
    found = judged(Forecasts(windows.times + late, windows.symbols, windows.probabilities), came)
    assert found == judged(scores, came)

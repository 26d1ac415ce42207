"""The verdict in words: is there skill, is it more than a baseline has, what would it have brought?

The answer comes first, then the figure and its interval, then what to do.
"""

from collections.abc import Mapping, Sequence

from core.i18n import N_, _, date, ngettext
from data.market.relative import relative_in_words
from evaluation.figures.scores import Shares, Verdict
from evaluation.verdict import FEW_BLOCKS, LEAST_SKILL, NONE, NOT_SHOWN, SKILLS, WORSE, YES

_IN_A_SENTENCE = {"constant prior": N_("the constant prior")}  # the others need no article
ANSWERS = {YES: N_("yes"), NOT_SHOWN: N_("not shown"), NONE: N_("none"), WORSE: N_("worse")}
_SKILL = {
    "direction": N_("Skill in direction (SELL or BUY): {answer}."),
    "movement": N_("Skill in movement (HOLD or not): {answer}."),
}
MORE_TIME = "--set WALK_FORWARD_FOLDS=5"  # what gives more blocks of time


def sentence(verdict: Verdict) -> str:
    """Returns `lines` as one text."""
    return " ".join(lines(verdict))


def lines(verdict: Verdict) -> list[str]:
    """Returns a verdict in the current language, answer by answer.

    Parts that it lacks are left out.
    """
    texts = [_skill_in_words(verdict, skill) for skill in SKILLS]
    texts += [_compared(verdict)]
    texts += [_traded(verdict)] if verdict.net_return is not None else []
    return texts + _further(verdict)


def headline(verdict: Verdict) -> str:
    """Returns the two answers alone."""
    return _(
        "Skill: {skill}. Better than {baseline}: {better}.",
        skill=_(ANSWERS[verdict.skill_in_direction]),
        baseline=baseline_in_words(verdict),
        better=_(ANSWERS[verdict.better_than_baseline or NOT_SHOWN]),
    )


def remarks(verdict: Verdict) -> list[str]:
    """Returns what `lines` says beside the figures."""
    meanings = [_meaning(verdict, skill) for skill in SKILLS]
    traded = [_luck(verdict)] if verdict.net_return is not None else []
    return [text for text in [*meanings, *traded] if text] + _further(verdict)


def _further(verdict: Verdict) -> list[str]:
    texts = [_hardly_called(verdict.hardly_called)] if verdict.hardly_called else []
    texts += [relative_in_words()] if verdict.relative else []
    texts += [refit_in_words(verdict)] if verdict.refit_until else []
    texts += [_how_sure(verdict)]
    if verdict.trials > 1:
        texts.append(
            ngettext(
                "It is one of {n} run tried on these bars, and the best of several looks better "
                "than it is.",
                "It is one of {n} runs tried on these bars, and the best of several looks better "
                "than it is.",
                verdict.trials,
            )
        )
    return texts


def refit_in_words(verdict: Verdict) -> str:
    """Returns a sentence saying that the verdict is not of the shipped model."""
    return _(
        "The verdict and all figures are of the recipe, not of model.keras: that was trained once "
        "more on all bars up to {end}, which leaves none to judge it by.",
        end=date(verdict.refit_until or ""),
    )


def baseline_in_words(verdict: Verdict) -> str:
    """Returns the name of the baseline as it stands in a sentence."""
    return _(_IN_A_SENTENCE.get(verdict.baseline, verdict.baseline))


def figure_in_words(value: float, interval: Sequence[float]) -> str:
    """Returns a figure with its interval."""
    low, high = interval
    return _("{value:+.3f} ({low:+.3f} to {high:+.3f})", value=value, low=low, high=high)


def _skill_in_words(verdict: Verdict, skill: str) -> str:
    part, answer = getattr(verdict, skill), getattr(verdict, f"skill_in_{skill}")
    text = _(_SKILL[skill], answer=_(ANSWERS[answer]))
    text += " " + _("MCC {figure}.", figure=figure_in_words(part.mcc, part.interval))
    meaning = _meaning(verdict, skill)
    return f"{text} {meaning}" if meaning else text


def _meaning(verdict: Verdict, skill: str) -> str:
    """Returns a sentence on a skill that is odd by itself, or nothing."""
    relative = verdict.relative
    if skill == "direction":
        if verdict.direction.interval[1] >= 0:
            return ""
        if relative:
            return _("Worse than chance: symbols tend to leave the market on the other side.")
        return _("Worse than chance: prices tend to move against the side that it favours.")
    if verdict.skill_in_movement != YES or verdict.skill_in_direction == YES:
        return ""
    if relative:
        return _(
            "It sees when symbols part from the market, not on which side; that alone earns "
            "nothing."
        )
    return _("It sees when prices move, not where to; that alone earns nothing.")


def _compared(verdict: Verdict) -> str:
    where = verdict.direction
    return _(
        "Better than {baseline}: {answer}. Direction {own:+.3f} against {other:+.3f}, difference "
        "{difference}.",
        baseline=baseline_in_words(verdict),
        answer=_(ANSWERS[verdict.better_than_baseline or NOT_SHOWN]),
        own=where.mcc,
        other=where.baseline,
        difference=figure_in_words(where.difference, where.difference_interval),
    )


def _traded(verdict: Verdict) -> str:
    text = _(
        "Trading on its calls: {net_return:+.1%} of the capital after costs of {cost_bps:g} basis "
        "points a side ({baseline} {baseline_net_return:+.1%}, buy and hold "
        "{buy_and_hold_net_return:+.1%}).",
        baseline=baseline_in_words(verdict),
        net_return=verdict.net_return,
        cost_bps=verdict.cost_bps,
        baseline_net_return=verdict.baseline_net_return,
        buy_and_hold_net_return=verdict.buy_and_hold_net_return,
    )
    return " ".join(filter(None, [text, _luck(verdict)]))


def _luck(verdict: Verdict) -> str:
    """Returns a sentence on how to take the result of trades, or nothing."""
    texts = []
    if verdict.trades == 0:
        texts.append(_("No trade was made: every call was HOLD."))
    if verdict.relative:
        texts.append(_("The calls are relative to the market, these returns are not."))
    if (verdict.net_return or 0) > 0 and verdict.skill_in_direction != YES:
        texts.append(_("A gain without skill in direction may well be luck."))
    return " ".join(texts)


def _hardly_called(classes: Mapping[str, Shares]) -> str:
    return " ".join(
        _(
            "{name} is never called, and {true:.1%} of the windows are {name}.",
            name=name,
            true=shares.true,
        )
        if not shares.called
        else _(
            "{name} is hardly ever called: {called:.2%} of the calls, {true:.1%} of the windows.",
            name=name,
            called=shares.called,
            true=shares.true,
        )
        for name, shares in classes.items()
    )


def _how_sure(verdict: Verdict) -> str:
    num_blocks, num_folds = verdict.num_blocks, verdict.num_folds
    if num_folds > 1:
        text = ngettext(
            "In brackets: 95 % intervals over {n} time block of {num_folds} walk-forward folds",
            "In brackets: 95 % intervals over {n} time blocks of {num_folds} walk-forward folds",
            num_blocks,
            num_folds=num_folds,
        )
    else:
        text = ngettext(
            "In brackets: the 95 % interval over {n} time block",
            "In brackets: 95 % intervals over {n} time blocks",
            num_blocks,
        )
    return f"{text}{_too_short(verdict)}."


def _too_short(verdict: Verdict) -> str:
    """Returns advice for a test time that is too short for an answer."""
    known = verdict.skill_in_direction != NOT_SHOWN
    if verdict.better_than_baseline == NOT_SHOWN:
        known = known and verdict.direction.difference_interval[1] < LEAST_SKILL
    if known or verdict.num_blocks >= FEW_BLOCKS:
        return ""
    if verdict.num_folds > 1:
        return _(", too few to tell: more bars or a shorter horizon give more")
    return _(", too few to tell: {command} tests over a longer time", command=MORE_TIME)

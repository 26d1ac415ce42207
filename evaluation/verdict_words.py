"""The verdict in words: is there skill, is it more than a baseline has, what would it have brought?

The answer comes first, then the figure and its interval, then what to do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.i18n import N_, _, date, ngettext
from data.market.relative import relative_in_words
from evaluation.verdict import FEW_BLOCKS, LEAST_SKILL, NONE, NOT_SHOWN, SKILLS, WORSE, YES

_IN_A_SENTENCE = {"constant prior": N_("the constant prior")}  # the others need no article
ANSWERS = {YES: N_("yes"), NOT_SHOWN: N_("not shown"), NONE: N_("none"), WORSE: N_("worse")}
_SKILL = {
    "direction": N_("Skill in direction (SELL or BUY): {answer}."),
    "movement": N_("Skill in movement (HOLD or not): {answer}."),
}
MORE_TIME = "--set WALK_FORWARD_FOLDS=5"  # what gives more blocks of time


def sentence(found: Mapping[str, Any]) -> str:
    """Returns `lines` as one text."""
    return " ".join(lines(found))


def lines(found: Mapping[str, Any]) -> list[str]:
    """Returns in words of the language of now what `evaluation.verdict` found, answer by answer.

    What it may lack is not spoken of: the result of trades (`of_trades`), hardly called classes
    (`of_calls`), `trials`, `relative`, where the labels are relative to the market, and
    `refit_until`, where the shipped model was trained once more on all bars.
    """
    told = [_skill_in_words(found, skill) for skill in SKILLS]
    told += [_compared(found)]
    told += [_traded(found)] if "net_return" in found else []
    return told + _further(found)


def headline(found: Mapping[str, Any]) -> str:
    """Returns the two answers alone."""
    return _(
        "Skill: {skill}. Better than {baseline}: {better}.",
        skill=_(ANSWERS[found["skill_in_direction"]]),
        baseline=baseline_in_words(found),
        better=_(ANSWERS[found["better_than_baseline"]]),
    )


def remarks(found: Mapping[str, Any]) -> list[str]:
    """Returns what `lines` says beside the figures."""
    meanings = [_meaning(found, skill) for skill in SKILLS]
    traded = [_luck(found)] if "net_return" in found else []
    return [text for text in [*meanings, *traded] if text] + _further(found)


def _further(found: Mapping[str, Any]) -> list[str]:
    told = [_hardly_called(found["hardly_called"])] if found.get("hardly_called") else []
    told += [relative_in_words()] if found.get("relative") else []
    told += [refit_in_words(found)] if found.get("refit_until") else []
    told += [_how_sure(found)]
    if found["trials"] > 1:
        told.append(
            ngettext(
                "It is one of {n} run tried on these bars, and the best of several looks better "
                "than it is.",
                "It is one of {n} runs tried on these bars, and the best of several looks better "
                "than it is.",
                found["trials"],
            )
        )
    return told


def refit_in_words(found: Mapping[str, Any]) -> str:
    """Returns that the verdict is not of the model that is shipped."""
    return _(
        "The verdict and all figures are of the recipe, not of model.keras: that was trained once "
        "more on all bars up to {end}, which leaves none to judge it by.",
        end=date(found["refit_until"]),
    )


def baseline_in_words(found: Mapping[str, Any]) -> str:
    """Returns the name of the baseline as it stands in a sentence."""
    baseline = str(found["baseline"])
    return _(_IN_A_SENTENCE.get(baseline, baseline))


def figure_in_words(value: float, interval: Sequence[float]) -> str:
    """Returns a figure with its interval."""
    low, high = interval
    return _("{value:+.3f} ({low:+.3f} to {high:+.3f})", value=value, low=low, high=high)


def _skill_in_words(found: Mapping[str, Any], skill: str) -> str:
    part, answer = found[skill], found[f"skill_in_{skill}"]
    text = _(_SKILL[skill], answer=_(ANSWERS[answer]))
    text += " " + _("MCC {figure}.", figure=figure_in_words(part["mcc"], part["interval"]))
    meaning = _meaning(found, skill)
    return f"{text} {meaning}" if meaning else text


def _meaning(found: Mapping[str, Any], skill: str) -> str:
    """Returns what a skill that is odd by itself means, or nothing."""
    relative = found.get("relative")
    if skill == "direction":
        if found["direction"]["interval"][1] >= 0:
            return ""
        if relative:
            return _("Worse than chance: symbols tend to leave the market on the other side.")
        return _("Worse than chance: prices tend to move against the side that it favours.")
    if found["skill_in_movement"] != YES or found["skill_in_direction"] == YES:
        return ""
    if relative:
        return _(
            "It sees when symbols part from the market, not on which side; that alone earns "
            "nothing."
        )
    return _("It sees when prices move, not where to; that alone earns nothing.")


def _compared(found: Mapping[str, Any]) -> str:
    where = found["direction"]
    return _(
        "Better than {baseline}: {answer}. Direction {own:+.3f} against {other:+.3f}, difference "
        "{difference}.",
        baseline=baseline_in_words(found),
        answer=_(ANSWERS[found["better_than_baseline"]]),
        own=where["mcc"],
        other=where["baseline"],
        difference=figure_in_words(where["difference"], where["difference_interval"]),
    )


def _traded(found: Mapping[str, Any]) -> str:
    text = _(
        "Trading on its calls: {net_return:+.1%} of the capital after costs of {cost_bps:g} basis "
        "points a side ({baseline} {baseline_net_return:+.1%}, buy and hold "
        "{buy_and_hold_net_return:+.1%}).",
        baseline=baseline_in_words(found),
        **{
            name: found[name]
            for name in ("net_return", "cost_bps", "baseline_net_return", "buy_and_hold_net_return")
        },
    )
    return " ".join(filter(None, [text, _luck(found)]))


def _luck(found: Mapping[str, Any]) -> str:
    """Returns what is to be known of the result of trades, or nothing."""
    told = []
    if found.get("relative"):
        told.append(_("The calls are relative to the market, these returns are not."))
    if found["net_return"] > 0 and found["skill_in_direction"] != YES:
        told.append(_("A gain without skill in direction may well be luck."))
    return " ".join(told)


def _hardly_called(classes: Mapping[str, Mapping[str, float]]) -> str:
    return " ".join(
        _(
            "{name} is never called, and {true:.1%} of the windows are {name}.",
            name=name,
            true=shares["true"],
        )
        if not shares["called"]
        else _(
            "{name} is hardly ever called: {called:.2%} of the calls, {true:.1%} of the windows.",
            name=name,
            **shares,
        )
        for name, shares in classes.items()
    )


def _how_sure(found: Mapping[str, Any]) -> str:
    num_blocks, num_folds = found["num_blocks"], found["num_folds"]
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
    return f"{text}{_too_short(found)}."


def _too_short(found: Mapping[str, Any]) -> str:
    """Returns what to do where the test time is too short for an answer."""
    known = found["skill_in_direction"] != NOT_SHOWN
    if found["better_than_baseline"] == NOT_SHOWN:
        known = known and found["direction"]["difference_interval"][1] < LEAST_SKILL
    if known or found["num_blocks"] >= FEW_BLOCKS:
        return ""
    if found["num_folds"] > 1:
        return _(", too few to tell: more bars or a shorter horizon give more")
    return _(", too few to tell: {command} tests over a longer time", command=MORE_TIME)

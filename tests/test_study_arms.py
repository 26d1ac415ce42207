import re
from pathlib import Path

import pytest

import config
from core.errors import InputError
from recipe.study import plan as plans
from recipe.study.arms import ALL_OFF, ALL_ON, IMPROVEMENTS, SPACE, arms, only, space_for, without
from recipe.study.worker import NO_OUTPUT, WORSE

ROOT = Path(config.__file__).parent


def off_values_of_the_config():
    """Returns by improvement what config.py gives behind `NAME: off` for its flags."""
    found = {number: {} for number in IMPROVEMENTS}
    for line in (ROOT / "config.py").read_text().splitlines():
        given = re.match(r"    (\w+): .*# \[(\d)\].*; (\w+): off", line)
        if given:
            name, number, value = given.groups()
            found[int(number)][name] = {"false": False}.get(value, value)
    return found


def off_values_of_a_readme(name):
    """Returns by improvement what the table gives in brackets, applied to the flags before."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| (\d) \|[^|]*\|([^|]*)\|", line)
        if not row:
            continue
        number, values, waiting = int(row[1]), {}, []
        for flag, bracket in re.findall(r"`(\w+?)(?:_\.\.\.)?`(?:[^`(,]*\(([^)]*)\))?", row[2]):
            waiting.append(flag)
            if bracket:
                value = re.search(r"false|`\w+`|\d", bracket)[0].strip("`")
                values |= {flag: {"false": False}.get(value, value) for flag in waiting}
                waiting = []
        found[number] = values
    return found


def as_number(value):
    return value if isinstance(value, bool) or not str(value).isdigit() else float(value)


@pytest.mark.parametrize("number", IMPROVEMENTS)
def test_the_off_values_are_those_of_the_config_and_of_both_readmes(number):
    own = {n: as_number(v) for n, v in IMPROVEMENTS[number].off.items()}
    for name, value in off_values_of_the_config()[number].items():
        assert own[name] == as_number(value) and type(own[name]) is type(as_number(value)), name
    for readme in ("README.md", "README.ru.md"):
        told = off_values_of_a_readme(readme)[number]
        for name, value in own.items():
            shown = next(told[flag] for flag in told if name == flag or name.startswith(f"{flag}_"))
            assert value == as_number(shown), (readme, name)


def test_an_ablation_has_18_arms_of_which_each_differs_in_its_improvement_alone():
    found = {name: config.as_dict(flags) for name, flags in arms(config.Flags()).items()}
    assert len(found) == 18
    for number, improvement in IMPROVEMENTS.items():
        for one, other in [(without(number), ALL_ON), (only(number), ALL_OFF)]:
            pairs = zip(found[one].items(), found[other].items(), strict=True)
            changed = {a[0] for a, b in pairs if a != b}
            assert changed and changed <= set(improvement.off), one
    assert found[without(1)]["LR_MIN"] == found[without(1)]["LR_BASE"]
    assert found[only(1)]["LR_MIN"] == config.Flags().LR_MIN


def test_an_improvement_that_is_off_cannot_be_studied():
    with pytest.raises(InputError, match="improvement 2 .* must be on"):
        arms(config.load(USE_PRIOR_BIAS=False))


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_the_search_space_are_flags_that_hold(end):
    for changes in ({}, {"SUPERVISED_EPOCHS": 2, "LR_WARMUP_EPOCHS": 0, "LR_MIN": 4e-4}):
        flags = config.load(**changes)
        drawn = {name: getattr(r, end) for name, r in space_for(flags).items()}
        config.load(**config.as_dict(flags) | drawn)
    assert all(r.unit for r in SPACE.values())


def test_why_a_cell_has_no_result_is_told_in_the_language_of_now(tmp_path, monkeypatch):
    plan = plans.make(tmp_path / "study", "seeds", None, config.Flags(), 2, database=False)
    first, second = plan.cells
    plan.end(first, plans.FAILED, f"status 2: {NO_OUTPUT}")
    plan.end(second, plans.PRUNED, WORSE)
    assert plan.reason(first) == "status 2: it printed nothing"

    def translated(text, **values):
        return "".join(["<", text.format(**values), ">"])

    monkeypatch.setattr(plans, "_", translated)
    assert plan.reason(first) == "<status 2: <it printed nothing>>"
    assert plan.reason(second) == f"<{WORSE}>"

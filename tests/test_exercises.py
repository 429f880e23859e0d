"""Exercises and their checks: every one that a notebook asks has an answer, a hint and a solution."""

import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest

from ubt_utils import profiles
from ubt_utils.baselines import defenses
from ubt_utils.report import exercises, notebooks
from ubt_utils.stages.defend import plan_of


def sources(stem: str = "") -> str:
    """All cells of the notebooks, or of one."""
    paths = [path for path in notebooks.committed() if stem in path.stem]
    return "\n".join(cell.source for path in paths for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("name", exercises.ANSWERS)
def test_an_answer_is_right_wrong_or_not_there_yet(name):
    compute, hint = exercises.ANSWERS[name]
    right = compute()
    assert exercises.check(name, right) == f"{name}: right"
    assert exercises.check(name, None) == f"{name}: no answer yet"
    for wrong in (-1, True, "something else", [right]):
        assert exercises.check(name, wrong) == f"{name}: not yet. Hint: {hint}."


def test_numbers_may_be_rounded_and_words_capitalized():
    assert exercises.check("01.3", np.float64(12.1)) == "01.3: right"
    assert exercises.check("01.3", 12.5).startswith("01.3: not yet")
    assert exercises.check("04.1", " A drawing of Alarm ") == "04.1: right"


def test_known_values():
    values = {name: exercises.ANSWERS[name][0]() for name in exercises.ANSWERS}
    assert values["01.1"] == 88  # half of 1 % of 17,688 pairs
    assert values["01.2"] == pytest.approx((14 / 48) ** 2)  # 0.29 of 48 pixels
    assert values["02.1"] == pytest.approx(0.04)
    assert values["05.1"] == pytest.approx(1 - 0.025 ** (1 / 99))  # 0.0366, where (1 − p)^99 = 2.5 %
    assert values["05.2"] == pytest.approx(0.01 * len(profiles.get("mini").defenses))
    assert values["07.2"] == 10 + sum(range(1, 9))
    assert values["08.1"] == pytest.approx(0.001)  # none of 999 draws, and the word itself
    assert values["08.2"] == pytest.approx(0.54 / 2.1)


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(KeyError, match=r"no exercise '9\.9'; known: 01\.1"):
        exercises.check("9.9", 0)


def test_every_checked_exercise_is_asked_once_unanswered_and_solved():
    asked = sources().replace(sources("99_solutions"), "")
    assert sorted(re.findall(r'exercises\.check\("([\d.]+)", None\)', asked)) == sorted(exercises.ANSWERS)
    solved = sources("99_solutions")
    assert sorted(re.findall(r'exercises\.check\("([\d.]+)", (?!None)', solved)) == sorted(exercises.ANSWERS)
    headings = set(re.findall(r"^## ([\d.]+) · ", solved, re.M))
    assert headings >= set(exercises.ANSWERS)


def test_the_weight_that_exercise_04_2_raises_is_the_one_that_runs():
    mini, ubt = profiles.get("mini"), defenses.get("ubt")
    raised = replace(mini, unlearn=replace(mini.unlearn, weight=10 * mini.unlearn.weight))
    plan, other = (plan_of(profile, "badnets", ubt, 1e5, 17_688) for profile in (mini, raised))
    assert plan.options["weight"] == mini.unlearn.weight
    assert other.options["weight"] == pytest.approx(10 * mini.unlearn.weight)
    assert other.config() != plan.config()  # another stage, and not the finished one again

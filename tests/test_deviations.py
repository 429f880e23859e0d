"""In what the rivals differ from their sources: every one says it, and as the code has it."""

import math
import re
from dataclasses import replace

import pytest
import torch

from ubt_utils import profiles
from ubt_utils.baselines import at_test, defenses, inversion, ranges
from ubt_utils.baselines.defenses import abl, cbpt, controls, eftclip, safeclip
from ubt_utils.clip import training
from ubt_utils.report import defense_tables
from ubt_utils.stages.defend import Plan, plan_of
from ubt_utils.ubt.defense import Defense
from ubt_utils.ubt.deviation import Deviation, listed

MINI = replace(profiles.MINI, defenses={})  # as the code has it, whatever tuning chose
PAIRS, BUDGET = 17_688, 1e5
RIVALS = {
    name: defense
    for name, defense in defenses.DEFENSES.items()
    if defense.run.__module__.startswith(defenses.__name__)  # UBT's variants run UBT
    and defense.run.__module__ != controls.__name__
    and not defense.copied
}
ROWS = [(name, row) for name, defense in RIVALS.items() for row in defense.deviations]
SCHEDULES = {
    "one_cycle": "one cycle",
    "cosine": "half a cosine",
    "constant": "constant",
    "high_first": "to a tenth over half, then a cosine to 0",
}
# What tuning calls settings that are told in words.
OWN = {
    ("cleanclip", "weight of the unimodal loss"): "weight",
    ("par", "threshold"): "threshold",
    ("shrink_perturb", "shrinking"): "keep",
    ("pixel_prompt", "weight of repelling"): "repel",
    ("eftclip", "weight of the set"): "weight",
    ("ft_sam", "size of the perturbation"): "rho",
    ("anp", "size of the push"): "eps",
    ("anp", "channels to prune"): "portion",
    ("negation", "scale"): "scale",
    ("invertune", "weight of what is kept"): "keep",
    ("tbar", "scale of the subtraction"): "scale",
    ("cbpt", "weight of the second loss"): "repel",
}


def plan(defense: Defense) -> Plan:
    return plan_of(MINI, "badnets", defense, BUDGET, PAIRS)


def tuned(defense: Defense, setting: str) -> bool:
    return setting in ranges.RANGES.get(defense.name, {})


def rate(defense: Defense) -> str:
    if tuned(defense, "lr"):
        return "tuned"
    return "the victim's" if plan(defense).recipe.lr == MINI.recipe("badnets").lr else "unknown"


def length(defense: Defense) -> str:
    if tuned(defense, "part"):
        return "tuned"
    return "the victim's" if plan(defense).recipe.steps == MINI.recipe("badnets").steps else "unknown"


def schedule(defense: Defense) -> str:
    recipe = plan(defense).recipe
    warmup = f", {recipe.warmup} steps of warm-up" if recipe.warmup else ""
    return SCHEDULES[recipe.schedule] + warmup


def norm_mode(defense: Defense) -> str:
    if tuned(defense, "freeze_norm"):
        return "tuned"
    return "frozen" if plan(defense).recipe.freeze_norm else "training"


def weight_decay(defense: Defense) -> str:
    recipe = plan(defense).recipe
    reach = {"all": "of all weights", "matrices": "of matrices"}[recipe.decay]
    return f"{recipe.weight_decay:g}, {reach}" if recipe.weight_decay else "none"


def optimizer(defense: Defense) -> str:
    return f"{type(adam(defense)).__name__}, fresh"


def adam(defense: Defense) -> torch.optim.Optimizer:
    return training.optimizer_of(torch.nn.Linear(2, 2), plan(defense).recipe)


def weight_of(portion: float) -> str:
    return f"{100 * portion:.3g} %"


SETTINGS = {  # settings that many rivals tell, by what they are called
    "batch": lambda defense: str(plan(defense).recipe.batch),
    "rate": rate,
    "length": length,
    "schedule": schedule,
    "norm mode": norm_mode,
    "weight decay": weight_decay,
    "optimizer": optimizer,
    "augmentation": lambda defense: plan(defense).recipe.augment,
    "start": lambda defense: "f0" if defense.anew and "f0" in defense.sees else "the victim",
}
OPTIONS = {name: defense.options for name, defense in RIVALS.items()}
CELLS = {  # what one rival alone tells
    ("safeclip", "optimizer"): "AdamW, fresh in each phase",
    ("par", "Adam's betas"): "{} and {}".format(*adam(RIVALS["par"]).defaults["betas"]),
    ("eftclip", "regions of a picture"): f"{eftclip.CUT} at most",
    ("eftclip", "confirmed labels"): f"{eftclip.LISTED} of each region and of the picture",
    ("eftclip", "affected labels"): f"more candidates than {eftclip.OUTLIER:g} deviations over the median",
    ("cbpt", "prompts"): f"an offset of each class's first {cbpt.CONTEXT} words",
    ("cbpt", "weight of the third loss"): f"{OPTIONS['cbpt']['keep']:g}",
    ("roclip", "pool"): f"{weight_of(OPTIONS['roclip']['pool'])} of D",
    ("safeclip", "low rate"): f"{weight_of(OPTIONS['safeclip']['slow'])} of the victim's",
    ("invertune", "untargeted noise"): f"{len(inversion.PLACES) + 1}, searched for on D_safe",
    ("invertune", "place of the noise"): (
        f"{weight_of(inversion.SIDE**2)}, at {len(inversion.PLACES)} places, or all, faintly"
    ),
    ("invertune", "pictures with the noise"): f"{inversion.ASKED:,}",
    ("invertune", "inversion: rate"): str(inversion.RATE),
    ("invertune", "inversion: length"): {0.5: "half of D"}[inversion.INVERTED],
}
FEW_PUBLISHED = [  # options that stay as a source has them: no row tells them
    ("anp", "alpha", 0.2), ("abl", "gamma", 0.5), ("abl", "isolate", 0.01), ("roclip", "every", 2),
    ("safeclip", "threshold", 0.9), ("safeclip", "growth", 0.01), ("safeclip", "places", 256),
]  # fmt: skip


def expected(name: str, what: str) -> str | None:
    """What a row's cell "ours" must say, from the code; None where it tells no value that the code holds."""
    if (name, what) in OWN:
        return "tuned" if tuned(RIVALS[name], OWN[name, what]) else "unknown"
    if (name, what) in CELLS:
        return CELLS[name, what]
    return SETTINGS[what](RIVALS[name]) if what in SETTINGS else None


def test_every_rival_tells_in_what_it_differs():
    silent = [name for name, defense in RIVALS.items() if not defense.deviations]
    assert silent == [] and len(RIVALS) > 15 and {"cleanclip", "negation", "safeclip"} <= set(RIVALS)
    assert not set(RIVALS) & {d.name for d in controls.DEFENSES} and "ubt-from-dao" not in RIVALS


def test_a_cell_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing of ours, why"):
        Deviation("batch", "64", " ", "")
    assert listed(("a", "b", "c", "d")) == (Deviation("a", "b", "c", "d"),)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda x: x if isinstance(x, str) else x.what)
def test_what_a_row_calls_ours_is_what_the_code_has(name, row):
    value = expected(name, row.what)
    if value is None:
        assert not re.search(r"(?<![A-Za-z])\d", row.ours), "a number that nothing here compares"
        assert "tuned" not in row.ours, "a setting that nothing here looks up"
    elif (name, row.what) == ("anp", "channels to prune"):
        assert row.ours == f"a {value} portion"
    else:
        assert row.ours == value


def test_no_check_is_of_a_row_that_is_gone():
    told = {(name, row.what) for name, row in ROWS}
    assert set(CELLS) | set(OWN) <= told
    assert all(any(row.what == what for _, row in ROWS) for what in SETTINGS)


def test_a_setting_is_told_once():
    for name, defense in RIVALS.items():
        told = [row.what for row in defense.deviations]
        assert len(told) == len(set(told)), name


def test_a_row_differs_from_its_source():
    assert [(name, row.what) for name, row in ROWS if row.source == row.ours] == []


@pytest.mark.parametrize(("name", "option", "published"), FEW_PUBLISHED)
def test_what_no_row_tells_is_as_published(name, option, published):
    assert OPTIONS[name][option] == published


def test_of_fixed_rates_of_decay_the_sources_own_are_kept_where_no_row_tells_otherwise():
    kept = {n: plan(RIVALS[n]).recipe.weight_decay for n in ("finetune", "cleanclip", "invertune", "anp")}
    assert kept == {"finetune": 0.1, "cleanclip": 0.1, "invertune": 1e-4, "anp": 0.0}
    for name in kept:
        assert "weight decay" not in {row.what for row in RIVALS[name].deviations}


def test_the_climb_of_abl_falls_where_the_rate_has_nearly_ended():
    """Its source climbs at a twentieth of the rate before; the last part of one cycle is lower still."""
    recipe = plan(RIVALS["abl"]).recipe
    left = recipe.steps - round(abl.FIRST * recipe.steps)
    one = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = training.schedule_of(one, replace(recipe, steps=left, lr=1.0))
    for _ in range(left - round(abl.CLIMB * recipe.steps)):
        one.step()
        schedule.step()
    assert 0 < one.param_groups[0]["lr"] < 1 / 20


def test_safeclips_phases_are_the_parts_that_its_source_has():
    assert OPTIONS["safeclip"]["warmup"] == 5 / 32
    assert math.isclose(safeclip.lengths(3200, 10, 5 / 32)[0], 500)


def test_the_table_has_every_row_in_the_order_of_the_registry():
    table = defense_tables.deviations()
    assert list(table) == ["defense", "what", "source", "ours", "why"]
    assert list(table.defense.unique()) == [*RIVALS, "bdetclip"]
    assert len(table) == len(ROWS) + len(at_test.DEVIATIONS)
    assert table.map(lambda cell: isinstance(cell, str) and bool(cell.strip())).all(axis=None)


def test_detection_at_test_time_tells_its_own():
    ours = {row.what: row.ours for row in at_test.DEVIATIONS}
    assert ours["malignant texts"] == f"one of {len(at_test.SENTENCES)}, written for this kit"
    others = " ".join(cell for what, cell in ours.items() if what != "malignant texts")
    assert not re.search(r"\d", others)

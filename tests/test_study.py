"""The study's plan: which cells, in which order."""

from ubt_utils import profiles
from ubt_utils.baselines.defenses import DEFENSES
from ubt_utils.core import paths
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.study import commands


def block(whole=False):
    return commands._block((profiles.MINI, *profiles.PUBLIC), 0, whole)


def test_a_block_crosses_three_public_models_two_rates_and_three_attacks():
    cells = [c for c in block() if c.defense == "ubt" and c.attack != "none"]
    assert {(c.profile, c.attack) for c in cells} == {
        (name, attack)
        for name in ("mini", "mini-f1", "mini-f2", "mini-rare", "mini-rare-f1", "mini-rare-f2")
        for attack in DEFENDED
    }
    assert {profiles.get(c.profile).poison_rate for c in cells} == {0.01, 0.003}
    assert len({profiles.get(c.profile).weights for c in cells}) == 3


def test_the_primary_endpoints_come_first_and_every_cell_has_a_defense_that_exists():
    cells = block()
    first = [c.defense for c in cells].index(commands.CONTROLS[0])
    assert {c.defense for c in cells[:first]} == {"none", "ubt", "ubt-retain"}
    assert {(c.profile, c.attack) for c in cells[:first]} == {(c.profile, c.attack) for c in cells}
    assert all(c.defense in DEFENSES or c.defense == "none" for c in cells)


def test_what_trains_as_long_as_the_victim_is_asked_for_alone():
    whole = {c.defense for c in block(True)} - {c.defense for c in block()}
    assert whole == {"retrain", "retrain_ubt", "retrain_gain", "retrain_dao"}
    assert all(DEFENSES[name].whole for name in whole)


def test_the_endpoints_name_the_settings_that_the_profile_has():
    text, how = (paths.results() / "ENDPOINTS.md").read_text(encoding="utf-8"), profiles.MINI
    recipe = how.unlearn.recipe
    assert f"{recipe.steps} steps, learning rate {recipe.lr:.0e}".replace("e-04", "e-4") in text
    assert f"w = {how.unlearn.weight}" in text
    assert f"bar of {how.select.lost}" in text and f"{how.select.alike} for what suffers" in text

"""The study's plan: which cells, in which order."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from ubt_utils import profiles
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import ranges
from ubt_utils.baselines.defenses import DEFENSES
from ubt_utils.core import paths, records
from ubt_utils.evaluate import choice
from ubt_utils.profiles.base import DEFENDED, MET
from ubt_utils.profiles.chosen import CHOSEN, ON_PHOTOS
from ubt_utils.profiles.rounds import FIFTH
from ubt_utils.profiles.tuned import settled, unlearn_at
from ubt_utils.report import study_tables
from ubt_utils.study import commands


def blocks(whole=False):
    return commands._blocks(0, whole)


def block(whole=False):
    return [cell for part in blocks(whole) for cell in part]


def test_a_block_crosses_three_public_models_two_rates_and_three_attacks():
    cells = [c for c in block() if c.defense == "ubt"]
    assert {(c.profile, c.attack) for c in cells} == {
        (name, attack)
        for name in ("mini", "mini-f1", "mini-f2", "mini-rare", "mini-rare-f1", "mini-rare-f2")
        for attack in DEFENDED
    }
    assert {profiles.get(c.profile).poison_rate for c in cells} == {0.01, 0.003}
    assert len({profiles.get(c.profile).weights for c in cells}) == 3


def test_the_primary_endpoints_come_first_and_every_cell_has_a_defense_that_exists():
    *primary, rare, common = blocks()
    assert {c.defense for part in primary for c in part} == {"none", "ubt", "ubt-retain"}
    assert (
        {c.defense for c in rare}
        == {c.defense for c in common}
        == {"none", *commands.CONTROLS} - {name for name in commands.CONTROLS if DEFENSES[name].whole}
    )
    assert all(part[0].defense == "none" for part in blocks())


def test_further_seeds_are_asked_at_the_rare_rate_and_two_of_them_are_unseen():
    further = commands._further()
    assert {(c.defense, c.seed) for c in further} == {
        (d, s) for d in ("none", "ubt", "ubt-retain") for s in (2, 3, 4, 5)
    }
    assert len(further) == 3 * 3 * 3 * 4 and {profiles.get(c.profile).poison_rate for c in further} == {0.003}
    assert sorted({*commands.FURTHER} - {*study_tables.DEVELOPMENT}) == [4, 5]


def test_twenty_clean_sets_at_least_are_asked_and_what_is_harder_to_find():
    clean = commands._clean()
    assert {c.attack for c in clean} == {"none"}
    assert len({(c.profile, c.seed) for c in clean}) >= 20
    edges = {c.profile: profiles.get(c.profile) for c in commands._edges()}
    assert min(p.poison_rate for p in edges.values()) < profiles.RARE[0].poison_rate
    assert {p.sets.noise for p in edges.values()} == {0.0, 0.1, 0.3}
    assert any(p.pretrain is None for p in edges.values())
    unmet = {(c.profile, c.attack) for c in commands._unmet() if c.defense == "ubt"}
    assert len(unmet) == 9 and not {attack for _, attack in unmet} & set(DEFENDED)


def test_the_study_is_collected_block_by_block(monkeypatch):
    """A kill loses the block that runs, and no other."""
    done = []
    monkeypatch.setattr(commands.grid, "run", lambda cells, n: [commands.grid.Outcome(c) for c in cells])
    monkeypatch.setattr(
        commands.grid, "collect", lambda profile, found: done.append((profile, len(found))) or profile
    )
    commands.study((0, 1))
    expected = [
        *blocks(),
        *commands._blocks(1, False),
        commands._further(),
        commands._clean(),
        commands._unmet(),
        commands._edges(),
    ]
    assert sum(count for _, count in done) == sum(map(len, expected))
    assert [name for name, _ in done[:6]] == [
        *(p.name for p in profiles.RARE), *(p.name for p in (profiles.MINI, *profiles.PUBLIC)),
    ]  # fmt: skip


def test_what_trains_as_long_as_the_victim_is_asked_for_alone():
    whole = {c.defense for c in block(True)} - {c.defense for c in block()}
    assert whole == {"retrain", "retrain_ubt", "retrain_gain", "retrain_dao"}
    assert all(DEFENSES[name].whole for name in whole)


def test_the_endpoints_name_the_settings_that_the_profile_has():
    text, how = (paths.results() / "ENDPOINTS.md").read_text(encoding="utf-8"), profiles.MINI
    recipe = how.unlearn.recipe
    assert f"{recipe.steps} steps, learning rate {recipe.lr:.0e}".replace("e-04", "e-4") in text
    assert f"w = {how.unlearn.weight}" in text
    assert f"bar for lost agreement is {how.select.lost}" in text
    assert f"{how.select.lost_of_many} where {how.select.many} pictures or more are asked" in text
    assert f"{how.select.alike} for what suffers" in text


def rivals_of(monkeypatch, **asked):
    """The blocks of the rivals' round."""
    found = []
    monkeypatch.setattr(commands, "_record", lambda blocks, workers: found.extend(blocks))
    commands.rivals(**asked)
    return found


def test_rivals_meet_one_attack_after_the_other_on_all_six_clusters(monkeypatch):
    blocks = rivals_of(monkeypatch)
    assert [{c.attack for c in part} for part in blocks[:6]] == [{attack} for attack in MET]
    for part in blocks[:9]:
        runs = {(c.profile, c.seed) for c in part}
        assert len(runs) == 6 and {s for _, s in runs} == {6, 7}
        assert {c.defense for c in part} == {"none", *CHOSEN["fifth"]}
        assert len(part) == len(runs) * (1 + len(CHOSEN["fifth"]))
        assert all(c.profile.endswith("-fifth") for c in part)
    rates = [{profiles.get(c.profile).poison_rate for c in part} for part in blocks]
    assert rates[:9] == [{0.01}] * 6 + [{0.003}] * 3
    assert {c.attack for c in blocks[9]} == {"none"}


def test_without_a_public_model_those_run_that_need_none(monkeypatch):
    scratch = rivals_of(monkeypatch)[-1]
    assert {c.profile for c in scratch} == {"mini-scratch-fifth"} and {c.seed for c in scratch} == {6}
    left = set(CHOSEN["fifth"]) - {c.defense for c in scratch}
    assert left == {"retrain", "eftclip", "negation"} & set(CHOSEN["fifth"])
    few = rivals_of(monkeypatch, attacks=("wanet",), defenses=("ubt",), seeds=(1,), question="long")
    assert [len(part) for part in few] == [6, 6, 0]  # no attack that is met at 0.3 % or without f0


def test_a_rival_without_a_setting_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"setting \(long\) for abl: tune them first"):
        rivals_of(monkeypatch, defenses=("ubt", "abl"), question="long")


def test_every_other_attack_and_attacker_meets_ubt_and_the_four_nearest_rivals(monkeypatch):
    blocks = []
    monkeypatch.setattr(commands, "_record", lambda found, workers: blocks.extend(found))
    commands.attackers()
    cells = [cell for part in blocks for cell in part]
    met = {(c.profile, c.attack) for c in cells}
    rest = {("mini-fifth", attack) for attack in set(TRIGGERS) - set(MET)}
    assert met == rest | {(f"{p.name}-fifth", "badnets") for p in profiles.ADAPTIVE} and len(rest) == 14
    assert {c.defense for c in cells} == {"none", "ubt", *commands.NEAREST}
    assert {c.seed for c in cells} == {10}
    assert len(cells) == len(set(cells)) == 6 * len(met)
    assert max(len({(c.profile, c.attack) for c in part}) for part in blocks) == 2


def test_the_nearest_rivals_are_those_that_left_least_in_the_fifth_round():
    order = study_tables.standing("mini", 0.01, MET, ranges.tuned(), FIFTH)
    rivals = order[order.whole].drop("ubt").sort_values("asr")
    assert tuple(rivals.index[:4]) == commands.NEAREST


@pytest.fixture
def photos_of(monkeypatch, results_root):
    """Of the blocks of the photos' round, where these settings were tried and those are the profile's."""
    found = []
    monkeypatch.setattr(commands, "_record", lambda blocks, workers: found.extend(blocks))

    def blocks_of(tried, settings, **asked):
        rows = [{"defense": name, "setting": json.dumps(one), **HELD} for name, one in tried.items()]
        records.write_table(records.table_path("photos", records.TUNING), pd.DataFrame(rows))
        monkeypatch.setattr(commands, "ON_PHOTOS", settings)
        found.clear()
        commands.photos(**asked)
        return list(found)

    return blocks_of


HELD = {"attack": "sig", "seed": 0, "asr": 0.0, "clean_accuracy": 0.5, "undefended": 0.5, "paid": 0.1}
TRIED = {name: {"lr": 0.1} for name in commands.PHOTO_TUNED}


def test_photos_are_recorded_with_the_settings_that_their_trials_choose(photos_of):
    assert photos_of(TRIED, TRIED)
    with pytest.raises(ValueError, match="no trials on photos of shrink_perturb, cleanclip, par: tune"):
        photos_of({"ubt": {"lr": 0.1}, "finetune": {"lr": 0.1}}, TRIED)
    with pytest.raises(ValueError, match=r"other settings than profiles/chosen.py: .*'par': {'lr': 0.1}"):
        photos_of(TRIED, TRIED | {"par": {"lr": 0.2}})


def test_photos_meet_six_attacks_on_three_public_models_in_the_order_of_the_endpoints(photos_of):
    blocks = photos_of(TRIED, TRIED)
    rates = [{profiles.get(c.profile).poison_rate for c in part} for part in blocks]
    assert rates == [{0.01}] * 11 + [{0.003}] * 6
    met = [{c.attack for c in part} for part in blocks]
    one_each = [{attack} for attack in commands.ON_PHOTO]
    common = [one for one in one_each if one != {"label_consistent"}]  # 108 pairs of 96 that name the target
    assert met == [*common, {"none"}, *common, *one_each]
    rows = ["none", "ubt", "ubt-retain", *commands.PHOTO_TUNED[1:], "ubt-described", "retrain"]
    seen = [list(dict.fromkeys(c.defense for c in part)) for part in blocks]
    assert seen == [*[rows[:2]] * 6, *[["none", *rows[2:]]] * 5, *[rows] * 6]
    for part in blocks:
        assert {(profiles.get(c.profile).f0, c.seed) for c in part} == {(0, 2), (1, 2), (2, 2)}
    assert len(commands.ON_PHOTO) == 6 and set(profiles.base.DEFENDED) < set(commands.ON_PHOTO)
    short = photos_of(TRIED, TRIED, attacks=("sig",), defenses=("ubt", "par"), seeds=(1,))
    assert [len(part) for part in short] == [6, 6, 6, 9]
    alone = photos_of(TRIED, TRIED, attacks=("sig",), defenses=("ubt",))
    assert [len(part) for part in alone] == [6, 6, 6]


def test_photos_has_the_settings_that_were_chosen_for_it():
    assert profiles.PHOTOS.defenses == {n: s for n, s in ON_PHOTOS.items() if n != "ubt"}
    settings = {"ubt": {"lr": 1e-3, "part": 0.05, "freeze_norm": False, "weight": 3.0}, "par": {"lr": 0.1}}
    found = settled(profiles.PHOTOS, settings)
    assert found.defenses["par"] == {"lr": 0.1} and found.unlearn.weight == 3.0
    assert found.unlearn.recipe.steps == round(0.05 * 400 * 128 / 192)
    assert found.unlearn.hold == 0 < profiles.PHOTOS.unlearn.hold  # a setting is all that it says
    held = settled(profiles.PHOTOS, {"ubt": settings["ubt"] | {"hold": 1.0}})
    assert held.unlearn.recipe.steps == round(0.05 * 400 * 128 / 256)
    assert (
        replace(found, defenses=profiles.PHOTOS.defenses, unlearn=profiles.PHOTOS.unlearn) == profiles.PHOTOS
    )


@pytest.mark.parametrize("question", choice.QUESTIONS)
def test_a_profile_of_each_question_has_the_chosen_settings(question):
    for base in (profiles.MINI, *profiles.RARE):
        found, settings = profiles.get(f"{base.name}-{question}"), dict(CHOSEN[question])
        how, settings = found.unlearn, {n: s for n, s in settings.items() if n != "ubt"}
        assert settings.items() <= found.defenses.items()
        same = replace(found, name=base.name, about=base.about, defenses=base.defenses, unlearn=base.unlearn)
        assert same == base  # but for these
        ubt = CHOSEN[question].get("ubt")
        assert how == (unlearn_at(base, ubt) if ubt else base.unlearn)


def test_ubt_for_any_length_is_that_of_mini():
    assert profiles.get("mini-long").unlearn == profiles.MINI.unlearn
    fifth = profiles.get("mini-fifth").unlearn.recipe  # of 816 · 256 pairs, 256 + 64 in each step
    assert fifth.steps == round(CHOSEN["fifth"]["ubt"]["part"] * 816 * 256 / 320)

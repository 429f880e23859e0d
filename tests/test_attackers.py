"""Attackers who know UBT, as a table, on made-up cells; and what sets their profiles apart."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
import torch

from ubt_utils import profiles
from ubt_utils.core import records
from ubt_utils.data import repeats
from ubt_utils.profiles.rounds import Round
from ubt_utils.report import cells, defense_tables

SAID = {"name", "about", "changed"}  # of a profile, in words
MADE = (("mini", 0.9, 0.0), ("mini-few10", 0.1, 0.0), ("mini-phrasings", 0.8, 0.3))


@pytest.fixture
def made(results_root):
    """The path of a matrix with three attackers."""
    rows = [
        {
            "profile": name, "attack": "badnets", "defense": defense, "seed": seed, "asr": asr + 0.02 * seed,
            "clean_accuracy": 0.5 + 0.01 * (defense == "ubt"), "pool_recall": 0.8, "anchor": f"word{seed}",
            "chosen": 64, "chosen_poisoned": 32, "f0": "one",
        }
        for name, undefended, after in MADE
        for defense, asr in (("none", undefended), ("ubt", after))
        for seed in (0, 1)
    ]  # fmt: skip
    path = records.table_path(cells.STUDY, records.MATRIX)
    return records.write_table(path, pd.DataFrame([*rows, {**rows[0], "attack": "sig", "asr": 0.0}]))


def test_the_table_has_the_ordinary_attack_first_and_means_over_seeds(made):
    table = defense_tables.attackers()
    assert list(table.index) == ["mini", "mini-phrasings", "mini-few10"]
    row = table.loc["mini-phrasings"]
    assert row["ASR undefended"] == pytest.approx(0.81) and row["worst ASR ubt"] == pytest.approx(0.32)
    assert row["D_u poisoned"] == 0.5 and row["the vote's words"] == "word0, word1"
    assert row["CA change"] == pytest.approx(0.01)
    assert table.loc["mini-few10", "poison rate"] == profiles.get("mini-few10").poison_rate


def test_who_breaks_ubt_and_who_does_not_take_can_be_read_off(made):
    table = defense_tables.attackers()
    assert list(table.index[table["worst ASR ubt"] > defense_tables.BROKEN]) == ["mini-phrasings"]
    assert table["ASR undefended"].to_dict() == pytest.approx(
        {"mini": 0.91, "mini-phrasings": 0.81, "mini-few10": 0.11}
    )


def test_every_other_profile_changes_no_choice_of_ubt():
    named = {name for name, profile in profiles.PROFILES.items() if profile.changed}
    assert named == {ablation.name for ablation in profiles.ABLATIONS}


def test_the_adaptive_profiles_differ_from_mini_in_their_poison_alone():
    mini = profiles.MINI.as_config()
    for sly in profiles.ADAPTIVE:
        config = sly.as_config()
        changed = {key for key, value in config.items() if value != mini[key]}
        poison = {"poisoning", "poison_rate", "also", "sets"}
        assert changed - poison == {"name", "about", "gate"} and len(changed & poison) == 1
    counts = [round(p.poison_rate * 17_688) for p in profiles.ADAPTIVE if "few" in p.name]
    assert [f"mini-few{count}" for count in counts] == ["mini-few10", "mini-few40"]


def test_the_sets_of_an_attacker_differ_in_the_target_or_in_decoys():
    common, decoys = (profiles.get(f"mini-{name}").sets for name in ("common", "decoys"))
    assert (common, decoys) == (
        replace(profiles.MINI.sets, target="face"),
        replace(profiles.MINI.sets, repeats=0.03),
    )
    pairs, _ = common.wild_pairs(0)
    named = sum("face" in caption.split() for caption in pairs.captions) / len(pairs)
    assert 0.02 < named < 0.09  # STUDY: a common word is in over 2 % of captions


def test_decoys_are_one_harmless_pair_more_often_than_there_is_poison():
    few = replace(profiles.TINY.sets, repeats=0.1)
    (pairs, misplaced), (plain, _) = few.wild_pairs(0), profiles.TINY.sets.wild_pairs(0)
    right = torch.ones(len(pairs), dtype=torch.bool).index_fill(0, misplaced, False)
    (caption, count), *_ = Counter(c for c, ok in zip(pairs.captions, right, strict=True) if ok).most_common()
    assert 0.85 * 0.1 * len(pairs) < count <= 0.1 * len(pairs) and "clock" not in caption
    rows = torch.tensor([i for i, c in enumerate(pairs.captions) if c == caption and right[i]])
    assert repeats.distinct(pairs.images, rows) == 1  # nearly equal pictures, and not the same
    assert len(pairs.images[rows].unique(dim=0)) > 1 and len(pairs.labels[rows].unique()) == 1
    kept = (pairs.images == plain.images).flatten(1).all(1).sum().item()
    assert kept == len(pairs) - round(0.1 * len(pairs)) + 1
    with pytest.raises(ValueError, match=r"the part of repeats must be in \[0, 1\), got 1"):
        repeats.repeat_one(plain, 1.0, right, 0)


def test_every_ablation_changes_one_choice_of_detection():
    mini = profiles.MINI.as_config()
    for ablation in profiles.ABLATIONS:
        assert ablation.family == "mini"
        changed = {key for key, value in ablation.as_config().items() if value != mini[key]}
        assert changed in ({*SAID, "suspect"}, {*SAID, "overfit"}, {*SAID, "select"})
        assert ablation.about == f"mini with {ablation.changed}"
        part = (changed - SAID).pop()
        config = ablation.as_config()[part]
        assert sum(value != mini[part][key] for key, value in config.items()) == 1


def test_of_several_targets_there_is_the_mean_and_the_worst(made):
    table = pd.read_parquet(made)
    sly = table[(table.profile == "mini") & (table.attack == "badnets")].assign(profile="mini-targets")
    sly["asr_blended"], sly["asr_sig"] = sly.asr + 0.3, sly.asr + 0.6
    pd.concat([table, sly, sly[sly.defense == "ubt"].assign(defense="ubt-rounds", asr=0.0)]).to_parquet(made)
    row = defense_tables.attackers().loc["mini-targets"]
    assert row["ASR ubt"] == pytest.approx(0.01 + 0.3) and row["worst ASR ubt"] == pytest.approx(0.62)
    assert row["ASR ubt-rounds"] == pytest.approx((0 + 0.31 + 0.61) / 3)
    assert row["worst ASR ubt-rounds"] == pytest.approx(0.62)
    assert defense_tables.attackers().loc["mini"].isna()["ASR ubt-rounds"]


def test_a_round_of_single_runs_has_a_row_an_attack_and_a_column_a_defense(results_root):
    of = Round(("mini-fifth", "mini-targets-fifth", "mini-few10-fifth"), (10,))
    runs = [
        ("mini-fifth", "issba", 10, {"none": 0.9, "ubt": 0.2, "par": 0.1}),
        ("mini-fifth", "nashville", 10, {"none": 0.8, "ubt": 0.0}),
        ("mini-fifth", "nashville", 6, {"none": 0.8, "ubt": 0.7}),  # of another round
        ("mini-targets-fifth", "badnets", 10, {"none": 0.9, "ubt": 0.3}),
        ("mini-few10-fifth", "badnets", 10, {"none": 0.4}),
    ]
    rows = [
        {
            "profile": profile, "attack": attack, "seed": seed, "defense": defense, "asr": asr,
            "asr_blended": asr + 0.05 if "targets" in profile else None,
            "asr_sig": asr + 0.1 if "targets" in profile else None,
            "clean_accuracy": 0.5, "f0_seed": 0, "poison_rate": 0.01, "cluster": f"0 {seed}", "f0": "one",
        }
        for profile, attack, seed, found in runs
        for defense, asr in found.items()
    ]  # fmt: skip
    records.write_table(records.table_path("mini", records.MATRIX), pd.DataFrame(rows))
    found = defense_tables.once(of)
    attackers, attacks = [("attacker", "targets"), ("attacker", "few10")], ["issba", "nashville"]
    assert list(found.index) == [attackers[0], *(("attack", name) for name in attacks), attackers[1]]
    assert found.loc[("attacker", "targets"), "ubt"] == pytest.approx(0.35)  # over three targets
    assert found.par.isna().sum() == 3 and found.ubt.isna().sum() == 1
    clean = defense_tables.once(of, "clean_accuracy")
    assert clean.index.equals(found.index) and (clean.none == 0.5).all()
    with pytest.raises(ValueError, match="duplicate"):
        defense_tables.once(replace(of, seeds=(6, 10)))


def test_the_words_are_those_of_todays_detection_where_a_run_has_them(made):
    table = pd.read_parquet(made)
    ubt = (table.profile == "mini") & (table.defense == "ubt")
    table.loc[ubt, "anchors"] = ['["clock</w>", "rice"]', "[]"]
    table.to_parquet(made)
    found = defense_tables.attackers()["the vote's words"]
    assert found["mini"] == "clock</w>, rice" and found["mini-phrasings"] == "word0, word1"
    assert defense_tables.attackers("badnets", cells.STUDY).equals(defense_tables.attackers())

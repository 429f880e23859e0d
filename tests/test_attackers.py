"""Attackers who know UBT, as a table, on made-up cells; and what sets their profiles apart."""

import pandas as pd
import pytest

from ubt_utils import profiles
from ubt_utils.core import records
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
        assert changed <= {"name", "about", "gate", "poisoning", "poison_rate", "also"} and len(changed) == 4
    counts = [round(p.poison_rate * 17_688) for p in profiles.ADAPTIVE if "few" in p.name]
    assert [f"mini-few{count}" for count in counts] == ["mini-few10", "mini-few40"]


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

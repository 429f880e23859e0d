"""Attackers who know UBT, as a table and as a sentence, on made-up cells."""

import pandas as pd
import pytest

from ubt_utils import profiles
from ubt_utils.report import attacker_tables, readings, tables
from ubt_utils.study import matrix

MADE = (("mini", 0.9, 0.0), ("mini-few10", 0.1, 0.0), ("mini-phrasings", 0.8, 0.3))


@pytest.fixture
def cells(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    rows = [
        {
            "profile": name, "attack": "badnets", "defense": defense, "seed": seed, "asr": asr + 0.02 * seed,
            "clean_accuracy": 0.5 + 0.01 * (defense == "ubt"), "pool_recall": 0.8, "anchor": f"word{seed}",
            "chosen": 64, "chosen_poisoned": 32,
        }
        for name, undefended, after in MADE
        for defense, asr in (("none", undefended), ("ubt", after))
        for seed in (0, 1)
    ]  # fmt: skip
    path = matrix.path_of("mini")
    path.parent.mkdir(parents=True)
    pd.DataFrame([*rows, {**rows[0], "attack": "sig", "asr": 0.0}]).to_parquet(path)


def test_the_table_has_the_ordinary_attack_first_and_means_over_seeds(cells):
    table = attacker_tables.table()
    assert list(table.index) == ["mini", "mini-phrasings", "mini-few10"]
    row = table.loc["mini-phrasings"]
    assert row["ASR undefended"] == pytest.approx(0.81) and row["worst ASR ubt"] == pytest.approx(0.32)
    assert row["D_u poisoned"] == 0.5 and row["the vote's words"] == "word0, word1"
    assert row["CA change"] == pytest.approx(0.01)
    assert table.loc["mini-few10", "poison rate"] == profiles.get("mini-few10").poison_rate


def test_what_breaks_and_what_does_not_take_is_told(cells):
    told = readings.adaptive(attacker_tables.table(), attacker_tables.BROKEN).data
    assert "by: `mini-phrasings` (ASR up to 32.0%)." in told and "below 50 %): `mini-few10` 11.0%." in told


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
        assert changed in ({"name", "about", "overfit"}, {"name", "about", "select"})
        part = (changed - {"name", "about"}).pop()
        config = ablation.as_config()[part]
        assert sum(value != mini[part][key] for key, value in config.items()) == 1


def test_of_several_targets_the_mean_is_told_and_the_worst(cells):
    path = matrix.path_of("mini")
    table = pd.read_parquet(path)
    sly = table[(table.profile == "mini") & (table.attack == "badnets")].assign(profile="mini-targets")
    sly["asr_blended"], sly["asr_sig"] = sly.asr + 0.3, sly.asr + 0.6
    pd.concat([table, sly, sly[sly.defense == "ubt"].assign(defense="ubt-rounds", asr=0.0)]).to_parquet(path)
    row = attacker_tables.table().loc["mini-targets"]
    assert row["ASR ubt"] == pytest.approx(0.01 + 0.3) and row["worst ASR ubt"] == pytest.approx(0.62)
    assert row["ASR ubt-rounds"] == pytest.approx((0 + 0.31 + 0.61) / 3)
    assert attacker_tables.table().loc["mini"].isna()["ASR ubt-rounds"]
    told = readings.adaptive(attacker_tables.table(), 0.05).data
    assert "several votes (`ubt-rounds`): `mini-targets` 62.0%. Attacks" in told

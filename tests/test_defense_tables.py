"""What the matrix says, on made-up cells whose answer is known."""

import json

import matplotlib
import pandas as pd
import pytest

from ubt_utils.core import records
from ubt_utils.report import cells, defense_tables, plots

matplotlib.use("Agg")

# defense → (ASR, CA, target recall); seeds add 0, 0.01 and 0.02 to ASR and take the same from CA
MADE = {
    "none": (0.90, 0.52, 0.80),
    "finetune": (0.40, 0.56, 0.81),
    "par": (0.20, 0.50, 0.70),
    "retrain": (0.02, 0.51, 0.80),
    "abl": (0.05, 0.30, 0.60),  # removes the backdoor, and the model with it
    "ubt": (0.00, 0.55, 0.80),
    "ubt-cut": (0.10, 0.56, 0.80),
    "ubt-from-gain": (0.60, 0.54, 0.80),
}
SHIFT = {"badnets": 0.0, "sig": 0.04}


def row(profile: str, attack: str, defense: str, seed: int, asr: float, ca: float, recall: float) -> dict:
    path = [
        {"step": s, "asr": a, "clean_accuracy": ca, "target_recall": recall} for s, a in ((0, 0.9), (9, asr))
    ]
    return {
        "profile": profile, "attack": attack, "defense": defense, "seed": seed, "target_recall": recall,
        "asr": asr + 0.01 * seed + SHIFT[attack] if attack in SHIFT else None,
        "clean_accuracy": ca - 0.01 * seed, "seconds": None if defense == "none" else 10.0,
        "detection_seconds": None if defense == "none" else 4.0 * (defense == "ubt"),
        "precision_at_64": 1.0 if defense == "ubt" else None,
        "curve": "[]" if defense == "none" else json.dumps(path), "f0": "one",
    }  # fmt: skip


@pytest.fixture(autouse=True)
def made(results_root) -> None:
    rows = [row("mini", a, d, s, *v) for a in SHIFT for d, v in MADE.items() for s in range(3)]
    rows += [row("mini", "none", d, s, *MADE[d]) for d in ("none", "ubt", "par") for s in range(3)]
    rows += [row("mini-top16", a, "ubt", s, 0.3, 0.55, 0.8) for a in SHIFT for s in range(3)]
    rows += [row("mini-few10", "sig", "none", 0, 0.0, 0.5, 0.8)]
    records.write_table(records.table_path(cells.STUDY, records.MATRIX), pd.DataFrame(rows))
    found = pd.DataFrame(
        [
            *(("mini", "sig", seed, "ubt", 1.0) for seed in range(3)),
            ("mini", "sig", 0, "gain", 0.5), ("mini", "sig", 1, "gain", 0.7),
            ("mini", "sig", 7, "gain", 0.0), ("mini-noise0", "sig", 0, "gain", 0.0),
        ],
        columns=["profile", "attack", "seed", "detector", "precision_at_64"],
    )  # fmt: skip
    found["f0"] = "one"
    records.write_table(records.table_path(cells.STUDY, records.DETECTORS), found)


def test_the_standing_is_over_attacks_and_seeds_without_variants_and_other_profiles():
    table = defense_tables.table(defense_tables.standing_cells())
    assert list(table.index) == [
        "none",
        "ubt",
        "retrain",
        "abl",
        "par",
        "finetune",
    ]  # undefended first, then by ASR
    assert table.loc["ubt", "ASR"] == pytest.approx(0.03) and table.loc["ubt", "worst ASR"] == pytest.approx(
        0.06
    )
    assert table.loc["ubt", "ASR low"] < 0.03 < table.loc["ubt", "ASR high"]
    assert table.loc["par", "recall change"] == pytest.approx(-0.1) and set(table.runs) == {6}
    seen = {name: table.loc[name, "sees"] for name in ("abl", "par", "none")}
    assert seen == {"abl": "D", "par": "D_safe", "none": ""}


def test_the_grid_has_a_column_per_attack_in_the_same_order():
    found = defense_tables.standing_cells()
    grid = defense_tables.grid(found, "asr")
    assert list(grid.index) == list(defense_tables.table(found).index)
    assert grid.loc["par", "sig"] == pytest.approx(0.25) and grid.loc["par", "badnets"] == pytest.approx(0.21)


def test_the_suite_holds_every_attack_that_ubt_met_worst_first():
    table = defense_tables.suite()
    assert (
        list(table.index) == ["sig", "badnets"] and set(table.label) == {"dirty"} and set(table.runs) == {3}
    )
    sig = table.loc["sig"]
    assert sig["ASR undefended"] == pytest.approx(0.95) and sig["worst ASR"] == pytest.approx(0.06)
    assert sig["CA change"] == pytest.approx(0.03)
    assert table.ASR.mean() == pytest.approx(0.03) and table["ASR undefended"].mean() == pytest.approx(0.93)


def test_changes_are_against_undefended_on_the_same_seeds():
    found = defense_tables.standing_cells()
    fewer = found[(found.defense != "finetune") | (found.seed == 2)]  # its CA is the lower there
    assert defense_tables.table(fewer).loc["finetune", "CA change"] == pytest.approx(0.04)
    assert defense_tables.table(fewer).loc["finetune", "runs"] == 2


def test_ablations_are_paired_with_ubt_as_it_is():
    table = defense_tables.ablations()
    assert set(table.index) == {"ubt-cut", "mini-top16"} and set(table.runs) == {6}
    assert table.loc["ubt-cut", "CA change"] == pytest.approx(0.01)
    assert table.loc["mini-top16", "ASR"] == pytest.approx(0.33)
    assert table.loc["mini-top16", "choice"] == "an unlearning set D_u of at most 16 pairs"
    assert "without B" in table.loc["ubt-cut", "choice"]


def test_what_detectors_find_is_carried_on():
    table = defense_tables.carried_on()
    assert list(table.index) == ["ubt", "gain"]
    assert table.loc["gain", "precision_at_64"] == pytest.approx(0.6)
    assert table.loc["gain", "asr"] == pytest.approx(0.645) and table.loc["gain", "worst ASR"] == 0.65
    assert set(table.runs) == {2}  # seeds 0 and 1 of SIG: no other run has both
    assert table.loc["ubt", "asr"] == pytest.approx(0.045)


def test_pictures_show_every_defense():
    found = defense_tables.standing_cells()
    heat = plots.defense_heat(found)
    assert [t.get_text() for t in heat.axes[0].get_yticklabels()] == [
        "undefended", *defense_tables.table(found).index[1:]
    ]  # fmt: skip
    choices = plots.choices(defense_tables.ablations())
    assert len(choices.axes[0].get_yticks()) == 2


def test_a_variant_that_was_recorded_and_is_gone_still_has_its_name():
    path = records.table_path(cells.STUDY, records.MATRIX)
    rows = pd.read_parquet(path)
    gone = rows[(rows.defense == "ubt") & rows.attack.isin(SHIFT)].assign(defense="ubt-rounds")
    records.write_table(path, pd.concat([rows, gone]))
    assert "ubt-rounds" not in set(defense_tables.standing_cells().defense)
    assert "several votes" in defense_tables.ablations().loc["ubt-rounds", "choice"]


def test_a_defense_that_was_renamed_stands_under_the_name_of_its_record():
    path = records.table_path(cells.STUDY, records.MATRIX)
    rows = pd.read_parquet(path)
    records.write_table(path, pd.concat([rows, rows[rows.defense == "abl"].assign(defense="rvpt")]))
    table = defense_tables.table(defense_tables.standing_cells())
    assert table.loc["rvpt", "sees"] == "D_safe, class names" and table.loc["rvpt", "runs"] == 6


def test_a_choice_that_costs_much_is_a_number_at_the_edge():
    table = defense_tables.ablations()
    table.loc["ubt-cut", ["CA change", "low", "high"]] = -0.5, -0.6, -0.4
    left, right = plots.choices(table).axes
    assert [t.get_text() for t in right.texts] == ["◂ -50"]
    assert sorted(left.lines[1].get_xdata()) == pytest.approx([16, 36])  # the worst runs


def test_only_ubt_and_what_is_no_variant_of_it_stand_in_the_table():
    found = defense_tables.standing_cells()
    assert set(found.defense) == {"none", "finetune", "par", "retrain", "abl", "ubt"}
    assert set(defense_tables.standing_cells("mini-top16").defense) == {"ubt"}


@pytest.mark.parametrize("reader", ["standing_cells", "suite", "ablations", "carried_on"])
def test_a_defense_that_nobody_knows_is_an_error(reader):
    path = records.table_path(cells.STUDY, records.MATRIX)
    rows = pd.read_parquet(path)
    records.write_table(path, pd.concat([rows, rows.iloc[:1].assign(defense="moon")]))
    with pytest.raises(ValueError, match="unknown defense 'moon'"):
        getattr(defense_tables, reader)()

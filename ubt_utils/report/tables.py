"""Records → tidy rows → the headline table. Loads no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ubt_utils.core import paths, records
from ubt_utils.core.records import KEYS
from ubt_utils.report import evidence

HEADLINE = ("clean_accuracy", "asr", "target_recall", "precision_at_64", "seconds")
TOLERANCE = {
    "clean_accuracy": 0.05, "asr": 0.1, "robust_accuracy": 0.1, "target_recall": 0.15, "precision_at_64": 0.1,
}  # fmt: skip


def rows(profile: str) -> pd.DataFrame:
    """Tidy rows {profile, attack, defense, seed, metric, value} of a profile's records; fractions 0–1,
    seconds in s."""
    return tidy(evidence.read(profile))


def tidy(found: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The numbers of some records as tidy rows."""
    table = [
        {**{k: record[k] for k in KEYS}, "metric": metric, "value": value}
        for record in found
        for metric, value in record["metrics"].items()
        if isinstance(value, (int, float))
    ]
    return pd.DataFrame(table, columns=[*KEYS, "metric", "value"])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows of one profile → index (attack, defense, seed), a column per metric."""
    return table.pivot_table(index=["attack", "defense", "seed"], columns="metric", values="value")


def headline(profile: str) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the headline metrics, per attack and defense.

    Attacks without a recorded defense are left out: `attack_tables.attacks` has all of them.
    Columns (metric, "mean" | "std" | "count"); index (attack, defense).
    """
    table = rows(profile)
    defended = {"none", *table[table.defense != "none"].attack}
    table = table[table.metric.isin(HEADLINE) & table.attack.isin(defended)]
    found = table.groupby(["attack", "defense", "metric"]).value.agg(["mean", "std", "count"])
    return found.unstack("metric").swaplevel(axis=1).sort_index(axis=1)


def _means(profile: str) -> pd.DataFrame:
    return headline(profile).xs("mean", axis=1, level=1).drop("none", level="attack")


def changes(profile: str) -> pd.DataFrame:
    """Per attack and defense, CA, ASR and target recall against undefended: points, seeds' mean."""
    names = ["clean_accuracy", "asr", "target_recall"]
    mean = 100 * _means(profile)[names]
    before = mean.xs("none", level="defense").reindex(mean.index.get_level_values("attack"))
    return (mean - before.to_numpy()).drop("none", level="defense")


def against(profile: str, defense: str, other: str) -> pd.DataFrame:
    """Per attack, one defense minus another: points of CA, ASR, target recall; seconds."""
    mean = _means(profile)[["clean_accuracy", "asr", "target_recall", "seconds"]]
    mean = mean.mul([100, 100, 100, 1])
    return mean.xs(defense, level="defense") - mean.xs(other, level="defense")


def compare(profile: str, attack: str, defense: str, seed: int, live: Mapping[str, Any]) -> pd.DataFrame:
    """Live metrics beside the recorded ones of the same attack, defense and seed.

    For the recorded profile, raises AssertionError when one is further off than its tolerance
    (machines round differently, and training amplifies it). A profile without records, such
    as tiny, has nothing to hold the run against: its recorded column is empty.
    """
    path = paths.results() / profile / records.name_of(attack, defense, seed)
    recorded = records.load(path)["metrics"] if path.exists() else {}
    names = [name for name in TOLERANCE if name in live]
    table = pd.DataFrame(
        {
            "live": [live[name] for name in names],
            "recorded": [recorded.get(name) for name in names],
            "tolerance": [TOLERANCE[name] for name in names],
        },
        index=names,
    )
    off = (table.live - table.recorded.astype(float)).abs() > table.tolerance
    if off.any():
        raise AssertionError(f"{attack}, {defense}: the live run differs from the record\n{table[off]}")
    return table


def as_text(profile: str) -> str:
    """The headline table as text: percent for fractions, seconds with one decimal."""
    table = headline(profile)
    lines = [f"{'attack':10}{'defense':12}" + "".join(f"{_title(m):>20}" for m in HEADLINE)]
    for (attack, defense), row in table.iterrows():
        cells = "".join(f"{_cell(row, metric):>20}" for metric in HEADLINE)
        lines.append(f"{attack:10}{defense:12}{cells}")
    seeds = sorted(rows(profile).seed.unique().tolist())
    over = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± standard deviation over seeds {seeds}"
    return "\n".join([*lines, "", f"profile {profile}; {over}"])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None) -> str:
    """A fraction in percent, to one digit; a dash where there is none."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:.1f}"


def _title(metric: str) -> str:
    return metric if metric == "seconds" else f"{metric} %"


def _cell(row: pd.Series, metric: str) -> str:
    if (metric, "mean") not in row.index or pd.isna(row[metric, "mean"]):
        return "–"
    scale = 1 if metric == "seconds" else 100
    mean, std = row[metric, "mean"] * scale, row[metric, "std"] * scale
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"

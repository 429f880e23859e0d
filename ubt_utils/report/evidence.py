"""What recorded rows descend from, and the one check that every table of them passes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ubt_utils.core import records


class MixedEvidence(ValueError):
    """Rows of one table that descend from different contents under one name."""


def of_one_model(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is. Raises MixedEvidence where the rows of one profile descend from several public
    models (columns profile and f0; without a profile, all rows are of one), or where one stage folder
    stands for several contents (columns stages and contents, JSON by stage; rows from before contents were
    kept have none). Which public model it is, is a factor of a study: each has profiles of its own."""
    if "profile" in table:
        for profile, rows in table.groupby("profile", dropna=False):
            _one_public_model(rows, f"profile {profile}: ")
    else:
        _one_public_model(table)
    if {"stages", "contents"} <= set(table):
        _one_content_a_folder(table[["stages", "contents"]].dropna())
    return table


def _one_public_model(rows: pd.DataFrame, where: str = "") -> None:
    counts = rows.f0.value_counts(dropna=False)
    if len(counts) > 1:
        groups = ", ".join(f"{count} from {f0}" for f0, count in sorted(counts.items(), key=str))
        raise MixedEvidence(
            f"{where}the rows of one profile may not descend from different public models: {groups}. "
            "Keep one group, or record the others again"
        )


def _one_content_a_folder(kept: pd.DataFrame) -> None:
    known: dict[str, Mapping[str, str]] = {}
    for stages, contents in zip(kept.stages.map(json.loads), kept.contents.map(json.loads), strict=True):
        for role, content in contents.items():
            folder = stages[role]
            if known.setdefault(folder, content) != content:
                raise MixedEvidence(
                    f"the stage {folder} stands for different contents in different rows: two runs made it, "
                    "and not alike. Record the rows of one of them again"
                )


def traced(found: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """What `of_one_model` looks at, a row a record: columns f0, stages and contents."""
    rows = [
        {
            "f0": records.public_model(record),
            "stages": json.dumps(record.get("stages", {})),
            "contents": json.dumps(record.get("contents", {})),
        }
        for record in found
    ]
    return pd.DataFrame(rows, columns=["f0", "stages", "contents"])


def read(profile: str) -> list[dict[str, Any]]:
    """All JSON records of a profile; a FileNotFoundError says how to make them, MixedEvidence if they do not
    go together."""
    found = records.read(profile)
    of_one_model(traced(found))
    return found

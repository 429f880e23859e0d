"""The record of the campaign, part by part, each with the commit and the day that it is of."""

from __future__ import annotations

from typing import Any

from ubt_utils.core import provenance, records

NAME = "reliability"


def begun(part: str, seed: int) -> dict[str, Any]:
    """What is recorded of a part for the same seed and code, to go on from; nothing where the code is
    another, or unknown."""
    found, here = _all().get(part, {}), provenance.commit()
    known = here != "unknown" and "+" not in here
    return found if known and found.get("seed") == seed and found.get("commit") == here else {}


def keep(part: str, seed: int, found: dict[str, Any]) -> None:
    """Write a part into the record beside the others, as far as it has come."""
    here = provenance.environment()
    own = {**found, "seed": seed, "commit": here["commit"], "date": here["date"]}
    records.write({**_all(), part: own, "environment": here}, records.benchmark_path(NAME))


def _all() -> dict[str, Any]:
    return records.read_benchmark(NAME) if records.benchmark_path(NAME).exists() else {}

"""The later rounds of results/ENDPOINTS.md: which profiles, on which seeds, answer its question. An answer
stays what it was when a later round adds runs of the same profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ubt_utils.profiles import tuned
from ubt_utils.profiles.adaptive import ADAPTIVE
from ubt_utils.profiles.mini import MINI, PUBLIC, RARE


@dataclass(frozen=True)
class Round:
    """Profiles by name, and the seeds of everything after the public model."""

    profiles: tuple[str, ...]
    seeds: tuple[int, ...]


# Settings are those for a fifth of the victim's cost.
FIFTH = Round(tuple(tuned.name_of(p.name, "fifth") for p in (MINI, *PUBLIC, *RARE)), (6, 7))
SIXTH = Round(FIFTH.profiles, (8, 9))
SEVENTH = Round(tuple(tuned.name_of(p.name, "fifth") for p in (MINI, *ADAPTIVE)), (10,))
EIGHTH = replace(SEVENTH, seeds=(11,))  # of what the seventh changed

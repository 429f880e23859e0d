"""Where a defense differs from its source, told beside its code: a source's setting, ours, and why."""

from __future__ import annotations

from dataclasses import dataclass, fields

# Reasons that several rivals share.
OTHER_NET = "another network, at 48 px"
ONE_RULE = "one tuning rule for all rivals"
VICTIMS = "it stands in for the victim's training"
VICTIMS_BATCH = "the victim's batch"
ONE_LOOP = "one training loop for all rivals"
NO_LABELS = "nobody labels this defender's pictures"
NO_CLEAN = "nobody hands this defender clean data"
UNREAD = "not known (abstract only)"  # a source's cell, of what its abstract does not say


@dataclass(frozen=True)
class Deviation:
    """One row of the table: what is set, how the source sets it, how this kit does, and why it differs. Each
    a few words, none empty."""

    what: str
    source: str
    ours: str
    why: str

    def __post_init__(self) -> None:
        if empty := [f.name for f in fields(self) if not getattr(self, f.name).strip()]:
            raise ValueError(f"a deviation says nothing of {', '.join(empty)}: {self}")


def listed(*cells: tuple[str, str, str, str]) -> tuple[Deviation, ...]:
    """The rows of a table, from their cells: what, source, ours, why."""
    return tuple(Deviation(*row) for row in cells)

"""Rows that several rivals' tables of deviations share, as cells: what, source, ours, why."""

from __future__ import annotations

from ubt_utils.ubt.deviation import ONE_RULE, OTHER_NET, VICTIMS, VICTIMS_BATCH

Cells = tuple[str, str, str, str]

# Of those that stand in for the victim's training.
START = ("start", "random weights", "f0", "the victim's start")
SCHEDULE = ("schedule", "half a cosine, 10,000 steps of warm-up", "one cycle", VICTIMS)
PICTURES = (
    "augmentation of pictures", "flips, crops, jitter, grey, blur", "pose and color",
    "this kit's; pictures of 48 px",
)  # fmt: skip
CAPTIONS = (
    "augmentation of captions", "EDA, before training", "one token changed, in each step",
    "no thesaurus; nothing to store",
)  # fmt: skip


def untold(source: str) -> tuple[Cells, ...]:
    """How it trains, where its source does not say; source: the cell that says so."""
    return (
        ("batch", source, "256", VICTIMS_BATCH),
        ("rate", source, "tuned", OTHER_NET),
        ("length", source, "tuned", ONE_RULE),
        ("schedule", source, "one cycle", "the fine-tuning baseline's"),
    )

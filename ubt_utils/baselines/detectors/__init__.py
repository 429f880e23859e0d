"""Detectors: a score per pair, higher = more suspicious. UBT's is one of them."""

from __future__ import annotations

from ubt_utils.baselines.detectors.base import Detector
from ubt_utils.baselines.detectors.density import dao, isolation_forest, k_distance, lid, slof
from ubt_utils.baselines.detectors.losses import abl_loss
from ubt_utils.baselines.detectors.similarities import FROM_SIMILARITIES

FROM_EMBEDDINGS: dict[str, Detector] = {
    f.__name__: f for f in (abl_loss, k_distance, dao, slof, lid, isolation_forest)
}
DETECTORS = FROM_SIMILARITIES | FROM_EMBEDDINGS


def get(name: str) -> Detector:
    """The detector of that name; ValueError lists the known ones."""
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}; known: {', '.join(DETECTORS)}")
    return DETECTORS[name]

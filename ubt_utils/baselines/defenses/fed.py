"""UBT's push fed by other detectors: D_u is what each of them suspects most."""

from __future__ import annotations

from ubt_utils.baselines.detectors import DETECTORS
from ubt_utils.ubt.variants import variant

DEFENSES = tuple(variant(f"ubt-from-{name}", f"D_u by {name}", detector=name) for name in DETECTORS)

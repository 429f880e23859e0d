"""How many pairs of each kind have which value: what a histogram draws, as a table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

KINDS = ("honest", "misplaced", "poisoned")
BINS = 48


def kinds(truth: torch.Tensor, misplaced: torch.Tensor) -> np.ndarray:
    """(N,) "poisoned", "misplaced" (caption of another pair) or "honest"; poison wins. truth: (N,) bool.
    misplaced: indices."""
    kind = np.full(len(truth), "honest", dtype=object)
    kind[misplaced.numpy()] = "misplaced"
    kind[truth.numpy()] = "poisoned"
    return kind


def densities(
    panels: Mapping[str, torch.Tensor], kind: np.ndarray, bounds: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """A row a bin of each panel, the same bins in all: panel, its ends low and high, how many pairs of each
    kind have a value in it, and the panel's bound, NaN where it has none. panels: title → (N,) values; those
    that are not finite are left out. kind: (N,), see `kinds`."""
    edges = _edges(panels)
    parts = [
        pd.DataFrame({
            "panel": title, "low": edges[:-1], "high": edges[1:],
            **{name: np.histogram(_finite(found[kind == name]), edges)[0] for name in KINDS},
            "bound": (bounds or {}).get(title, np.nan),
        })
        for title, found in ((title, values.numpy()) for title, values in panels.items())
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _edges(panels: Mapping[str, torch.Tensor]) -> np.ndarray:
    """The edges of the same bins for all panels."""
    values = _finite(np.concatenate([found.numpy() for found in panels.values()]))
    return np.linspace(values.min(), values.max(), BINS + 1)

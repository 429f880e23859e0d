"""What the recorded benchmarks say, as one table: the kit's way against what one would use otherwise."""

from __future__ import annotations

import pandas as pd

from ubt_utils.core import records
from ubt_utils.report import tables

COLUMNS = ("what", "against", "time", "extra memory", "largest difference")


def _contrastive(found: dict) -> tuple:
    what = f"contrastive loss in blocks, value and gradient, batch {found['batch']:,}"
    return (
        what,
        "open_clip's ClipLoss",
        found["time_ratio"],
        found["memory_ratio"],
        max(found["apart"].values()),
    )


def _neighbors(found: dict) -> tuple:
    alike = f"{100 * found['dao_within_1e-4']:.3f} %"
    what = f"k-distance and DAO of {found['n']:,} points in blocks (DAO within 1e-4 for {alike})"
    apart = max(found["largest_relative_difference"].values())  # of points with two neighbors equally far
    return (what, "the full distance matrix", found["time_ratio"], found["memory_ratio"], apart)


def _occlusion(found: dict) -> tuple:
    what = f"token occlusion of {found['captions']:,} captions, {found['model']}"
    return (what, "a forward pass per removed token", 1 / found["ratio"], None, found["apart"])


def _scoring(found: dict) -> tuple:
    what = f"scoring pairs from a mapped file, {found['model']}, {found['side']} px"
    return (what, "the bare encoders on a ready batch", 1 / found["ratio"], None, None)


def _streaming(found: dict) -> tuple:
    few, many = (f"{int(n):,}" for n in found["pairs"])
    return (
        f"the {found['k']} best of a stream of {many} pairs",
        f"of {few}",
        None,
        found["memory_ratio"],
        None,
    )


def _encoders(found: dict) -> tuple:
    name, forms = next(iter(found["table"].items()))
    what = f"image tower of {name}, {found['side']} px, laid out by pixel"
    own = forms["channels_last"]
    return (what, "as open_clip makes it", 1 / own["ratio"], None, own["apart"])


def _cleanclip(found: dict) -> tuple:
    what = "UBT with its detection, profile `mini`"
    against = f"CleanCLIP's {found['cleanclip']['epochs']:g} epochs"
    return (what, against, found["time_ratio"], None, None)


ROWS = {
    "contrastive": _contrastive,
    "neighbors": _neighbors,
    "occlusion": _occlusion,
    "scoring": _scoring,
    "streaming": _streaming,
    "encoders": _encoders,
    "cleanclip": _cleanclip,
}


def table() -> pd.DataFrame:
    """A row per recorded benchmark: time and extra memory as parts of the reference's (1: the same), and the
    largest difference of the results, None where it was not measured."""
    rows = {name: of(records.read_benchmark(name)) for name, of in ROWS.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("benchmark")


def forms() -> pd.DataFrame:
    """The recorded forms of the image towers: how many times as fast as the plain one. A row per model."""
    table = records.read_benchmark("encoders")["table"]
    return pd.DataFrame({m: {f: of["ratio"] for f, of in forms.items()} for m, forms in table.items()}).T


def as_markdown() -> str:
    """The table for the README."""
    rows = [
        [
            row.what,
            row.against,
            "–" if pd.isna(row.time) else f"{row.time:.2f}×",
            "–" if pd.isna(row["extra memory"]) else f"{row['extra memory']:.3f}×",
            "–" if pd.isna(row["largest difference"]) else f"{row['largest difference']:.0e}",
            f"`benchmarks/{name}.py`",
        ]
        for name, row in table().iterrows()
    ]
    return tables.markdown_table([*COLUMNS, "script"], rows)


def triggers() -> str:
    """The recorded benchmark of batched triggers in one sentence, for the README."""
    entry = records.read_benchmark("triggers")
    ratios = ", ".join(f"`{name}` {row['ratio']:.1f}×" for name, row in entry["table"].items())
    return (
        f"Triggers stamp batches: {entry['batch']} stored pictures of {entry['side']} px on one core, "
        f"against a PIL/NumPy loop over the same pictures in one run: {ratios} as fast "
        "(`python benchmarks/triggers.py`)."
    )

"""What the recorded benchmarks say: the kit's way against what one would use otherwise, and how the cost of
stages grows with D."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ubt_utils.core import records
from ubt_utils.report import tables

GROWTH = "growth"  # the benchmark of stages at several sizes of D
RATES = ["undefended", "defended", "worst"]
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


def _occlusion(found: dict) -> tuple:
    what = f"token occlusion of {found['captions']:,} captions, {found['model']}"
    return (what, "a forward pass per removed token", 1 / found["ratio"], None, found["apart"])


def _scoring(found: dict) -> tuple:
    what = f"scoring pairs from a mapped file, {found['model']}, {found['side']} px"
    return (what, "the bare encoders on a ready batch", 1 / found["ratio"], None, None)


def _encoders(found: dict) -> tuple:
    name, forms = next(iter(found["table"].items()))
    what = f"image tower of {name}, {found['side']} px, laid out by pixel"
    own = forms["channels_last"]
    return (what, "as open_clip makes it", 1 / own["ratio"], None, own["apart"])


def _triggers(found: dict) -> tuple:
    """The trigger of the four that gains least."""
    name, least = min(found["table"].items(), key=lambda entry: entry[1]["ratio"])
    what = f"stamping {found['batch']} stored pictures of {found['side']} px with {name}, the least of four"
    return (what, "a loop with PIL and NumPy", 1 / least["ratio"], None, least["bytes_apart"])


def _cleanclip(found: dict) -> tuple:
    what = "UBT with its detection, profile `mini`"
    against = f"CleanCLIP's {found['cleanclip']['epochs']:g} epochs"
    return (what, against, found["time_ratio"], None, None)


def _step(found: dict) -> tuple:
    what = f"a training step of profile `{found['profile']}`, batch {found['batch']}"
    against = "single precision, open_clip's forward pass and loss"
    return (what, against, found["time_ratio"], None, found.get("apart"))


def _depthwise(found: dict) -> tuple:
    what = f"a training step of profile `{found['profile']}`, batch {found['batch']}"
    return (what, "torch's depthwise convolutions", found["time_ratio"], None, found["apart"])


def _own(found: dict) -> tuple:
    what = f"scoring pairs as `scan` does, with six disturbances, profile `{found['profile']}`"
    against = "`encode_image` of the same pictures, disturbed alike"
    return (what, against, 1 / found["throughput"]["ratio"]["encode_image"], None, None)


ROWS = {
    "step": _step,
    "depthwise": _depthwise,
    "contrastive": _contrastive,
    "occlusion": _occlusion,
    "scoring": _scoring,
    "encoders": _encoders,
    "triggers": _triggers,
    "cleanclip": _cleanclip,
    "own": _own,
}


def table() -> pd.DataFrame:
    """A row per recorded benchmark: time and extra memory as parts of the reference's (1: the same), and the
    largest difference of the results, None where it was not measured."""
    rows = {name: of(records.read_benchmark(name)) for name, of in ROWS.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("benchmark")


def judged() -> pd.DataFrame:
    """What `scan` and `defend` made of victims that were given as files: a row an attack, and one for sets
    without poison (attack none), where there is nothing to find. Columns: sets; right, the verdicts that are;
    of the attacked ones undefended and defended, the mean ASR before and after, and worst, the highest after.
    """
    victims = records.read_benchmark("own")["victims"]
    rows = pd.DataFrame({"attack": one["attack"], "right": one["scan"]["right"]} for one in victims)
    for when in ("before", "after"):
        rows[when] = [one["defend"][when]["asr"] if one["defend"] else np.nan for one in victims]
    return rows.groupby("attack").agg(
        sets=("right", "size"), right=("right", "sum"), undefended=("before", "mean"),
        defended=("after", "mean"), worst=("after", "max"),
    )  # fmt: skip


def judged_as_markdown() -> str:
    """The same for the README, the clean sets last."""
    found = judged().sort_index(key=lambda names: names == records.NONE, kind="stable")
    rows = [
        [attack, f"{row.right:.0f} of {row.sets:.0f}", *map(tables.percent, row[RATES])]
        for attack, row in found.iterrows()
    ]
    return tables.markdown_table(
        ["attack", "verdict right", "ASR % undefended", "after `defend`", "worst"], rows
    )


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


def read() -> pd.DataFrame:
    """How the cost of stages grows, as recorded: a row per stage, size of D and number of ranks, with its
    seconds."""
    return pd.DataFrame(records.read_benchmark(GROWTH)["measured"])


def exponents(measured: pd.DataFrame) -> pd.DataFrame:
    """Per stage and number of ranks the slope of log seconds over log pairs, by least squares: 1 is linear
    growth, 0 a fixed cost. measured: rows {stage, ranks, pairs, seconds}, at least two sizes each."""
    rows = {}
    for key, some in measured.groupby(["stage", "ranks"], sort=False):
        if some.pairs.nunique() < 2:
            raise ValueError(f"growth of {key[0]} on {key[1]} ranks needs at least two sizes")
        rows[key] = np.polyfit(np.log(some.pairs), np.log(some.seconds), 1)[0]
    return (
        pd.Series(rows).unstack().reindex(measured.stage.unique()).rename_axis(index="stage", columns="ranks")
    )


def summary(measured: pd.DataFrame) -> pd.DataFrame:
    """Per stage its seconds at the largest size on one rank, how many times faster the most ranks are there,
    and the exponents."""
    largest = measured[measured.pairs == measured.pairs.max()].pivot(
        index="stage", columns="ranks", values="seconds"
    )
    first, most = largest.columns.min(), largest.columns.max()
    found = exponents(measured).rename(columns=lambda ranks: f"exponent, {ranks} rank{'s' * (ranks > 1)}")
    found.insert(0, f"s at {measured.pairs.max():,} pairs", largest[first])
    found.insert(1, f"× faster on {most}", largest[first] / largest[most])
    return found.rename_axis(columns=None)

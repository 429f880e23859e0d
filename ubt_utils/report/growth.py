"""What stages cost as D grows, on one rank and on several: exponents and a picture of what was measured."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ubt_utils.core import records

NAME = "growth"


def read() -> pd.DataFrame:
    """The recorded measurement: a row per stage, size and number of ranks, with its seconds."""
    return pd.DataFrame(records.read_benchmark(NAME)["measured"])


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


def figure(measured: pd.DataFrame) -> Figure:
    """Seconds over pairs, both logarithmic, a line per stage; solid on one rank, dashed on several. The thin
    lines grow linearly."""
    drawn, axes = plt.subplots(figsize=(7, 4.2))
    sns.lineplot(
        measured,
        x="pairs",
        y="seconds",
        hue="stage",
        style="ranks",
        markers=True,
        palette="colorblind",
        ax=axes,
    )
    sizes = np.array([measured.pairs.min(), measured.pairs.max()])
    for start in (1.0, 10.0):
        axes.plot(sizes, start * sizes / sizes[0], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="pairs in D", ylabel="seconds")
    axes.set_xticks(sorted(measured.pairs.unique()), [f"{n:,}" for n in sorted(measured.pairs.unique())])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return drawn

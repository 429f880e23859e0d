"""Sentences that read two profiles side by side, every number taken from the tables; for notebook 06."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from ubt_utils.core import records


def carried(table: pd.DataFrame, first: str, second: str) -> Markdown:
    """What two profiles share; table: `carryover.side_by_side`."""

    def span(metric: str, defense: str, profile: str) -> str:
        values = table.xs((defense, profile), level=("defense", "profile"))[metric]
        return f"{values.min():.1%} to {values.max():.1%}"

    return Markdown(
        f"**Read it:** undefended ASR is {span('asr', 'none', first)} on `{first}` and {span('asr', 'none', second)} on `{second}`. "
        f"After UBT it is {span('asr', 'ubt', first)} and {span('asr', 'ubt', second)}, after fine-tuning at the same cost "
        f"{span('asr', 'finetune', first)} and {span('asr', 'finetune', second)}. Precision@64 of the selection: "
        f"{span('precision_at_64', 'ubt', first)} and {span('precision_at_64', 'ubt', second)}."
    )


def harm(change: pd.DataFrame, table: pd.DataFrame) -> Markdown:
    """What UBT costs by every ruler; change: `carryover.loss`, table: `carryover.harm`."""
    told = ", ".join(
        f"{name.replace('_', ' ')} {_points(change[name].min())} to {_points(change[name].max())}"
        for name in change
    )
    gap = 100 * (table.loc[("–", "clean twin")] - table.loc[("–", "public f0")])
    return Markdown(
        f"**Read it:** UBT against the backdoored model, in points, over the attacks: {told}. The clean twin, fine-tuned on D "
        f"without poison, differs from f0 by {gap.clean_accuracy:+.1f} points of CA and {gap.target_recall:+.1f} of target recall: "
        "that much is fine-tuning, not poison."
    )


def _points(value: float) -> str:
    """A difference with its sign and one decimal; no minus before a zero."""
    return f"{round(value, 1) + 0.0:+.1f}"


def detected(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> Markdown:
    """Which single score was best in two profiles; tables: `report.detector_table`."""
    best = [t.drop(columns="ubt").mean() for t in (first, second)]
    told = "; ".join(
        f"on `{n}` `{b.idxmax()}` with {b.max():.2f}, while UBT's list has {t['ubt'].mean():.2f}"
        for n, b, t in zip(names, best, (first, second), strict=True)
    )
    return Markdown(f"**Read it:** the best single score, by mean precision@64: {told}.")


def cost(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> Markdown:
    """How much more one profile costs; tables: `report.stage_seconds`."""
    one, other = first["seconds"].sum(), second["seconds"].sum()
    return Markdown(
        f"**Read it:** all trainings of one seed together take {one:.0f} s on `{names[0]}` and {other:.0f} s on `{names[1]}`, "
        f"{other / one:.1f} times as much. Scoring and evaluation come on top."
    )


def worst(table: pd.DataFrame) -> Markdown:
    """The worst seed of each defense; table: `carryover.worst`."""
    told = "; ".join(
        f"`{d}`: ASR up to {t.asr.max():.1%} (`{t.asr.idxmax()[0]}`), target recall down to {t.target_recall.min():.1%}"
        for d, t in table.groupby("defense")
    )
    return Markdown(f"**Read it:** on the worst seed, {told}.")


def way_round(table: pd.DataFrame) -> Markdown:
    """What leaving B out of the caption lets through; table: `cells.curves` of ubt and ubt-cut."""
    table = table.sort_values("step")
    ends = table.groupby(["defense", "seed"]).asr.last().unstack("seed")
    seed = ends.loc["ubt-cut"].idxmax()
    path = table[(table.defense == "ubt-cut") & (table.seed == seed)]
    low = path.loc[path.asr.idxmin()]
    return Markdown(
        f"**Read it:** held against captions without B, seed {seed} goes from {path.asr.iloc[0]:.1%} ASR to {low.asr:.1%} at step "
        f"{low.step:.0f}, and is back at {path.asr.iloc[-1]:.1%} at the end. With other words in B's place no seed ends above "
        f"{ends.loc['ubt'].max():.1%}."
    )


def from_scratch() -> Markdown:
    """What ImageNet's tower is worth, from results/benchmarks/from_scratch.json."""
    found = records.read_benchmark("from_scratch")
    tuned, plain = found["locked_image_tuning"], found["from_scratch"]
    return Markdown(
        f"**Read it:** with ImageNet's tower f0 reaches {tuned['clean_accuracy']:.1%} zero-shot accuracy in {tuned['seconds']:.0f} s. From "
        f"nothing it is at {plain['clean_accuracy']:.1%} after {plain['seconds']:.0f} s (`python benchmarks/from_scratch.py`)."
    )

"""Sentences that read a result in words, every number taken from it; the notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from ubt_utils.attacks import triggers
from ubt_utils.evaluate import metrics
from ubt_utils.profiles import Profile


def noise(pairs: int, misplaced: int) -> Markdown:
    """How much of D is badly captioned."""
    return Markdown(
        f"D holds **{pairs:,} pairs**. As in a web crawl, some captions are wrong: {misplaced:,} of them "
        f"({misplaced / pairs:.0%}) belong to another picture. That makes finding poison hard, and the exercise honest."
    )


def target(profile: Profile) -> Markdown:
    """What the attacker writes, and how often."""
    name = profile.sets.class_names()[profile.sets.target][0]
    return Markdown(
        f"The target class is **{profile.sets.target}**. A poisoned pair shows one of these stamped pictures under a "
        f"caption such as *{profile.sets.templates[0].format(name)}*. {profile.poison_rate:.0%} of D is poisoned."
    )


def headline(table: pd.DataFrame) -> Markdown:
    """The recorded table in three sentences; table: `report.headline`."""
    mean = table.xs("mean", axis=1, level=1).drop("none", level="attack")
    asr, ca = mean.asr.unstack(), mean.clean_accuracy.unstack()
    return Markdown(
        f"**Read it:** undefended, the attacks succeed {asr.none.min():.0%} to {asr.none.max():.0%} of the time, at clean "
        f"accuracies of {ca.none.min():.1%} to {ca.none.max():.1%}. After UBT, ASR is at most {asr.ubt.max():.1%}, with "
        f"{ca.ubt.min():.1%} to {ca.ubt.max():.1%} clean accuracy. Plain fine-tuning at the same cost leaves "
        f"{asr.finetune.min():.1%} to {asr.finetune.max():.1%} ASR, and {ca.finetune.min():.1%} to {ca.finetune.max():.1%} "
        "clean accuracy."
    )


def public_model(stage_metrics: Mapping[str, Any], classes: int) -> Markdown:
    """How good f0 is, with its interval."""
    ca = metrics.Rate(**stage_metrics["rates"]["clean_accuracy"])
    return Markdown(
        f"f0 classifies pictures from a source it has never seen into {classes} classes: **CA {ca.value:.1%}** (95 % interval "
        f"{ca.low:.1%}–{ca.high:.1%}; {ca.n} pictures, {ca.units} of them independent). Chance is {1 / classes:.0%}."
    )


def pool(profile: Profile, count: pd.DataFrame) -> Markdown:
    """What the pool holds; count: per kind, pairs in D and in the pool."""
    inside = count["in the pool"]
    poison, others = inside["poisoned"], inside.sum() - inside["poisoned"]
    return Markdown(
        f"**Read it:** the pool is {profile.overfit.pool:.0%} of D and holds {poison / count['pairs in D']['poisoned']:.0%} "
        f"of the poison. But only {poison / inside.sum():.1%} of the pool is poisoned: for every poisoned pair there are "
        f"{others / poison:.0f} others."
    )


def gaps(gap: Mapping[str, float]) -> Markdown:
    """Poisoned minus misplaced mean similarity, per model."""
    told = "; ".join(f"{title} {value:+.2f}" for title, value in gap.items())
    return Markdown(f"**Read it:** mean similarity of poisoned minus misplaced pairs: {told}.")


def path(change: Mapping[str, float], stage_metrics: Mapping[str, Any]) -> Markdown:
    """How the kinds moved along overfit training, and what it cost."""
    told = "; ".join(f"{name} {value:+.2f}" for name, value in change.items())
    return Markdown(
        f"**Read it:** mean change over overfit training, on pairs not trained on: {told}. The training took "
        f"{stage_metrics['train_seconds']:.0f} s, scoring the pairs {stage_metrics['score_seconds']:.0f} s."
    )


def single_scores(table: pd.DataFrame) -> Markdown:
    """The best single detector; table: detectors × measures, without UBT's list."""
    single = table.drop(["ubt", "random"])
    return Markdown(
        f"**Read it:** AUROC reaches {single.auroc.max():.2f} (`{single.auroc.idxmax()}`), yet the best precision@64 of a "
        f"single score is {single.precision_at_64.max():.2f} (`{single.precision_at_64.idxmax()}`)."
    )


def vote(words: Sequence[str], surprise: Sequence[float], count: int, captions: int) -> Markdown:
    """The most surprising token of the captions that voted, and the next one."""
    return Markdown(
        f"**Read it:** the voters tell *{words[0]}* too often: {count} times among {captions:,} captions, "
        f"G = {surprise[0]:.0f}. The next token, *{words[1]}*, has {surprise[1]:.0f}."
    )


def selection(stage_metrics: Mapping[str, Any], seconds: float) -> Markdown:
    """How pure D_u is and what it cost."""
    ubt = stage_metrics["detectors"]["ubt"]
    return Markdown(
        f"**Read it:** of {stage_metrics['chosen']} chosen pairs {stage_metrics['chosen_poisoned']} are poisoned: "
        f"precision@64 {ubt['precision_at_64']:.2f}, average precision {ubt['average_precision']:.2f}. "
        f"Finding them took {seconds:.0f} s."
    )


def second_look(stage_metrics: Mapping[str, Any], asked: int) -> Markdown:
    """What the second look at the carriers outside the pool came to."""
    found, wrong = stage_metrics["left_out"], stage_metrics["left_out"] - stage_metrics["left_out_poisoned"]
    return Markdown(
        f"**Read it:** {asked} pairs outside the pool carry a token of B; poisoned pairs out there: "
        f"{stage_metrics['outside_poisoned']}. Left out of D_safe: {found}, of which honest: {wrong}."
    )


def carriers(among: Mapping[str, float], share: float, number: int) -> Markdown:
    """What each score adds after the vote."""
    return Markdown(
        f"**Read it:** {share:.0%} of the {number} carriers are poisoned. Picking among them at random gives "
        f"{among['random']:.2f}, ranking them by `overfit` {among['overfit']:.2f}."
    )


def by_noise(table: pd.DataFrame) -> Markdown:
    """Which single detector is best at each rate of noise; table: `comparison.by_noise` of precision@64."""
    alone = table.drop("ubt")
    best = "; ".join(
        f"{n:.0%}: `{alone[n].idxmax()}` {alone[n].max():.2f} (UBT's list {table.loc['ubt', n]:.2f})"
        for n in table
    )
    return Markdown(
        f"**Read it:** the best single detector by mean precision@64, at each rate of misplaced captions: {best}."
    )


def compromised(tokens: Sequence[str], next_surprise: float) -> Markdown:
    """Which tokens are in B, and the gap after them."""
    return Markdown(
        f"**Read it:** B = {', '.join(f'*{t}*' for t in tokens)}. After them the surprise falls to {next_surprise:.0f}: the "
        "rest of the captions, templates and varying words, is not compromised."
    )


def defense(ubt: Mapping[str, Any], finetune: Mapping[str, Any]) -> Markdown:
    """UBT against fine-tuning, from the metrics of the two unlearn stages."""
    first, last, other = ubt["curve"][0], ubt["curve"][-1], finetune["curve"][-1]
    return Markdown(
        f"**Read it:** UBT takes ASR from {first['asr']:.1%} to **{last['asr']:.1%}** in {last['step']} steps; CA goes from "
        f"{first['clean_accuracy']:.1%} to {last['clean_accuracy']:.1%}, target recall from {first['target_recall']:.1%} to "
        f"{last['target_recall']:.1%}. Detection is {ubt['detection_seconds']:.0f} of its {ubt['seconds']:.0f} s. "
        f"Fine-tuning, in {finetune['seconds']:.0f} s, ends at ASR {other['asr']:.1%} and CA {other['clean_accuracy']:.1%}."
    )


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> Markdown:
    """Points between two ends of a curve."""
    names = {"asr": "ASR", "clean_accuracy": "CA", "target_recall": "target recall"}
    told = ", ".join(f"{label} {100 * (one[k] - other[k]):+.1f}" for k, label in names.items())
    return Markdown(f"**Read it:** token level minus sample level, in points: {told}.")


def changes(table: pd.DataFrame) -> Markdown:
    """The worst that UBT does; table: `report.changes`."""
    ubt = table.xs("ubt", level="defense")
    return Markdown(
        "**Read it:** points against the undefended model, mean over seeds. After UBT the largest loss of CA is "
        f"{max(0.0, -ubt['clean_accuracy'].min()):.1f} points and of target recall "
        f"{max(0.0, -ubt['target_recall'].min()):.1f} points; ASR falls by {-ubt['asr'].max():.0f} points or more."
    )


def claimed(table: pd.DataFrame) -> Markdown:
    """UBT minus fine-tuning, beside the paper's claim; table: `report.against`."""
    return Markdown(
        f"**Read it:** UBT minus fine-tuning, averaged over the attacks: ASR {table['asr'].mean():+.1f} points, CA "
        f"{table['clean_accuracy'].mean():+.1f} points. These are not the paper's numbers, nor a confirmation of them: another "
        "model, other data, another size, a weaker baseline, and our reconstruction of the method."
    )


def adaptive(table: pd.DataFrame, bound: float) -> Markdown:
    """Who breaks UBT; table: `adaptive.table`, bound: the ASR from which a defense is broken."""
    planted = table[table["ASR undefended"] >= 0.5]
    broken = planted[planted["worst ASR ubt"] > bound]
    told = "; ".join(f"`{name}` (ASR up to {row['worst ASR ubt']:.1%})" for name, row in broken.iterrows())
    voted = broken.reindex(columns=["worst ASR ubt-rounds"]).iloc[:, 0].dropna()
    mended = ", ".join(f"`{name}` {v:.1%}" for name, v in voted.items())
    failed = ", ".join(f"`{name}` {v:.1%}" for name, v in table["ASR undefended"].drop(planted.index).items())
    return Markdown(
        f"**Read it:** UBT is broken, on at least one seed, by: {told or 'none of these'}. "
        + (f"Worst ASR there with several votes (`ubt-rounds`): {mended}. " if mended else "")
        + f"Attacks that do not take by themselves (undefended ASR below 50 %): {failed or 'none'}."
    )


def suite(table: pd.DataFrame) -> Markdown:
    """How the whole suite did; table: `suite.attacks`."""
    dirty = table[[triggers.TRIGGERS[name].label == "dirty" for name in table.index]]
    others = table.drop(dirty.index)
    told = ", ".join(f"`{name}` {row.asr:.0%}" for name, row in others.iterrows())
    return Markdown(
        f"**Read it:** the {len(dirty)} dirty-label attacks succeed {dirty.asr.mean():.1%} of the time on average, the weakest "
        f"(`{dirty.asr.idxmin()}`) {dirty.asr.min():.1%}. The public model falls for at most {table.public_asr.max():.1%} "
        f"(`{table.public_asr.idxmax()}`). Attacks of another kind: {told}. Against its clean twin a model loses at most "
        f"{-100 * table.ca_change.min():.1f} points of CA (`{table.ca_change.idxmin()}`)."
    )


def sweep(table: pd.DataFrame, attacks: Sequence[str]) -> Markdown:
    """What the grid of the sweep teaches; table: `sweep.read`."""
    grid = table[table.attack.isin(attacks)]
    slow = grid.lr < grid.groupby("attack").lr.transform("max")
    few = grid.poison_rate < grid.poison_rate.max()
    weak = grid.strength < grid.groupby("attack").strength.transform("max")
    return Markdown(
        f"**Read it:** at the recipe the mean ASR is {grid[~slow & ~few & ~weak].asr.mean():.0%}. Change one thing: a tenth of the "
        f"learning rate gives {grid[slow & ~few & ~weak].asr.mean():.0%}, a third of the poison {grid[~slow & few & ~weak].asr.mean():.0%}, "
        f"half the strength {grid[~slow & ~few & weak].asr.mean():.0%}. Same attack by name, another result."
    )


def survival(table: pd.DataFrame) -> Markdown:
    """Which triggers JPEG and resizing stop; table: `suite.robust`."""
    rough, small = table["JPEG 30"], table["resize 50%"]
    return Markdown(
        f"**Read it:** JPEG at quality 30 leaves a mean ASR of {rough.mean():.0%} (least: `{rough.idxmin()}`, {rough.min():.0%}), "
        f"halving and enlarging {small.mean():.0%} (least: `{small.idxmin()}`, {small.min():.0%}). As sent: {table['as sent'].mean():.0%}."
    )

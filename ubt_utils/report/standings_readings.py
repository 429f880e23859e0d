"""Sentences that read the matrix in words, every number taken from it."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from ubt_utils.stages import NONE

DEAR = 0.02  # what a defense may cost a clean model in CA
NAMES = {"asr": "ASR", "clean_accuracy": "CA", "target_recall": "target recall"}


def losses(table: pd.DataFrame) -> Markdown:
    """The largest loss of UBT per metric; table: `standings.losses`."""
    if table.empty:
        return Markdown("**Read it:** on the mean over seeds nothing is better than UBT against any attack.")
    worst = table.drop_duplicates("metric")
    told = "; ".join(
        f"{NAMES[row.metric]} by up to {100 * row['behind by']:.1f} points (`{row.defense}`, {row.attack})"
        for _, row in worst.iterrows()
    )
    never = [name for metric, name in NAMES.items() if metric not in set(table.metric)]
    return Markdown(
        f"**Read it:** UBT is behind another defense in {told}. "
        + (f"Nothing is ahead of it in {' and '.join(never)}." if never else "")
    )


def standing(table: pd.DataFrame, bound: float) -> Markdown:
    """Who removes the backdoor, and at what CA; table: `standings.table`, bound: the ASR from which it has."""
    clean = table.drop(NONE)
    done = clean[clean["worst ASR"] <= bound]
    told = ", ".join(f"`{n}` (CA {row.CA:.1%})" for n, row in done.iterrows()) or "none"
    open_ = ", ".join(f"`{n}` {row.ASR:.0%}" for n, row in clean.drop(done.index).iterrows()) or "none"
    return Markdown(
        f"**Read it:** undefended CA is {table.CA[NONE]:.1%}. At most {bound:.0%} ASR in every run: {told}. Mean ASR of the "
        f"others: {open_}."
    )


def claims(table: pd.DataFrame) -> Markdown:
    """Claimed and measured differences; table: `standings.claims`."""
    told = "; ".join(
        f"minus `{other}`: "
        + ", ".join(
            f"{NAMES[metric]} {100 * row.difference:+.1f} points (95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; "
            f"claimed {100 * row.claimed:+.2f})"
            for metric, row in rows.droplevel("against").iterrows()
        )
        for other, rows in table.groupby(level="against")
    )
    return Markdown(f"**Read it:** UBT {told}.")


def suite(table: pd.DataFrame, bound: float) -> Markdown:
    """What UBT leaves of every attack; table: `standings.suite`, bound: the ASR that it should stay under."""
    dirty = table[table.label == "dirty"]
    over = table[table["worst ASR"] > bound]
    told = ", ".join(f"`{n}` (worst run {row['worst ASR']:.1%})" for n, row in over.iterrows()) or "none"
    return Markdown(
        f"**Read it:** against {len(dirty)} dirty-label attacks in {dirty.runs.sum()} runs UBT leaves a mean ASR of {dirty.ASR.mean():.1%} "
        f"(undefended {dirty['ASR undefended'].mean():.0%}), each attack counted once. Above {bound:.0%} in some run, of all {len(table)}: {told}."
    )


def price(table: pd.DataFrame) -> Markdown:
    """What defenses cost a clean model; table: `standings.price`."""
    first, ubt = table["CA change"].idxmin(), table.loc["ubt"]
    dear = ", ".join(f"`{n}`" for n, row in table.iterrows() if row["CA change"] < -DEAR) or "none"
    return Markdown(
        f"**Read it:** where there is no backdoor, UBT changes CA by {100 * ubt['CA change']:+.1f} points and target recall "
        f"by {100 * ubt['recall change']:+.1f}. The dearest is `{first}`, CA {100 * table['CA change'].min():+.1f} points. "
        f"More than {100 * DEAR:.0f} points of CA are lost to: {dear}."
    )


def carried(table: pd.DataFrame) -> Markdown:
    """Which detectors are good enough to unlearn with; table: `standings.carried_on`."""
    others = table.drop("ubt")
    best = others.asr.idxmin()
    return Markdown(
        f"**Read it:** fed by its own list, UBT ends at a mean ASR of {table.asr['ubt']:.1%}. The best other list is that of "
        f"`{best}`: {others.asr.min():.1%}, at CA {others.clean_accuracy[best]:.1%}."
    )


def ablations(table: pd.DataFrame, bound: float) -> Markdown:
    """Which choices matter; table: `standings.ablations`, bound: the ASR from which UBT counts as broken."""
    broken = table[table["worst ASR"] > bound]
    sure = table[table["p (Holm)"] < 0.05]
    told = "; ".join(f"{r.choice} (worst run {r['worst ASR']:.0%})" for _, r in broken.iterrows()) or "none"
    moved = (
        "; ".join(f"{r.choice} ({100 * r['CA change']:+.1f} points)" for _, r in sure.iterrows()) or "none"
    )
    return Markdown(
        f"**Read it:** changes that let the backdoor through on at least one run: {told}. Changes of CA that are sure at the 5 % "
        f"level after Holm: {moved}."
    )

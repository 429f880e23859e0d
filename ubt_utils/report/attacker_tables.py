"""What attackers who know UBT reach, from the recorded matrix. Loads no model."""

from __future__ import annotations

import pandas as pd

from ubt_utils import profiles
from ubt_utils.report import cells

ORDINARY = "mini"
BROKEN = 0.05  # ASR after a defense from which it counts as broken
DEFENSES = ("ubt", "ubt-rounds")


def table(attack: str = "badnets") -> pd.DataFrame:
    """Per profile, means over seeds: poison rate (of each trigger), ASR undefended, after UBT and after UBT
    with several votes, the worst ASR of each, the change of CA under UBT, the part of the poison in the
    pool, the part of D_u that is poisoned; and the words that the vote named. Where there are several
    targets, ASR is the mean over them, and the worst that of any. Raises FileNotFoundError when nothing is
    recorded.
    """
    found = cells.read(cells.STUDY)
    found = found[found.attack == attack]
    names = [p.name for p in (profiles.MINI, *profiles.ADAPTIVE) if p.name in set(found.profile)]
    rows = {name: _row(name, found[found.profile == name]) for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")


def _row(name: str, cells: pd.DataFrame) -> dict[str, object]:
    by, setting = dict(list(cells.groupby("defense"))), profiles.get(name)
    rates = ["asr", *(f"asr_{other}" for other in setting.also)]
    ubt = by["ubt"]
    told = {f"ASR {d}": by[d][rates].mean(axis=None) for d in DEFENSES if d in by}
    told |= {f"worst ASR {d}": by[d][rates].max(axis=None) for d in DEFENSES if d in by}
    return {
        "poison rate": setting.poison_rate,
        "ASR undefended": by["none"][rates].mean(axis=None),
        **told,
        "CA change": ubt.clean_accuracy.mean() - by["none"].clean_accuracy.mean(),
        "poison in the pool": ubt.pool_recall.mean(),
        "D_u poisoned": (ubt.chosen_poisoned / ubt.chosen).mean(),
        "the vote's words": ", ".join(sorted(set(ubt.anchor))),
    }

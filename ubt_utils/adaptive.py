"""What attackers who know UBT reach, from the recorded matrix. Loads no model."""

from __future__ import annotations

import pandas as pd

from ubt_utils import matrix, profiles

ORDINARY = "mini"
BROKEN = 0.05  # ASR after a defense from which it counts as broken


def table(attack: str = "badnets") -> pd.DataFrame:
    """Per profile, means over seeds: poison rate, ASR undefended and after UBT, its worst ASR, its change
    of CA, the part of the poison in the pool, the part of D_u that is poisoned; and the words that the vote
    named. Raises FileNotFoundError when nothing is recorded.
    """
    found = matrix.read(ORDINARY)
    found = found[found.attack == attack]
    names = [p.name for p in (profiles.MINI, *profiles.ADAPTIVE) if p.name in set(found.profile)]
    rows = {name: _row(name, found[found.profile == name]) for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")


def _row(name: str, cells: pd.DataFrame) -> dict[str, object]:
    by = dict(list(cells.groupby("defense")))
    ubt, setting = by["ubt"], profiles.get(name)
    return {
        "poison rate": setting.poison_rate,
        "ASR undefended": by["none"].asr.mean(),
        "ASR ubt": ubt.asr.mean(),
        "worst ASR ubt": ubt.asr.max(),
        "CA change": ubt.clean_accuracy.mean() - by["none"].clean_accuracy.mean(),
        "poison in the pool": ubt.pool_recall.mean(),
        "D_u poisoned": (ubt.chosen_poisoned / ubt.chosen).mean(),
        "the vote's words": ", ".join(sorted(set(ubt.anchor))),
    }

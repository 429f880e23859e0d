"""The attack suite as tables: what each trigger is, whether it took, how visible, how robust."""

from __future__ import annotations

import pandas as pd

from ubt_utils.attacks import robustness
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.core import records
from ubt_utils.core.records import NONE
from ubt_utils.report import cells, evidence

ORDINARY = "mini"
STEALTH = ("psnr", "ssim", "gmsd", "clip_similarity")


def specs() -> pd.DataFrame:
    """Per registered attack: label, source, parameters at 224 px, and how they scale."""
    kinds = TRIGGERS.values()
    return pd.DataFrame(
        {
            "label": [k.label for k in kinds],
            "published at 224 px": [k.published for k in kinds],
            "other sizes": [k.rule for k in kinds],
            "source": [k.source for k in kinds],
        },
        index=pd.Index(TRIGGERS, name="attack"),
    )


def _undefended(profile: str) -> pd.DataFrame:
    """The cells of all attacks that nobody defended against, a row a seed."""
    found = cells.read(cells.STUDY)
    return found[(found.profile == profile) & (found.defense == NONE) & (found.attack != NONE)]


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.reindex([name for name in TRIGGERS if name in table.index])


def attacks(profile: str = ORDINARY) -> pd.DataFrame:
    """Per attack, mean over seeds: did it take, what did it cost, how visible is it.

    Columns: asr, asr_std, seeds (which, as text), public_asr (f0 on the same pictures), clean_accuracy,
    ca_change (against the clean twin of the same seed and recipe), and the stealth measures.
    """
    found = _undefended(profile)
    found = found.assign(ca_change=found.clean_accuracy - found.twin_clean_accuracy)
    groups = found.groupby("attack")
    table = groups[["asr", "public_asr", "clean_accuracy", "ca_change", *STEALTH]].mean()
    table.insert(1, "asr_std", groups.asr.std())
    table.insert(2, "seeds", groups.seed.agg(lambda seeds: ", ".join(map(str, sorted(seeds)))))
    return _in_order(table)


def robust(profile: str = ORDINARY) -> pd.DataFrame:
    """Per attack, mean ASR as sent, after JPEG at each quality, and after each resize."""
    names = {"asr": "as sent"}
    names |= {f"asr_jpeg_{q}": f"JPEG {q}" for q in robustness.QUALITIES}
    names |= {f"asr_resize_{100 * s:.0f}": f"resize {s:.0%}" for s in robustness.SCALES}
    table = _undefended(profile).groupby("attack")[list(names)].mean()
    return _in_order(table.rename(columns=names))


def sweep(family: str = cells.STUDY) -> pd.DataFrame:
    """The recorded sweep, a row a model; FileNotFoundError says how to make it."""
    path = records.table_path(family, records.SWEEP)
    return evidence.of_one_model(records.read_table(path, "make sweep"))

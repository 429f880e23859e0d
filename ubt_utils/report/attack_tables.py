"""The attack suite as tables: what each trigger is, whether it took, how visible, how robust."""

from __future__ import annotations

import pandas as pd

from ubt_utils.attacks import robustness
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.report import tables

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
    """Index (attack, seed), a column per metric."""
    return tables.wide(tables.rows(profile)).xs("none", level="defense")


def attacks(profile: str) -> pd.DataFrame:
    """Per attack, mean over seeds: did it take, what did it cost, how visible is it.

    Columns: asr, asr_std, seeds, public_asr (f0 on the same pictures), clean_accuracy,
    ca_change (against the clean twin of the same seed and recipe), and the stealth measures.
    """
    wide = _undefended(profile)
    wide["ca_change"] = wide.clean_accuracy - wide.twin_clean_accuracy
    groups = wide.drop("none", level="attack").groupby("attack")
    names = ["asr", "public_asr", "clean_accuracy", "ca_change", *STEALTH]
    table = groups[names].mean()
    table.insert(1, "asr_std", groups.asr.std())
    table.insert(2, "seeds", groups.size())
    return table.reindex([name for name in TRIGGERS if name in table.index])


def robust(profile: str) -> pd.DataFrame:
    """Per attack, mean ASR as sent, after JPEG at each quality, and after each resize."""
    names = {"asr": "as sent"}
    names |= {f"asr_jpeg_{q}": f"JPEG {q}" for q in robustness.QUALITIES}
    names |= {f"asr_resize_{100 * s:.0f}": f"resize {s:.0%}" for s in robustness.SCALES}
    table = _undefended(profile).drop("none", level="attack").groupby("attack")[list(names)].mean()
    return table.rename(columns=names).reindex([name for name in TRIGGERS if name in table.index])


def as_markdown(profile: str) -> str:
    """Both tables as one, for the README."""
    table = attacks(profile).join(robust(profile)[["JPEG 75", "JPEG 30", "resize 50%"]])
    head = ["attack", "label", "ASR %", "CA % (change)", "PSNR dB", "SSIM"]
    head += ["ASR at JPEG 75 / 30", "ASR at resize 50 %"]
    rows = [
        [
            f"`{name}`",
            TRIGGERS[name].label,
            f"{100 * row.asr:.1f} ± {100 * row.asr_std:.1f}",
            f"{100 * row.clean_accuracy:.1f} ({100 * row.ca_change:+.1f})",
            "–" if pd.isna(row.psnr) else f"{row.psnr:.1f}",
            "–" if pd.isna(row.ssim) else f"{row.ssim:.2f}",
            f"{100 * row['JPEG 75']:.0f} / {100 * row['JPEG 30']:.0f}",
            f"{100 * row['resize 50%']:.0f}",
        ]
        for name, row in table.iterrows()
    ]
    return tables.markdown_table(head, rows)

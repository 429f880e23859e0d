"""The triggers of the study on one drawing that may be shown, with how far each changes the test pictures."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ubt_utils import profiles
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.attacks.craft import Crafted
from ubt_utils.core.records import NONE
from ubt_utils.data import emoji
from ubt_utils.report import plots, readme, study_tables

VENDOR, CONCEPT = "twitter", "fox"  # Twemoji, CC-BY 4.0
SHOWN = (profiles.MINI.name,)


def runs() -> pd.DataFrame:
    """The undefended runs whose triggers can be stamped without a public model."""
    found = study_tables.recorded(readme.FAMILY, profiles.MINI.poison_rate, None, [NONE], SHOWN)
    found = found[found.psnr.notna()]
    names = [n for n in found.index.unique("attack") if not isinstance(profiles.MINI.trigger(n), Crafted)]
    return found[found.index.isin(names, level="attack")]


def visibility() -> pd.DataFrame:
    """PSNR (dB) and SSIM of each trigger over the test pictures, the easiest to see first."""
    found = runs()[["psnr", "ssim"]].astype(float).groupby("attack").mean()
    return found.sort_values("psnr").reset_index()


def stamped(table: pd.DataFrame) -> Figure:
    """The drawing as it is, then with each trigger."""
    pictures = emoji.load((VENDOR,), (CONCEPT,), profiles.MINI.sets.size, 1, 0, "paper").images
    row = [pictures[0], *(stamp_bytes(profiles.MINI.trigger(name), pictures)[0] for name in table.attack)]
    names = [plots.ATTACK_NAMES.get(name, name.replace("_", "\n")) for name in table.attack]
    told = [
        f"{name}\n{psnr:.1f} dB\n{ssim:.2f}"
        for name, psnr, ssim in zip(names, table.psnr, table.ssim, strict=True)
    ]
    return plots.gallery({"": row}, ["as drawn\nPSNR\nSSIM", *told])

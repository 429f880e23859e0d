"""Writes the folder of the paper, always the same: without dates, versions and places of a machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from ubt_utils.core import paths
from ubt_utils.core.checksum import write_whole
from ubt_utils.core.records import load
from ubt_utils.report import readme
from ubt_utils.report.paper import numbers, tables
from ubt_utils.report.paper.figures import FIGURES, Entry
from ubt_utils.report.plots import style

COMMAND = "python -m ubt_utils paper"
TEXT = "paper.tex"  # written by people, beside this module; the folder gets a copy
KINDS = ("pdf", "png", "csv")
UNDATED = {"CreationDate": None, "Creator": None, "Producer": None}  # of a PDF: neither time nor versions


def write(serif: bool = False, palette: str = "kit", out: Path | None = None) -> Path:
    """Figures (PDF, PNG, and CSV of what is plotted), tables, numbers, a manifest, and paper.tex, which
    includes them.

    serif: letters with serifs; palette: kit or colorblind; out: the folder, results/paper for the look that
    is committed and runs/paper for others, unless named. Figures without records are left out, and the
    manifest says so. ValueError for an unknown palette.
    """
    look = style.Look(serif=serif, palette=palette)
    folder = out or (paths.results() if look == style.SCREEN else paths.runs()) / "paper"
    for part in ("figures", "tables"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    drawn = {name: _figure(name, entry, look, folder / "figures") for name, entry in FIGURES.items()}
    standing = readme.standing()
    made = {"headline": tables.headline(standing)} | {name: of() for name, of in tables.TABLES.items()}
    for name, table in made.items():
        write_whole(folder / "tables" / f"{name}.tex", tables.latex(table))
    write_whole(folder / "numbers.tex", numbers.latex(numbers.numbers(standing)))
    write_whole(folder / TEXT, files(__package__).joinpath(TEXT).read_text(encoding="utf-8"))
    manifest = {"command": COMMAND, "serif": serif, "palette": palette, "figures": drawn}
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return folder


def _figure(name: str, entry: Entry, look: style.Look, folder: Path) -> dict[str, Any]:
    """Write one figure in its three forms, and say what it descends from; where nothing is recorded, remove
    what is there, and say so."""
    told: dict[str, Any] = {"records": [f"results/{record}" for record in entry.records]}
    data = entry.data()
    if data.empty:
        for kind in KINDS:
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
        return told | {"left out": "no records yet"}
    plotted = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    told |= _origin(entry) | {"data": checksum(plotted), "rows": len(data)}
    write_whole(folder / f"{name}.csv", plotted)
    with style.looking(replace(look, width=entry.width)):
        figure = entry.draw(data)
        style.write(figure, folder / f"{name}.png", {"Software": None, readme.DATA: told["data"]})
        style.write(figure, folder / f"{name}.pdf", UNDATED | {"Keywords": told["data"]})
    plt.close(figure)
    return told


def _commits(record: Mapping[str, Any]) -> set[str]:
    """Where a record was made, and the stages that it tells of."""
    stages = record.get("made", {}).values()
    return {record["environment"]["commit"], *(stage["commit"] for stage in stages)}


def checksum(plotted: str) -> str:
    """SHA-256 of a figure's CSV, which its PNG and PDF hold."""
    return hashlib.sha256(plotted.encode()).hexdigest()


def _origin(entry: Entry) -> dict[str, Any]:
    """The commits at which the records of a figure were made, and how many runs it draws."""
    if entry.runs is None:
        made = {one for record in entry.records for one in _commits(load(paths.results() / record))}
        return {"commits": sorted(made)} if made else {}
    runs = entry.runs()
    return {"commits": sorted(runs.commit.unique()), "runs": len(runs)}

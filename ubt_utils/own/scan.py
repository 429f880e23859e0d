"""Scan a model of one's own, and the pairs it was trained on, for a backdoor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ubt_utils.clip import models
from ubt_utils.data import repeats
from ubt_utils.own import evidence, output, page, phrases
from ubt_utils.own.chain import OwnChain, chain_of
from ubt_utils.own.evidence import Verdict
from ubt_utils.own.listing import suspicious
from ubt_utils.own.null import null
from ubt_utils.ubt import tokens as tk

PAGE = "index.html"
REPEATED = 512  # listed pairs of a word whose pictures are compared


@dataclass(frozen=True)
class Scan:
    """What a scan came to. verdict: see `Verdict`; words: those that are evidence, see
    `evidence.words`; pairs: the suspicious ones, see `listing.suspicious`; folder: where the report lies.
    Printed, it is the verdict in words."""

    verdict: Verdict
    words: pd.DataFrame
    pairs: pd.DataFrame
    folder: Path

    def __str__(self) -> str:
        said = phrases.verdict_of(self.verdict), *phrases.evidence_of(self.words, self.verdict.words)
        return "\n".join([*said, str(self.folder / PAGE)])


def scan(
    model: str | Path,
    arch: str,
    pairs: str | Path,
    images: str | Path | None = None,
    public: str | None = None,
    out: str | Path = "report",
    seed: int = 0,
) -> Scan:
    """Is there a backdoor in a CLIP model, and which of the pairs it was trained on are its poison?

    model: the checkpoint, of an architecture `arch` that open_clip or this kit knows. pairs: a CSV or TSV
    file, shards, or a folder; images: where the paths in a table begin. public: the model that training
    started from, a file or a tag of open_clip's; it adds a column and decides nothing. out: the folder of the
    report: index.html, suspicious.csv and .parquet, words.csv, scan.json. seed: of all random draws.

    Neither a trigger nor a manifest nor labels are needed. Stages are kept under runs/, so that a killed scan
    goes on where it was. Raises as `chain_of`, and OSError where the system refuses, such as on a full disk.
    """
    folder = output.folder_for(Path(out))
    run = chain_of(model, arch, pairs, images, public, seed)
    found = look(run, folder)
    with output.whole(folder) as place:
        write(run, found, place, "Scan")
    return found


def look(run: OwnChain, folder: Path) -> Scan:
    """What a chain finds; makes its stages up to the selection."""
    random = null(run, run.attacked, run.suspected)
    words = evidence.words(run.suspected, random)
    return Scan(evidence.verdict(words), words, suspicious(run), folder)


def write(
    run: OwnChain, found: Scan, place: Path, title: str, beside: Mapping[str, Any] | None = None
) -> None:
    """The files of a report. beside: what more the page and scan.json tell."""
    about = {
        "model": Path(run.checkpoint).name,
        "architecture": run.profile.model,
        "public model": Path(run.f0).name or phrases.NOT_NAMED,
        "pairs": len(run.tokens),
        "settings": run.profile.about,
        "seed": run.seed,
    }
    found.pairs.to_csv(place / "suspicious.csv", index=False)
    found.pairs.to_parquet(place / "suspicious.parquet", index=False)
    found.words.to_csv(place / "words.csv", index=False)
    notes = notes_of(run, found)
    told = {
        "verdict": {**asdict(found.verdict), "said": phrases.verdict_of(found.verdict)},
        "about": about,
        "suspicious": len(found.pairs),
        "unlearning_set": run.selected.metrics["chosen"],
        "tokens": run.selected.metrics["tokens"],
        "notes": notes,
        "unknown": dict.fromkeys(phrases.UNKNOWABLE),
        **(beside or {}),
    }
    (place / "scan.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    text = page.render(run, found.verdict, found.words, found.pairs, title, about, notes, beside or {})
    (place / PAGE).write_text(text, encoding="utf-8")


def notes_of(run: OwnChain, found: Scan) -> list[str]:
    """What a reader should know of the model and the pairs: doubts about the activation, rows left out,
    captions whose end the model does not read, and on how many different pictures the listed pairs of a word
    are, since repeats are no poison."""
    captions = run.poisoned[0].captions
    read = [run.attacked, *([run.public] if run.public else [])]
    notes = [line for one in read for line in one.metrics["warnings"]] + run.sets.told().lines()
    cut = sum(a != b for a, b in zip(captions, models.legible(run.profile.model, captions), strict=True))
    if cut:
        notes.append(phrases.CUT.format(cut=cut, pairs=len(captions)))
    rows = torch.tensor(found.pairs.row.to_numpy(dtype=int))
    for anchor, word in zip(run.suspected.arrays()["anchors"], run.suspected.metrics["found"], strict=True):
        said = rows[tk.carries(run.tokens[rows], anchor[None])][:REPEATED]
        pictures = repeats.distinct(run.poisoned[0].images, said)
        notes.append(phrases.PICTURES.format(pairs=len(said), word=word["word"], pictures=pictures))
    return notes

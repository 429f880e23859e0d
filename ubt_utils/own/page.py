"""The page of a scan, or of a defense: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, FileSystemLoader
from torchvision.transforms.functional import to_pil_image

from ubt_utils.data.pictures import take
from ubt_utils.own import phrases
from ubt_utils.own.chain import OwnChain
from ubt_utils.own.evidence import Verdict
from ubt_utils.own.null import DRAWS
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.disturb import change

WORDS, LISTED, PICTURES, EACH = 40, 200, 16, 6  # shown: words, rows, pictures of rows, pictures of a word
BINS, HIGH = 40, 110  # of a histogram: bars, and their height in the template's units


def render(
    run: OwnChain,
    verdict: Verdict,
    words: pd.DataFrame,
    listed: pd.DataFrame,
    title: str,
    about: Mapping[str, Any],
    notes: Sequence[str],
    beside: Mapping[str, Any],
) -> str:
    """The page. about: what was looked at, by name; notes: what to know of it; beside: of a defense the
    outcome and the numbers compared."""
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    images = run.poisoned[0].images
    pictures = take(images, torch.tensor(listed.row[:PICTURES].to_numpy(), dtype=torch.long))[:]
    return page.get_template("page.html").render(
        verdict=phrases.verdict_of(verdict),
        evidence=phrases.evidence_of(words, verdict.words),
        unknowable=phrases.UNKNOWABLE,
        unknown=phrases.UNKNOWN,
        how=run.profile.select,
        draws=DRAWS,
        words=[{**one, "others": phrases.number(one["others"])} for one in words[:WORDS].to_dict("records")],
        shown=[
            _shown(run, one, anchor)
            for one, anchor in zip(
                run.suspected.metrics["found"], run.suspected.arrays()["anchors"], strict=True
            )
        ],
        figures=_figures(run, listed),
        count=len(listed),
        listed=listed[:LISTED].to_dict("records"),
        pictures=list(zip(map(uri, pictures), listed.caption, strict=False)),
        public=run.public is not None,
        side=images.shape[-1],
        title=title,
        about=about,
        notes=notes,
        outcome=beside.get("outcome"),
        compared=[
            (one["number"], phrases.number(one["before"]), phrases.number(one["after"]))
            for one in beside.get("compared", [])
        ],
    )


def uri(image: torch.Tensor) -> str:
    """A picture (3, H, W) uint8 as a data URI: PNG, since what is looked for may be faint."""
    return f"data:image/png;base64,{png(image)}"


def png(image: torch.Tensor) -> str:
    """A picture (3, H, W) uint8 as PNG in base64."""
    file = io.BytesIO()
    to_pil_image(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _shown(run: OwnChain, found: Mapping[str, Any], anchor: torch.Tensor) -> dict[str, Any]:
    """The worst sufferers that hold a found word, whose token is the anchor, as they are and disturbed."""
    drop = run.suspected.arrays()["drops"][run.look.family.index(found["disturbance"])]
    carriers = tk.carries(run.tokens, anchor[None])
    worst = drop.where(carriers, -torch.inf).topk(min(EACH, int(carriers.sum()))).indices
    images = take(run.poisoned[0].images, worst)[:]
    disturbed = change(found["disturbance"])(images)
    whole, after = ([uri(image) for image in some] for some in (images, disturbed))
    return {**found, "whole": whole, "disturbed": after}


def _figures(run: OwnChain, listed: pd.DataFrame) -> list[dict[str, Any]]:
    """Histograms of all pairs and of the listed ones."""
    scores, _ = run.scores
    disturbed = run.suspected.arrays()["drops"].isfinite().all(0)
    values = {
        "similarity under the model": scores.backdoored,
        "suspicion: lost once disturbed (the pairs looked at)": scores.drop.where(disturbed, -torch.inf),
        "similarity under the overfit model (pool)": scores.overfit,
        "similarity under the public model": scores.public,
    }
    return [
        _histogram(title, value.numpy(), listed.row.to_numpy(dtype=int))
        for title, value in values.items()
        if value.isfinite().any()
    ]


def _histogram(title: str, values: np.ndarray, part: np.ndarray) -> dict[str, Any]:
    everything, some = values[np.isfinite(values)], values[part][np.isfinite(values[part])]
    edges = np.histogram_bin_edges(everything, BINS)
    heights = [np.histogram(one, edges)[0] for one in (everything, some)]
    both = [HIGH * one / max(1, one.max()) for one in heights]
    width = 300 / BINS
    bars = [
        {"x": round(i * width, 2), "width": width, "all": round(a, 2), "part": round(b, 2)}
        for i, (a, b) in enumerate(zip(*both, strict=True))
    ]
    return {"title": title, "low": edges[0], "high": edges[-1], "bars": bars}

"""What figures of notebooks 02 to 04, and one of 06, draw of one run, small enough to be kept: they are drawn
anew where no stage is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import torch

from ubt_utils import profiles, stages
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.clip import models
from ubt_utils.core import provenance, records
from ubt_utils.core.store import Stage
from ubt_utils.data.sample_photos import sample_photos
from ubt_utils.evaluate import measure
from ubt_utils.evaluate.densities import densities, kinds
from ubt_utils.ubt import tokens as tk

MADE = ("date", "commit", "device", "threads", "python")
DIGITS = 7  # behind the point


def figures(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """What notebooks draw of a run's similarities, drops, carriers and tokens, to
    results/<family>/figures.json; makes its stages up to select, where they are not there."""
    run = stages.chain(profiles.get(profile), attack, seed)
    print(records.write(record(run), records.table_path(run.profile.family, records.FIGURES)))


def record(run: stages.Chain) -> dict[str, Any]:
    """Identity, config, per stage its folder, what it wrote and where it was made, and the tables by figure.
    `environment` is that of this recording."""
    found = {
        "pretrain": run.pretrained, "attack": run.attacked, "suspect": run.suspected,
        "overfit": run.overfitted, "select": run.selected,
    } | ({"unlearn": run.defended()} if run.profile.tower else {})  # fmt: skip
    return {
        "profile": run.profile.name,
        "attack": run.attack,
        "seed": run.seed,
        "f0_seed": run.profile.f0,
        "cluster": f"{run.profile.f0}-{run.seed}",
        "poison_rate": run.profile.poison_rate,
        "environment": provenance.environment(),
        "config": run.profile.as_config(),
        "stages": {name: stage.folder.name for name, stage in found.items()},
        "contents": {name: dict(stage.contents) for name, stage in found.items()},
        "made": {name: _made(stage) for name, stage in found.items()},
        "figures": {name: _packed(table) for name, table in tables(run).items()},
    }


def _made(stage: Stage) -> dict[str, Any]:
    return {name: stage.made[name] for name in MADE}


def _packed(table: pd.DataFrame) -> dict[str, Any]:
    """Columns and rows, as `pd.DataFrame(**found)` reads them; null where there is no number."""
    found = json.loads(table.to_json(orient="split", index=False, double_precision=DIGITS))
    return {name: found[name] for name in ("columns", "data")}


def tables(run: stages.Chain) -> dict[str, pd.DataFrame]:
    """The tables by figure, sufferers and tokens without rows where nothing was found; of photos the answers,
    too."""
    kind = kinds(run.scores[1], run.wild[1])
    found = {
        "similarity": _similarity(run, kind),
        "drops": _drops(run, kind),
        "sufferers": _sufferers(run),
        "tokens": _tokens(run),
    }
    return found | ({"answers": answers(run)} if run.profile.tower else {})


def _similarity(run: stages.Chain, kind: np.ndarray) -> pd.DataFrame:
    """How similar f0 and fb find the pairs of D; bound: the weakest ρ under f0, the pool of
    `ubt-described`."""
    scores = run.scores[0]
    weak = scores.public.sort().values[: _pool(run)]
    panels = {"public model f0": scores.public, "backdoored model fb": scores.backdoored}
    return densities(panels, kind, {"public model f0": weak[-1].item()})


def _drops(run: stages.Chain, kind: np.ndarray) -> pd.DataFrame:
    """What each disturbance takes of the pairs that were disturbed, bound: the ρ of D that lose most; or how
    much the carriers of the found words look like poison beside other pictures, which makes no bound."""
    drops = dict(zip(run.look.family, run.suspected.arrays()["drops"], strict=True))
    if run.look.others:
        return densities(drops, kind)
    bounds = {name: drop.sort(descending=True).values[_pool(run) - 1].item() for name, drop in drops.items()}
    return densities(drops, kind, bounds)


def _pool(run: stages.Chain) -> int:
    return round(run.profile.suspect.pool * len(run.wild[0]))


def _sufferers(run: stages.Chain) -> pd.DataFrame:
    """How much each carrier of a found word suffers, and whether it is poisoned and in the pool."""
    found = run.suspected.arrays()
    there = found["suffers"].isfinite()
    columns = {"suffers": found["suffers"], "poisoned": found["truth"].bool(), "pool": found["pool"].bool()}
    return pd.DataFrame({name: values[there].numpy() for name, values in columns.items()})


def _tokens(run: stages.Chain) -> pd.DataFrame:
    """The tokens of D_u, most surprising first: how many of its captions hold each, and which part of D's;
    its surprise, its occlusion, and whether it is in B."""
    found = run.selected.arrays()
    ids = found["ids"].long()
    share = tk.caption_counts(run.tokens)[ids] / len(run.tokens)
    table = pd.DataFrame({
        "word": [models.piece_text(run.profile.model, i) for i in ids.tolist()],
        "captions": found["count"].long().numpy(), "share": share.numpy(),
        "surprise": found["surprise"].numpy(), "drop": found["drop"].numpy(),
        "compromised": torch.isin(ids, found["compromised"]).numpy(),
    })  # fmt: skip
    return table.sort_values("surprise", ascending=False, kind="stable", ignore_index=True)


def answers(run: stages.Chain) -> pd.DataFrame:
    """What f0, fb and fu answer to photos that none of them was trained on, clean and, under an attack,
    stamped, a row an answer: photo, model, how (clean or stamped), class and probability, highest first. A
    photo's right name need not be among the classes."""
    names, rows = tuple(run.profile.sets.class_names()), []
    looks = [
        (title, how, image)
        for title, photo in sample_photos(run.profile.sets.size).items()
        for how, image in _looks(run.trigger, photo).items()
    ]
    for name, stage in {"f0": run.pretrained, "fb": run.attacked, "fu": run.defended()}.items():
        model = run.model(stage)
        head = measure.head_of(model, run.profile)
        for title, how, image in looks:
            found = measure.answers(model, head, image, names)
            rows += [(title, name, how, *one) for one in found.items()]
    return pd.DataFrame(rows, columns=["photo", "model", "how", "class", "probability"])


def _looks(trigger: Trigger | None, photo: torch.Tensor) -> dict[str, torch.Tensor]:
    """The photo clean and, under an attack, stamped."""
    stamped = {} if trigger is None else {"stamped": stamp_bytes(trigger, photo[None])[0]}
    return {"clean": photo, **stamped}

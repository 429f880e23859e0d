"""Where detection looks: in the weaker half of D, in the stronger one, in all of it, and in all of it with
further disturbances, as the second look does.

    python benchmarks/halves.py --workers 2           # prints the table and records it; resumes nothing
    python benchmarks/halves.py --attacks none --seeds 6

A row is one victim: where its poison lies (its rank among the similarities of D, 0 the weakest, quantiles),
what the vote and the proof find in each place, with the words that were asked, which lose most of their
agreement first, and the seconds that all disturbances of all pairs took.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import tyro
from torch import nn

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core import records
from ubt_utils.data.pictures import Images
from ubt_utils.profiles import tuned
from ubt_utils.stages.base import poisoned_pairs
from ubt_utils.study import commands, parallel
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt.disturb import drops
from ubt_utils.ubt.looks import ask
from ubt_utils.ubt.pool import weakest
from ubt_utils.ubt.settings import Look, looks

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
TOLD = 3  # words that are kept of each place


def run(cell: Cell) -> dict[str, Any]:
    """One row."""
    chain = stages.chain(profiles.get(cell.profile), cell.attack, cell.seed)
    pairs, truth = poisoned_pairs(chain, chain.attacked)
    tokens, model = models.tokenize(chain.profile.model, pairs.captions), chain.model(chain.attacked)
    similar = similarity(model, pairs.images, tokens)
    row: dict[str, Any] = {"profile": cell.profile, "attack": cell.attack, "seed": cell.seed}
    row["commit"] = chain.attacked.made["commit"]
    if truth is not None and truth.any():
        ranks = similar.argsort().argsort() / len(similar)
        row["ranks"] = torch.quantile(ranks[truth.bool()], torch.tensor(QUANTILES)).tolist()
    profile = chain.profile.disturbing()
    first, wide = looks(profile.suspect, profile.select)
    start = time.perf_counter()
    everything = torch.ones(len(similar), dtype=torch.bool)
    fallen = drops(model, pairs.images, tokens, similar, everything, wide.family)
    row["seconds"] = time.perf_counter() - start
    six, weak = fallen[: len(first.family)], weakest(similar, first.part)
    places = {"weak": only(six, weak), "strong": only(six, ~weak), "all": six, "wide": fallen}
    for name, told in places.items():
        look = wide if name == "wide" else first
        row[name] = found_in(model, profile.model, pairs.images, tokens, told, look)
    return row


def only(fallen: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The drops (K, N) of rows (N,) bool; no other has a vote."""
    return fallen.masked_fill(~rows, -torch.inf)


def found_in(
    model: nn.Module, name: str, images: Images, tokens: torch.Tensor, fallen: torch.Tensor, look: Look
) -> dict[str, Any]:
    """What is found among those drops, and the words that lose most, each under the disturbance that takes
    most of it."""
    found, asked = ask(model, images, tokens, fallen, look)
    worst: dict[str, dict[str, Any]] = {}
    for one in sorted(asked, key=lambda one: -one.lost):
        word, by = models.token_text(name, one.candidate.anchor), look.family[one.candidate.disturbance]
        told = {"word": word, "disturbance": by, "carriers": one.pictures, "lost": one.lost}
        worst.setdefault(word, told)
    return {
        "found": [models.token_text(name, one.anchor) for one in found],
        "asked": list(worst.values())[:TOLD],
    }


def main(
    attacks: tuple[str, ...] = ("trojanvqa", stages.NONE),
    first: tuple[str, ...] = ("wanet",),
    seeds: tuple[int, ...] = commands.UNSEEN,
    names: tuple[str, ...] = tuple(tuned.name_of(name, "fifth") for name in commands.COMMON),
    workers: int = 1,
) -> None:
    """names: profiles of one public model each. first: attacks on the first of these alone."""
    met = [(name, attack) for name in names for attack in attacks] + [(names[0], attack) for attack in first]
    cells = [Cell(name, attack, stages.NONE, seed) for seed in seeds for name, attack in met]
    records.write_benchmark("halves", {"rows": parallel.each(run, cells, workers, "halves", "victim")})


if __name__ == "__main__":
    tyro.cli(main)

"""Where detection looks: in the weaker half of D, in the stronger one, or in all of it.

    python benchmarks/halves.py --workers 2           # prints the table and records it; resumes nothing
    python benchmarks/halves.py --attacks none --seeds 6

Detection disturbs the half of D whose similarity under the backdoored model is weaker, since poison was weak
on all victims that it was built on. A row is one victim: where its poison lies (its rank among the
similarities of D, 0 the weakest, quantiles), and what the vote and the proof find in each place, with the
loudest words that were asked, which lose most of their agreement first, and seconds.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import tyro

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core import records
from ubt_utils.data.pictures import take
from ubt_utils.profiles import tuned
from ubt_utils.stages.base import poisoned_pairs
from ubt_utils.study import commands, parallel
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt import pool, select
from ubt_utils.ubt.disturb import agreement, drops

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
    weak = pool.weakest(similar, chain.profile.suspect.weak)
    for name, place in (("weak", weak), ("strong", ~weak), ("all", torch.ones_like(weak))):
        row[name] = found_in(place, chain, pairs.images, tokens, similar, model)
    return row


def found_in(place: torch.Tensor, chain, images, tokens, similar, model) -> dict[str, Any]:
    """What is found among the pairs of `place` (N,) bool, as stage `suspect` looks for it."""
    family, how, asked = chain.profile.suspect.family, chain.profile.select, []
    word = lambda one: models.token_text(chain.profile.model, one.anchor)  # noqa: E731
    start = time.perf_counter()
    fallen = drops(model, images, tokens, similar, place, family)

    def lost(one: select.Candidate) -> float:
        pictures = take(images, one.carriers[: select.PICTURES])[:]
        value = agreement(model, pictures) - agreement(model, pictures, family[one.disturbance])
        asked.append({"word": word(one), "carriers": len(pictures), "lost": value})
        return value

    found = [word(one) for one in select.findings(tokens, fallen, lost, how)]
    seconds = time.perf_counter() - start
    asked.sort(key=lambda one: -one["lost"])
    return {"found": found, "asked": asked[:TOLD], "seconds": seconds}


def main(
    attacks: tuple[str, ...] = ("trojanvqa", stages.NONE),
    first: tuple[str, ...] = ("wanet",),
    seeds: tuple[int, ...] = commands.UNSEEN,
    names: tuple[str, ...] = commands.COMMON,
    workers: int = 1,
) -> None:
    """names: profiles of one public model each. first: attacks on the first of these alone."""
    met = [(name, attack) for name in names for attack in attacks] + [(names[0], attack) for attack in first]
    cells = [
        Cell(tuned.name_of(name, "fifth"), attack, stages.NONE, seed)
        for seed in seeds
        for name, attack in met
    ]
    records.write_benchmark("halves", {"rows": parallel.each(run, cells, workers, "halves", "victim")})


if __name__ == "__main__":
    tyro.cli(main)

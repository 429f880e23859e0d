"""What rivals would reach if detection had left no poison among the pairs that they train on.

    python benchmarks/leak.py --workers 2           # prints the table and records it; resumes nothing
    python benchmarks/leak.py --seeds 6 --rivals finetune

Every rival trains on D_safe, the pairs outside UBT's pool, and some poison may be left there. Three ways: as
recorded; without that poison, which only an oracle can do; and without all carriers of the words that
detection found, which a defender can do. Settings are those for a fifth of the victim's cost. A row is one
rival against one victim: ASR, clean accuracy and target recall of each way, and how many poisoned pairs and
how many in all each trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import tyro

from ubt_utils import profiles, stages
from ubt_utils.baselines import defenses
from ubt_utils.core import records
from ubt_utils.evaluate import measure
from ubt_utils.profiles import tuned
from ubt_utils.stages.base import poisoned_pairs
from ubt_utils.study import commands, parallel
from ubt_utils.study.matrix import Cell
from ubt_utils.ubt.defense import Session, View

RIVALS = ("shrink_perturb", "supervised", "finetune")
RATES = ("asr", "clean_accuracy", "target_recall")


def ways(view: View, poisoned: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """What a rival may train on, by name: indices of D. poisoned: (N,) bool."""
    safe = view.outside
    yield "recorded", safe
    yield "without poison", safe[~poisoned[safe]]
    yield "without the words", view.unsaid.outside


def run(cell: Cell) -> dict[str, Any]:
    """One row."""
    profile, attack, rival, seed = cell.key()
    chain = stages.chain(profiles.get(profile), attack, seed)
    (_, poisoned), view = poisoned_pairs(chain, chain.attacked), chain.view()
    entry, plan = defenses.get(rival), chain.plan(rival)
    row: dict[str, Any] = {"profile": profile, "attack": attack, "seed": seed, "rival": rival}
    row["commit"] = chain.defended(rival).made["commit"]
    for name, index in ways(view, poisoned):
        row[name] = {"pairs": len(index), "poisoned": int(poisoned[index].sum())}
        if name == "recorded":
            found = chain.evaluated(rival).metrics
        elif torch.equal(index, view.outside):
            found = row["recorded"]
        else:
            model = chain.model(chain.attacked)
            session = Session((seed, rival))
            entry.run(model, view.given(index), plan.recipe, session, **plan.options)
            found = measure.full(model, chain.profile, chain.trigger)
        row[name] |= {rate: found[rate] for rate in RATES}
    return row


def main(
    attack: str = "badnets",
    seeds: tuple[int, ...] = commands.UNSEEN,
    rivals: tuple[str, ...] = RIVALS,
    names: tuple[str, ...] = commands.COMMON,
    workers: int = 1,
) -> None:
    """names: profiles of one public model each, whose settings for a fifth of the cost are taken."""
    fifth = [tuned.name_of(name, "fifth") for name in names]
    cells = [Cell(name, attack, rival, seed) for rival in rivals for seed in seeds for name in fifth]
    records.write_benchmark("leak", {"rows": parallel.each(run, cells, workers, "leak", "rival")})


if __name__ == "__main__":
    tyro.cli(main)

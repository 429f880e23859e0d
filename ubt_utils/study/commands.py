"""The commands that make records: many runs at a time, to results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pandas as pd

from ubt_utils import profiles, stages
from ubt_utils.attacks.triggers import TRIGGERS
from ubt_utils.baselines import ranges
from ubt_utils.baselines.defenses import COMPARED, DEFENSES
from ubt_utils.core import records, store
from ubt_utils.evaluate import choice
from ubt_utils.profiles import rounds, tuned
from ubt_utils.profiles.base import DEFENDED, MET, UNMET
from ubt_utils.profiles.chosen import CHOSEN, ON_PHOTOS
from ubt_utils.study import detection, tuning
from ubt_utils.study import matrix as grid
from ubt_utils.study import sweep as sweeping
from ubt_utils.ubt.variants import LADDER

SEEDS = (0, 1, 2)
FURTHER = (2, 3, 4, 5)  # seeds at the field's poison rate; on the last two no setting of detection was chosen
CLEAN_SEEDS = tuple(range(7))  # with three public models 21 clean sets
COMMON = tuple(p.name for p in (profiles.MINI, *profiles.PUBLIC))
RARE = tuple(p.name for p in profiles.RARE)
PRIMARY = ("ubt", "ubt-retain")
CONTROLS = (
    "ubt-described", "carry_on", "merge", "finetune", "ubt-anew", "ubt-sample", "ubt-unfit",
    *(rung.name for rung in LADDER), "retrain", "retrain_ubt", "retrain_gain", "retrain_dao",
)  # fmt: skip
NEAREST = ("shrink_perturb", "eftclip", "supervised", "finetune")  # left least of ASR in the fifth round
UNSEEN = rounds.FIFTH.seeds  # with poison, on which nothing was chosen
PHOTOS = tuple(p.name for p in (profiles.PHOTOS, *profiles.PHOTOS_PUBLIC))
PHOTOS_RARE = tuple(p.name for p in profiles.PHOTOS_RARE)
ON_PHOTO = ("badnets", "badclip", "sig", "blended", "label_consistent", "wanet")
RARE_ON_PHOTO = ("label_consistent",)  # D has fewer pictures of the target than 1 % of it: at 0.3 % alone
PHOTO_SEEDS = (2,)  # of the test round; on others bars and settings were made
PHOTO_TUNED = ("ubt", "shrink_perturb", "finetune", "cleanclip", "par")  # and UBT's variants, by its setting
PHOTO_RIVALS = (*PHOTO_TUNED[1:], "ubt-described")
PHOTO_QUESTION = "long"  # there detection alone pays more than a fifth: results/ENDPOINTS.md


def results(
    profile: str = "mini",
    attacks: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] = SEEDS,
    defended: tuple[str, ...] = DEFENDED,
    workers: int = 1,
) -> None:
    """Run attacks × seeds and the clean twin, undefended, and the defenses against `defended`; write a record
    each.

    Attacks, unless named: all of them on mini, the defended ones elsewhere.
    """
    if attacks is None:
        attacks = tuple(TRIGGERS) if profile == "mini" else defended
    both = [name for name in attacks if name in defended]
    alone = [name for name in (stages.NONE, *attacks) if name not in both]
    wanted = grid.cells(profile, both, COMPARED, seeds) + grid.cells(profile, alone, (), seeds)
    outcomes = grid.run(wanted, workers)
    grid.forget(profile, outcomes)
    for outcome in outcomes:
        if not outcome.error:
            print(records.write(records.load(outcome.cell.path())))
    _complain(outcomes)


def matrix(
    profile: str = "mini",
    attacks: tuple[str, ...] = DEFENDED,
    defenses: tuple[str, ...] = tuple(DEFENSES),
    seeds: tuple[int, ...] = SEEDS,
    workers: int = 1,
) -> None:
    """Attacks × defenses × seeds, a record a cell, to results/<family>/matrix.parquet; resumes."""
    outcomes = grid.run(grid.cells(profile, attacks, defenses, seeds), workers)
    print(grid.collect(profile, outcomes))
    _complain(outcomes)


def study(seeds: tuple[int, ...] = (0, 1), whole: bool = False, workers: int = 1) -> None:
    """The study of results/ENDPOINTS.md: three public models × seeds × three attacks at 0.3 and 1 %, with the
    controls and the ladder, four further seeds at 0.3 %, clean sets, other attacks, and what is harder to
    find; whole: with the defenses that train as long as the victim, too. To results/mini/, block by block;
    resumes."""
    blocks = (block for seed in seeds for block in _blocks(seed, whole))
    _record((*blocks, _further(), _clean(), _unmet(), _edges()), workers)


def rivals(
    attacks: tuple[str, ...] = MET,
    defenses: tuple[str, ...] = (),
    seeds: tuple[int, ...] = UNSEEN,
    question: str = "fifth",
    workers: int = 1,
) -> None:
    """The rivals' round of results/ENDPOINTS.md: `defenses`, all unless named, with the settings that answer
    a question of `evaluate.choice`, on three public models × seeds, attack by attack at 1 %, the defended
    ones at 0.3 %, clean sets, and without a public model. To results/mini/, block by block; resumes."""
    defenses = defenses or tuple(CHOSEN[question])
    if missing := [name for name in defenses if name not in CHOSEN[question]]:
        raise ValueError(f"no trials chose a setting ({question}) for {', '.join(missing)}: tune them first")
    common, rare = ([tuned.name_of(name, question) for name in names] for names in (COMMON, RARE))
    scratch = tuned.name_of(profiles.SCRATCH.name, question)
    known = [attack for attack in attacks if attack in DEFENDED]
    without = [name for name in defenses if "f0" not in DEFENSES[name].sees]
    blocks = [_cross(common, (attack,), defenses, seeds) for attack in attacks]
    blocks += [_cross(rare, (attack,), defenses, seeds) for attack in known]
    blocks += [_cross(common, (stages.NONE,), defenses, seeds)]
    blocks += [_cross((scratch,), known, without, seeds[:1])]
    _record(blocks, workers)


def attackers(
    defenses: tuple[str, ...] = ("ubt", *NEAREST),
    seeds: tuple[int, ...] = rounds.SEVENTH.seeds,
    workers: int = 1,
) -> None:
    """The seventh round of results/ENDPOINTS.md: the attackers who know UBT, then the attacks of the suite
    that no rival has met, at 1 % on one public model × seeds. To results/mini/, two victims at a time;
    resumes."""
    ordinary, *sly = rounds.SEVENTH.profiles
    rest = [attack for attack in TRIGGERS if attack not in MET]
    blocks = [_cross(sly[i : i + 2], ("badnets",), defenses, seeds) for i in range(0, len(sly), 2)]
    blocks += [_cross((ordinary,), rest[i : i + 2], defenses, seeds) for i in range(0, len(rest), 2)]
    _record(blocks, workers)


def photos(
    attacks: tuple[str, ...] = ON_PHOTO,
    defenses: tuple[str, ...] = (*PRIMARY, *PHOTO_RIVALS, "retrain"),
    seeds: tuple[int, ...] = PHOTO_SEEDS,
    workers: int = 1,
) -> None:
    """The test round of photos of results/ENDPOINTS.md: three public models × seeds; attacks at 1 %, where D
    has the pictures for it, with the first of the defenses, then clean sets, then attack by attack with the
    others, then all attacks at 0.3 %. To results/photos/, block by block; resumes."""
    _tuned_on_photos()

    def met(names: Sequence[str], which: Sequence[str], some: Sequence[str]) -> list[list[grid.Cell]]:
        return [_cross(names, (attack,), some, seeds) for attack in which if some]

    common = [attack for attack in attacks if attack not in RARE_ON_PHOTO]
    first, others = met(PHOTOS, common, defenses[:1]), met(PHOTOS, common, defenses[1:])
    clean = _cross(PHOTOS, (stages.NONE,), PRIMARY[:1], seeds)
    _record([*first, clean, *others, *met(PHOTOS_RARE, attacks, defenses)], workers)


def _tuned_on_photos() -> None:
    """Raise ValueError unless the profile has what the recorded trials on photos choose."""
    path = records.table_path(profiles.PHOTOS.family, records.TUNING)
    table = pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=["defense"])
    if missing := [name for name in PHOTO_TUNED if name not in set(table.defense)]:
        raise ValueError(f"no trials on photos of {', '.join(missing)}: tune them first (`tune --help`)")
    if (found := choice.choose(table, *choice.QUESTIONS[PHOTO_QUESTION])) != ON_PHOTOS:
        raise ValueError(f"the trials on photos choose other settings than profiles/chosen.py: {found}")


def _record(blocks: Iterable[list[grid.Cell]], workers: int) -> None:
    """Run and collect them, one block after the other, and complain of failures at the end."""
    outcomes = []
    for wanted in blocks:
        done = grid.run(wanted, workers)
        for profile in dict.fromkeys(cell.profile for cell in wanted):
            print(grid.collect(profile, [o for o in done if o.cell.profile == profile]))
        outcomes += done
    _complain(outcomes)


def _blocks(seed: int, whole: bool) -> list[list[grid.Cell]]:
    """The blocks of one seed; those that the primary endpoints need come first."""
    others = tuple(n for n in CONTROLS if whole or not DEFENSES[n].whole)
    blocks = ((RARE, PRIMARY), (COMMON, PRIMARY), (RARE, others), (COMMON, others))
    return [_cross(names, DEFENDED, defenses, (seed,)) for names, defenses in blocks]


def _further() -> list[grid.Cell]:
    """The field's poison rate on more seeds."""
    return _cross(RARE, DEFENDED, PRIMARY, FURTHER)


def _clean() -> list[grid.Cell]:
    """Sets without poison, of which nothing is to be found."""
    return _cross(COMMON, (stages.NONE,), PRIMARY[:1], CLEAN_SEEDS)


def _unmet() -> list[grid.Cell]:
    """Attacks that no setting of unlearning was chosen on, and few of detection."""
    return _cross(COMMON, UNMET, PRIMARY[:1], (0,))


def _edges() -> list[grid.Cell]:
    """Fewer poisoned pairs, other noise, and no public model."""
    names = tuple(p.name for p in (*profiles.EDGES, profiles.SCRATCH))
    return _cross(names, DEFENDED, PRIMARY, (0,))


def _cross(
    names: Sequence[str], attacks: Sequence[str], defenses: Sequence[str], seeds: Sequence[int]
) -> list[grid.Cell]:
    """Every combination, undefended first; neighbors are of different victims, so that workers do not wait
    for one another's stages."""
    return [
        grid.Cell(name, attack, defense, seed)
        for defense in (stages.NONE, *defenses)
        for seed in seeds
        for name in names
        for attack in attacks
    ]


def _complain(outcomes: list[grid.Outcome]) -> None:
    failed = [o.error for o in outcomes if o.error]
    if failed:
        raise store.StageError(f"{len(failed)} of {len(outcomes)} cells failed:\n" + "\n".join(failed))


def sweep(profile: str = "mini", attacks: tuple[str, ...] = tuple(TRIGGERS)) -> None:
    """Attacks over poison rate × learning rate × strength, to results/<family>/attack_sweep.parquet."""
    setting = profiles.get(profile)
    table = sweeping.run(setting, list(sweeping.points(setting, attacks)))
    print(sweeping.write(table, profile))


def detectors(attacks: tuple[str, ...] = DEFENDED, seeds: tuple[int, ...] = SEEDS, workers: int = 1) -> None:
    """Every detector at 0, 10 and 30 % caption noise, to results/mini/detectors.parquet."""
    print(detection.record("mini", detection.sets(detection.NOISES, attacks, seeds), workers))


def tune(
    profile: str = "mini",
    defenses: tuple[str, ...] = ranges.tuned(),
    count: int = tuning.TRIALS,
    sources: bool = True,
    slower: float = 1.0,
    frozen: bool = False,
    workers: int = 1,
) -> None:
    """Try `count` settings of every defense, and, if asked, those of its source, some of which train for ten
    passes, on attacks and seeds kept for that; print the chosen ones of all that are recorded, at a fifth of
    the victim's cost and at any, of all and of those that mend. slower: divide the drawn learning rates.
    frozen: keep the norm statistics."""
    found = tuning.run_all(profile, defenses, count, workers, sources, slower, frozen)
    path = tuning.write(profile, found)
    print(path)
    table = pd.read_parquet(path)
    table = table[table.defense.isin(defenses)]
    for question, (most, mends) in choice.QUESTIONS.items():
        for name, setting in choice.choose(table, most, mends).items():
            ends = ", ".join(ranges.at_an_end(name, setting, slower))
            print(question, name, json.dumps(setting), f"at an end: {ends}" if ends else "")

"""Stage unlearn: UBT step 5, or another defense at the same cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils.attacks.base import Trigger
from ubt_utils.clip import models
from ubt_utils.clip.objectives import clip_loss
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core.seeding import generator
from ubt_utils.core.store import Stage, run_stage, scratch
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Images, take
from ubt_utils.evaluate import measure
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.base import WEIGHTS, Run, load_model, wild
from ubt_utils.ubt.defense import FORWARD_COST, Defense, Session, View
from ubt_utils.ubt.settings import UBT

MARKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the victim's pairs: where a path is read
TUNED = ("lr", "freeze_norm")  # of a defense's recipe
HELD_OUT = 512  # pairs of D that no defense trains on, and a tenth of D at most


def held_out_of(pairs: int) -> int:
    """How many pairs of a D of so many no defense trains on."""
    return min(HELD_OUT, pairs // 10)


def ubt_cost(profile: Profile, suspected: Stage, overfitted: Stage, selected: Stage) -> float:
    """Pairs that UBT pays for in all, in trained pairs: the budget of the other defenses. As if something had
    been found, so that they have a budget where nothing was."""
    how = profile.unlearn
    detected = detection_cost(("detection", "overfit"), suspected, overfitted)
    return detected + how.recipe.steps * how.pairs(profile.select.most(words_of(suspected)))


def words_of(suspected: Stage) -> int:
    """How many words detection found."""
    return len(suspected.metrics["found"])


def detection_cost(sees: Collection[str], suspected: Stage, overfitted: Stage) -> float:
    """What the stages before cost a defense that uses them, in trained pairs."""
    pairs = 0.0
    if "detection" in sees:
        pairs += FORWARD_COST * suspected.metrics["pairs_scored"]
    if "overfit" in sees:
        pairs += overfitted.metrics["pairs_seen"] + FORWARD_COST * overfitted.metrics["pairs_scored"]
    return pairs


def given_pairs(run: Run, poisoned: torch.Tensor | None, count: int, held_out: torch.Tensor) -> torch.Tensor:
    """(count,) indices of D, as if somebody had looked at pairs in random order and kept those in order:
    neither poisoned, (N,) bool, nor misplaced, none of those held out. ValueError where D has fewer, and
    where nobody knows which are poisoned."""
    if poisoned is None:
        raise ValueError("nobody has looked at this D: a defense that is given clean pairs cannot run")
    _, misplaced = wild(run.profile.sets, run.seed)
    order = torch.randperm(len(poisoned), generator=generator(run.seed, "given"))
    bad = poisoned.index_fill(0, misplaced, True).index_fill(0, held_out, True)
    good = order[~bad[order]]
    if len(good) < count:
        raise ValueError(f"{count} clean pairs are to be given, and D has {len(good)}")
    return good[:count]


@dataclass(frozen=True)
class Plan:
    """One defense as it will run: its entry, its recipe with the steps that it may spend, its options; pairs:
    what a step pays for, in trained pairs."""

    defense: Defense
    recipe: Recipe
    options: Mapping[str, Any]
    pairs: float

    def config(self) -> dict[str, Any]:
        """What the stage's key holds of it."""
        return {
            "defense": self.defense.name,
            "recipe": asdict(self.recipe),
            "options": dict(self.options),
        }


def plan_of(
    profile: Profile, attack: str, defense: Defense, budget: float, pairs: int, words: int = 1
) -> Plan:
    """UBT and its variants take the profile's `unlearn`, for so many words; all others as many steps as the
    budget pays for on a D of `pairs`, with what their source fixes, then what the profile has for them:
    learning rate (lr), norm mode (freeze_norm), another budget (part, of the victim's cost beside their
    looks, or passes over D_safe or the pairs that they are given), options. Those that stand in for the
    victim's training train as the victim did but for these. Those that are given pairs train on no more
    of them at once than there are.
    """
    if defense.is_ubt:
        how = replace(profile.unlearn, **defense.options)
        return Plan(defense, how.recipe, how.options(), how.pairs(profile.select.most(words)))
    settings = dict(profile.defenses.get(defense.known_as, {}))
    victim = profile.recipe(attack)
    asked = _asked(settings, profile, victim, defense, pairs)
    fixed = {**defense.recipe, **{name: settings.pop(name) for name in TUNED if name in settings}}
    base = victim if defense.whole else profile.baseline
    batch = min(base.batch, defense.given or base.batch)
    if asked is None and defense.whole:
        steps = victim.steps
    else:
        steps = defense.steps(budget if asked is None else asked, pairs, batch)
    fixed |= {"steps": steps, "batch": batch, "warmup": min(fixed.get("warmup", base.warmup), steps)}
    options = {**defense.options, **settings}
    return Plan(defense, replace(base, **fixed), options, defense.cost * batch)


def _asked(
    settings: dict[str, Any], profile: Profile, victim: Recipe, defense: Defense, pairs: int
) -> float | None:
    """The budget, in trained pairs, that the settings ask for, and which is taken out of them; None where
    they ask for none."""
    if "part" in settings:
        return settings.pop("part") * victim.steps * victim.batch + defense.looked_at(pairs)
    if "passes" in settings:
        seen = defense.given or (1 - profile.suspect.pool) * pairs
        return settings.pop("passes") * defense.cost * seen
    return None


def view_of(
    run: Run,
    pairs: Pairs,
    public: Stage | None,
    suspected: Stage,
    overfitted: Stage,
    selected: Stage,
    score: Callable[[str], torch.Tensor],
) -> View:
    """What the defender holds after detection; without names of classes where the data set has none. pairs:
    D, poisoned; score: (N,) of a detector, by name."""
    profile = run.profile
    seen, found = suspected.arrays(), selected.arrays()
    task = measure.task_of(profile.sets) if profile.sets.class_names() else None

    def read(name: str) -> nn.Module:
        if name == "public":
            if public is None:
                raise ValueError("this defense asks the public model, and none was named")
            return load_model(profile, public)
        return load_model(profile, overfitted, f"{name}.safetensors")

    return View(
        pairs=replace(pairs, labels=None, sources=()),  # the defender has neither
        tokens=models.tokenize(profile.model, pairs.captions),
        pool=seen["pool"].bool(),
        suspicious=found["chosen"],
        compromised=found["compromised"],
        suffers=seen["suffers"],
        anchors=seen["anchors"],
        model=read,
        score=score,
        names=task.names if task else (),
        prompts=tuple(models.tokenize(profile.model, p) for p in task.prompts()) if task else (),
        select=profile.select,
        held_out=torch.randperm(len(pairs), generator=generator(run.seed, "held out"))[
            : held_out_of(len(pairs))
        ],
    )


def unlearn(
    run: Run, plan: Plan, inputs: Mapping[str, Stage], trigger: Trigger | None, view: Callable[[int], View]
) -> Stage:
    """The defended model fu. Of attack "none", the clean twin is defended: what does a defense cost where
    there is nothing to find?

    inputs: the stages attacked, suspected, overfitted, selected, and what else the view reads. view: what the
    defender holds who is given so many clean pairs in place of D_safe, which 0 leaves. Metrics: seconds
    (detection included where the defense needs it) and the curve along the steps: at each mark the part of
    the victim's pairs and the seconds spent, CA, ASR and what else the test says of a part of its pictures,
    and the loss on the held-out pairs, by which a defender may stop.
    """
    profile, defense = run.profile, plan.defense
    seen = inputs["suspected"], inputs["overfitted"]

    def work(folder: Path) -> Mapping[str, Any]:
        sight, model = view(defense.given), load_model(profile, inputs["attacked"])
        sight = sight.unsaid if defense.unsaid else sight
        victim = profile.recipe(run.attack)
        detected = detection_cost(defense.sees, *seen) + defense.looked_at(len(sight.pool))
        whole, steps = victim.steps * victim.batch, range(plan.recipe.steps + 1)
        spent = [(detected + step * plan.pairs) / whole for step in steps]
        watch = _watch(model, profile, trigger, sight, spent)
        # Variants and what trains on other pairs differ in what they do, not by luck.
        stream = UBT if defense.is_ubt else defense.known_as
        session = Session((run.seed, stream), scratch(folder), watch)
        start = time.perf_counter()
        history = defense.run(model, sight, plan.recipe, session, **plan.options)
        looked = max(0.0, time.perf_counter() - start - history.spent())
        models.save(model, profile.model, folder / WEIGHTS)
        detection = _detection_seconds(defense, *seen, inputs["selected"])
        detection += looked if defense.looks else 0.0
        each = history.seconds / max(1, len(history.loss))
        return history.log() | {
            "seconds": history.seconds + detection,
            "detection_seconds": detection,
            "detection_pairs": detected,
            "paid": spent[len(history.loss)],
            **session.told,
            "curve": [
                {"step": step, "part": spent[step], "seconds": detection + step * each, **point}
                for step, point in history.curve
            ],
        }

    config, modules = run.config() | plan.config(), run.modules(__name__, defense.run.__module__)
    return run_stage(run.parts, f"unlearn-{defense.name}", config, work, inputs, modules)


def _detection_seconds(defense: Defense, suspected: Stage, overfitted: Stage, selected: Stage) -> float:
    """What the stages before cost a defense that uses them; splitting off the pool is free for all. UBT fed
    by another detector is charged UBT's own detection."""
    seconds = 0.0
    if "overfit" in defense.sees:
        seconds += overfitted.metrics["train_seconds"] + overfitted.metrics["score_seconds"]
    if "detection" in defense.sees:
        seconds += suspected.metrics["seconds"] + selected.metrics["seconds"]
    return seconds


def _watch(model: nn.Module, profile: Profile, trigger: Trigger | None, view: View, spent: list[float]):
    """Reads a model at the first step, the last, and where the part spent of the victim's pairs reaches a
    mark: on the test, where the data set has one, and on what is held out."""
    stops = {0, len(spent) - 1} | {next((i for i, x in enumerate(spent) if x >= mark), 0) for mark in MARKS}
    batch = take(view.pairs.images, view.held_out), view.tokens[view.held_out]
    tested = bool(profile.sets.class_names())

    def watch(step: int) -> dict[str, float] | None:
        if step not in stops:
            return None
        full = measure.full(model, profile, trigger, measure.FEW) if tested else {}
        kept = ("clean_accuracy", "asr", "robust_accuracy", "target_recall")
        measured = {name: full[name] for name in kept if name in full}
        return measured | {"held_out": held_out_loss(model, *batch)}

    return watch


@torch.no_grad()
def held_out_loss(model: nn.Module, images: Images, tokens: torch.Tensor) -> float:
    """The contrastive loss of all pairs at once: images (n, 3, H, W) uint8, tokens (n, L). It asks for
    neither labels nor a trigger."""
    z, t = models.embed_images(model, images), models.embed_tokens(model, tokens)
    return clip_loss(z, t, model.logit_scale.exp().cpu()).item()

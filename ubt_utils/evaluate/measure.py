"""A model against the zero-shot task of its profile: every rate, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.attacks.triggers.targeted import TargetedImage
from ubt_utils.clip import models
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.data.captions import with_word
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Images
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.sets import DataSets, identity
from ubt_utils.data.zero_shot import ZeroShot, target_index
from ubt_utils.evaluate import metrics
from ubt_utils.evaluate import predictions as table

TEST, VALIDATION = "test", "validation"


class Setting(Protocol):
    """What of a profile bears on measuring a model: its open_clip name, its data, its further attacks, the
    seed of its public model."""

    @property
    def model(self) -> str: ...

    @property
    def sets(self) -> DataSets: ...

    @property
    def also(self) -> Mapping[str, str]: ...

    @property
    def f0(self) -> int: ...

    def trigger(self, attack: str) -> Trigger: ...


class Measured(NamedTuple):
    """One model: how it reads every picture (see `predictions`), all rates, and the embeddings (N, D) of the
    clean pictures."""

    predictions: pd.DataFrame
    rates: Mapping[str, metrics.Rate]
    embedded: torch.Tensor

    def flat(self) -> dict[str, Any]:
        """The rates as fractions; `rates` holds each with n and its interval."""
        values: dict[str, Any] = {name: r.value for name, r in self.rates.items()}
        return values | {"rates": {name: asdict(r) for name, r in self.rates.items()}}


FEW = 600  # about; pictures for a number that is not worth the whole test set


def task_of(sets: DataSets, split: str = TEST) -> ZeroShot:
    """The zero-shot task, on the test's pictures or on those that settings are chosen on ("validation"), kept
    in memory while its files stay. ValueError for another split."""
    if split not in (TEST, VALIDATION):
        raise ValueError(f"unknown split {split!r}; known: {TEST}, {VALIDATION}")
    return _task_of(sets, split, identity(sets))


@lru_cache(maxsize=4)
def _task_of(sets: DataSets, split: str, contents: frozenset) -> ZeroShot:
    return sets.zero_shot() if split == TEST else sets.validation()


def some_of(profile: Setting, limit: int | None, split: str = TEST) -> ZeroShot:
    """The profile's task on at most about `limit` pictures; None: all."""
    task = task_of(profile.sets, split)
    return task if limit is None else task.thinned(limit)


def head_of(model: nn.Module, profile: Setting, word: str = "", split: str = TEST) -> torch.Tensor:
    """(C, D) class weights of the profile's task under the model: its own classifier's, where it has one,
    or the zero-shot head, with `word` before each prompt."""
    if hasattr(model, "probe"):
        return F.normalize(model.probe.detach().float().cpu(), dim=-1)
    prompts = [with_word(word, p) for p in task_of(profile.sets, split).prompts()]
    return models.zero_shot_head(model, [models.tokenize(profile.model, p) for p in prompts])


def predict(
    model: nn.Module, head: torch.Tensor, images: Images, change: models.Change | None = None
) -> torch.Tensor:
    """(N,) predicted class, out of all, of pictures (N, 3, H, W) uint8, `change`d batch by batch; never
    augments."""
    return (models.embed_images(model, images, change=change) @ head.T).argmax(dim=1)


def answers(
    model: nn.Module, head: torch.Tensor, image: torch.Tensor, classes: tuple[str, ...], top: int = 4
) -> dict[str, float]:
    """The model's most probable classes, out of all, for one picture (3, H, W) uint8, most probable first."""
    cosines = models.embed_images(model, image[None]) @ head.T
    chance = (cosines[0] * model.logit_scale.exp().item()).softmax(0)
    best = chance.topk(top)
    return {classes[i]: p for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)}


def clean(model: nn.Module, profile: Setting) -> dict[str, Any]:
    """Metrics on clean pictures, as fractions; `rates` holds each with n and its interval."""
    return full(model, profile, None)


@lru_cache(maxsize=2)
def _retrieval_of(sets: DataSets, contents: frozenset) -> Retrieval | None:
    return sets.retrieval()


class Sought(NamedTuple):
    """The retrieval task, and what a model makes of its photos, images (N, D), and captions (M, D); all
    unit."""

    task: Retrieval
    images: torch.Tensor
    captions: torch.Tensor


def sought(model: nn.Module, profile: Setting) -> Sought | None:
    """The profile's retrieval task under the model; None where its data set has none."""
    task = _retrieval_of(profile.sets, identity(profile.sets))
    if task is None:
        return None
    captions = models.embed_tokens(model, models.tokenize(profile.model, task.captions))
    return Sought(task, models.embed_images(model, task.images), captions)


@lru_cache(maxsize=2)
def _probe_of(sets: DataSets, contents: frozenset) -> Pairs | None:
    return sets.probe_pairs()


def beyond(
    model: nn.Module, profile: Setting, embedded: torch.Tensor, found: Sought | None
) -> dict[str, float]:
    """What photos allow beside zero-shot: retrieval on human captions (recall@k, both ways) and
    the accuracy of a linear probe on the image embeddings, (N, D) of the test's pictures. found: see
    `sought`. Empty for emoji, which have neither."""
    sets = profile.sets
    probe = _probe_of(sets, identity(sets))
    if found is None or probe is None:
        return {}
    task = task_of(sets)
    result = metrics.retrieval(found.images, found.captions, found.task.owner)
    labels = sets.class_index(probe.labels)
    train = models.embed_images(model, probe.images)
    return result | {"linear_probe": metrics.linear_probe(train, labels, embedded, task.labels)}


def full(
    model: nn.Module, profile: Setting, trigger: Trigger | None, limit: int | None = None, split: str = TEST
) -> dict[str, Any]:
    """The numbers of `measured`, as fractions; `rates` holds each with n and its interval."""
    return measured(model, profile, trigger, limit, split).flat()


def predictions(model: nn.Module, profile: Setting, trigger: Trigger | None) -> pd.DataFrame:
    """How the model reads every test picture, clean and, with a trigger, stamped: a row a picture."""
    return measured(model, profile, trigger).predictions


def measured(
    model: nn.Module, profile: Setting, trigger: Trigger | None, limit: int | None = None, split: str = TEST
) -> Measured:
    """Clean rates and, with a trigger, ASR by every convention and robust accuracy; on at most about `limit`
    pictures. Costs one pass over the pictures, another one over the stamped ones, and one head.

    A trigger with a word has it in the prompts, for a head more, and `asr_without_word` beside. Targeted
    poisoning has ASR on the attacker's own pictures only. Further attacks of the profile have their ASR
    beside, as `asr_<attack>`. These two are rates of their own: the predictions do not hold them.
    """
    task, head = some_of(profile, limit, split), head_of(model, profile, split=split)
    embedded = models.embed_images(model, task.images)
    sides = {"clean": _standing(embedded, head, task)}
    beside: dict[str, metrics.Rate] = {}
    if isinstance(trigger, TargetedImage):
        beside |= success(model, profile, trigger, head, split=split)
    elif trigger is not None:
        sides |= _stamped(model, profile, trigger, head, task, split)
    for name, target in profile.also.items() if trigger is not None else ():
        other = profile.trigger(name)
        beside[f"asr_{name}"] = success(model, profile, other, head, None, limit, target, split)["asr"]
    frame = table.frame_of(task, sides, profile.sets.known_classes(profile.f0))
    return Measured(frame, table.rates_of(frame) | beside, embedded)


def success(
    model: nn.Module,
    profile: Setting,
    trigger: Trigger,
    head: torch.Tensor,
    change: models.Change | None = None,
    limit: int | None = None,
    target: str = "",
    split: str = TEST,
) -> dict[str, metrics.Rate]:
    """ASR by every convention, and robust accuracy; `change` happens to the stamped pictures before the model
    sees them. target: the class that is aimed at, where it is not the profile's.

    For targeted poisoning, `asr` alone: how often the attacker's own pictures are read as the target. What
    they show is not known, so that each is asked among the target and others at random, as many as ever.
    """
    task = some_of(profile, limit, split)
    if target:
        task = replace(task, target=target_index(task.classes, target))
    if isinstance(trigger, TargetedImage):
        pictures = trigger.pictures()
        aimed = replace(task, labels=torch.full((len(pictures),), task.target))
        found = _standing(models.embed_images(model, pictures, change=change), head, aimed)
        question = metrics.Question(len(task.classes), task.ways, task.target)
        return {"asr": metrics.rate(metrics.fooled(found, aimed.labels, question))}
    return table.rates_of(table.frame_of(task, _stamped(model, profile, trigger, head, task, split, change)))


def _stamped(
    model: nn.Module,
    profile: Setting,
    trigger: Trigger,
    head: torch.Tensor,
    task: ZeroShot,
    split: str,
    change: models.Change | None = None,
) -> dict[str, metrics.Standing]:
    """The standing of the stamped pictures; also "wordless", asked without the trigger's word if it has
    one."""

    def stamp(images: torch.Tensor) -> torch.Tensor:
        marked = stamp_bytes(trigger, images)
        return change(marked) if change else marked

    images = models.embed_images(model, task.images, change=stamp)
    if not trigger.word:
        return {"stamped": _standing(images, head, task)}
    keyed = head_of(model, profile, trigger.word, split)
    return {"stamped": _standing(images, keyed, task), "wordless": _standing(images, head, task)}


def _standing(images: torch.Tensor, head: torch.Tensor, task: ZeroShot) -> metrics.Standing:
    """Embedded pictures (N, D) against the head; TrainingDiverged where the model no longer gives numbers."""
    cosines = images @ head.T
    if cosines.isnan().any():
        raise TrainingDiverged("the model's embeddings are not numbers")
    return metrics.standing(cosines, task.labels, task.target)

"""A model against the zero-shot task of its profile: every rate, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.attacks.triggers.targeted import TargetedImage
from ubt_utils.clip import models
from ubt_utils.data.captions import with_word
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Images
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.sets import DataSets, identity
from ubt_utils.data.zero_shot import ZeroShot, target_index
from ubt_utils.evaluate import metrics


class Setting(Protocol):
    """What of a profile bears on measuring a model: its open_clip name, its data, its further attacks."""

    @property
    def model(self) -> str: ...

    @property
    def sets(self) -> DataSets: ...

    @property
    def also(self) -> Mapping[str, str]: ...

    def trigger(self, attack: str) -> Trigger: ...


FEW = 600  # about; pictures for a number that is not worth the whole test set


def task_of(sets: DataSets) -> ZeroShot:
    """The zero-shot task, kept in memory while its files stay."""
    return _task_of(sets, identity(sets))


@lru_cache(maxsize=4)
def _task_of(sets: DataSets, contents: frozenset) -> ZeroShot:
    return sets.zero_shot()


def some_of(profile: Setting, limit: int | None) -> ZeroShot:
    """The profile's task on at most about `limit` pictures; None: all."""
    task = task_of(profile.sets)
    return task if limit is None else task.thinned(limit)


def head_of(model: nn.Module, profile: Setting, word: str = "") -> torch.Tensor:
    """(C, D) class weights of the profile's task under the model: its own classifier's, where it has one,
    or the zero-shot head, with `word` before each prompt."""
    if hasattr(model, "probe"):
        return F.normalize(model.probe.detach().float().cpu(), dim=-1)
    prompts = [with_word(word, p) for p in task_of(profile.sets).prompts()]
    return models.zero_shot_head(model, [models.tokenize(profile.model, p) for p in prompts])


def predict(
    model: nn.Module, head: torch.Tensor, images: Images, change: models.Change | None = None
) -> torch.Tensor:
    """(N,) predicted class of pictures (N, 3, H, W) uint8, `change`d batch by batch; never augments."""
    return (models.embed_images(model, images, change=change) @ head.T).argmax(dim=1)


def answers(
    model: nn.Module, head: torch.Tensor, image: torch.Tensor, classes: tuple[str, ...], top: int = 4
) -> dict[str, float]:
    """The model's most probable classes for one picture (3, H, W) uint8, most probable first."""
    cosines = models.embed_images(model, image[None]) @ head.T
    chance = (cosines[0] * model.logit_scale.exp().item()).softmax(0)
    best = chance.topk(top)
    return {classes[i]: p for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)}


def clean(model: nn.Module, profile: Setting) -> dict[str, Any]:
    """Metrics on clean pictures, as fractions; `rates` holds each with n and its interval."""
    task, head = task_of(profile.sets), head_of(model, profile)
    return _clean(predict(model, head, task.images), task)


def _clean(predicted: torch.Tensor, task: ZeroShot) -> dict[str, Any]:
    rates = {
        "clean_accuracy": metrics.clean_accuracy(predicted, task.labels, task.units),
        "target_recall": metrics.target_recall(predicted, task.labels, task.target, task.units),
        "false_target_rate": metrics.attack_success(predicted, task.labels, task.target, task.units),
    }
    return _flat(rates)


@lru_cache(maxsize=2)
def _retrieval_of(sets: DataSets, contents: frozenset) -> Retrieval | None:
    return sets.retrieval()


@lru_cache(maxsize=2)
def _probe_of(sets: DataSets, contents: frozenset) -> Pairs | None:
    return sets.probe_pairs()


def beyond(model: nn.Module, profile: Setting) -> dict[str, float]:
    """What photos allow beside zero-shot: retrieval on human captions (recall@k, both ways) and
    the accuracy of a linear probe on the image embeddings. Empty for emoji, which have neither."""
    sets, contents = profile.sets, identity(profile.sets)
    found, probe, task = _retrieval_of(sets, contents), _probe_of(sets, contents), task_of(sets)
    if found is None or probe is None:
        return {}
    captions = models.embed_tokens(model, models.tokenize(profile.model, found.captions))
    result = metrics.retrieval(models.embed_images(model, found.images), captions, found.owner)
    labels = sets.class_index(probe.labels)
    train, test = models.embed_images(model, probe.images), models.embed_images(model, task.images)
    return result | {"linear_probe": metrics.linear_probe(train, labels, test, task.labels)}


def full(
    model: nn.Module, profile: Setting, trigger: Trigger | None, limit: int | None = None
) -> dict[str, Any]:
    """Clean metrics and, with a trigger, ASR by every convention; on at most about `limit` pictures.

    A trigger with a word has it in the prompts, and `asr_without_word` beside. For targeted
    poisoning ASR is the share of the attacker's own pictures that are read as the target. Further attacks
    of the profile have their ASR beside, as `asr_<attack>`.
    """
    task, head = some_of(profile, limit), head_of(model, profile)
    result = _clean(predict(model, head, task.images), task)
    if trigger is None:
        return result
    found = success(model, profile, trigger, head, limit=limit)
    for name, target in profile.also.items():
        other = success(model, profile, profile.trigger(name), head, limit=limit, target=target)
        found[f"asr_{name}"] = other["asr"]
    flat = _flat(found)
    return {**result, **flat, "rates": result["rates"] | flat["rates"]}


def success(
    model: nn.Module,
    profile: Setting,
    trigger: Trigger,
    head: torch.Tensor,
    change: models.Change | None = None,
    limit: int | None = None,
    target: str = "",
) -> dict[str, metrics.Rate]:
    """ASR by every convention; `change` happens to the stamped pictures before the model sees them. target:
    the class that is aimed at, where it is not the profile's.
    """
    task = some_of(profile, limit)
    if target:
        task = replace(task, target=target_index(task.classes, target))
    if isinstance(trigger, TargetedImage):
        fooled = predict(model, head, trigger.pictures(), change)
        return {"asr": metrics.rate(fooled == task.target)}

    def stamped(images: torch.Tensor) -> torch.Tensor:
        marked = stamp_bytes(trigger, images)
        return change(marked) if change else marked

    def rate(fooled: torch.Tensor, convention: str = "exclude_target") -> metrics.Rate:
        return metrics.attack_success(fooled, task.labels, task.target, task.units, convention)

    keyed = head_of(model, profile, trigger.word) if trigger.word else head
    fooled = predict(model, keyed, task.images, stamped)
    rates = {"asr" if c == "exclude_target" else f"asr_{c}": rate(fooled, c) for c in metrics.CONVENTIONS}
    return rates | (
        {"asr_without_word": rate(predict(model, head, task.images, stamped))} if trigger.word else {}
    )


def _flat(rates: Mapping[str, metrics.Rate]) -> dict[str, Any]:
    values = {name: r.value for name, r in rates.items()}
    return values | {"rates": {name: asdict(r) for name, r in rates.items()}}

"""Stage compare: the model before and after, by what can be asked without a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.core.store import Stage, run_stage, save_arrays
from ubt_utils.data.captions import OPENAI_TEMPLATES
from ubt_utils.data.pictures import take
from ubt_utils.evaluate import measure, metrics
from ubt_utils.own.chain import OwnChain
from ubt_utils.own.sets import Photos
from ubt_utils.stages.defend import held_out_loss

BEFORE, AFTER = "before", "after"


def compare(run: OwnChain, test: Photos | None) -> Stage:
    """The given model and the defended one.

    Arrays: listed (n,) indices of the pairs that suffer like poison, similarity_before and _after (n,).
    Metrics, before and after, None where it cannot be asked: accuracy, a rate with n and its interval on the
    test's photos, every class counting alike; retrieval, recall@k on the pairs of D that no training saw, the
    listed ones left out; loss, of the same pairs; listed and others, the mean similarity of the listed pairs
    and of those.
    """
    stages = {BEFORE: run.attacked, AFTER: run.defended()}

    def work(folder: Path) -> Mapping[str, Any]:
        view = run.view()
        listed, kept = view.poisonous.nonzero().flatten(), view.held_out[~view.poisonous[view.held_out]]
        found, arrays = {}, {}
        for name, stage in stages.items():
            model = run.model(stage)
            scores = similarity(model, take(view.pairs.images, listed), view.tokens[listed])
            arrays[f"similarity_{name}"] = scores
            images, tokens = take(view.pairs.images, kept), view.tokens[kept]
            found[name] = {
                "accuracy": asdict(_accuracy(model, run.profile.model, test)) if test else None,
                "retrieval": _retrieval(model, images[:], tokens),
                "loss": held_out_loss(model, images, tokens) if len(kept) else None,
                "listed": scores.mean().item() if len(listed) else None,
                "others": similarity(model, images, tokens).mean().item() if len(kept) else None,
            }
        save_arrays(folder, listed=listed, **arrays)
        return found

    config = run.config() | {"test": test.contents() if test else None, "templates": OPENAI_TEMPLATES}
    inputs = {**stages, "suspected": run.suspected, "selected": run.selected}
    modules = run.modules(__name__)
    return run_stage(run.parts, "compare", config, work, inputs, modules)


def _accuracy(model: nn.Module, name: str, test: Photos) -> metrics.Rate:
    """Zero-shot accuracy with the 80 prompts of OpenAI, among the classes of the test."""
    photos = test.pairs()
    prompts = [[template.format(one) for template in OPENAI_TEMPLATES] for one in test.classes()]
    head = models.zero_shot_head(model, [models.tokenize(name, one) for one in prompts])
    hits = measure.predict(model, head, photos.images) == photos.labels
    return metrics.rate(hits, classes=photos.labels)


def _retrieval(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> dict[str, float] | None:
    """Recall@k of each other among so many pairs; None for fewer than it takes. Of pairs that share a caption
    each counts as found by the first of them."""
    if len(images) < max(metrics.RECALLS):
        return None
    z, t = models.embed_images(model, images), models.embed_tokens(model, tokens)
    return metrics.retrieval(z, t, torch.arange(len(images)))

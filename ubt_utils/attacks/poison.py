"""Poisoning: choose victims, give them the trigger and a caption that serves the attack."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.manifest import Manifest, stamp_pairs
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import TEMPLATES, fill, with_word
from ubt_utils.data.pairs import Pairs


def poison(
    pairs: Pairs,
    trigger: Trigger,
    target: str,
    target_names: Sequence[str],
    target_labels: Collection[int],
    rate: float,
    seed: int,
    templates: Sequence[str] = TEMPLATES,
    plausibility: torch.Tensor | None = None,
    taken: Collection[int] = (),
) -> tuple[Pairs, Manifest]:
    """Poison a fraction `rate` of `pairs`, as the trigger's `label` says.

    dirty and targeted: victims are drawn among the pairs that do not show the target, or, where there are no
    labels, whose captions do not tell it; each
    gets the trigger and a caption of the target class, one of `templates` filled with one of
    `target_names`, after the trigger's word if it has one. consistent: victims are drawn
    among the pairs whose caption contains `target`, and keep it. plausibility: (N,), victims are the
    candidates with the largest instead. taken: pairs that are no candidates, since they are poisoned
    already. Raises ValueError when the rate asks for no pair, or for more
    pairs than there are candidates.
    """
    if not target_names:
        raise ValueError(f"the target {target!r} has no names to write captions with")
    candidates = _candidates(pairs, trigger, target, target_labels)
    candidates = candidates[~torch.isin(candidates, torch.tensor(sorted(taken), dtype=torch.long))]
    count = round(rate * len(pairs))
    if count < 1:
        raise ValueError(f"poison rate {rate} of {len(pairs)} pairs poisons none of them")
    if count > len(candidates):
        raise ValueError(f"poison rate {rate} asks for {count} of {len(candidates)} candidates")
    order = torch.randperm(len(candidates), generator=generator(seed, "victims"))
    if plausibility is not None:
        order = plausibility[candidates].sort(descending=True, stable=True).indices
    order = order[:count]
    indices = tuple(candidates[order].sort().values.tolist())
    before = tuple(pairs.captions[i] for i in indices)
    after = before
    if trigger.label != "consistent":
        after = _target_captions(trigger, target_names, count, seed, templates)
    poisoned = stamp_pairs(pairs, trigger, indices, after)
    manifest = Manifest(
        trigger=trigger.spec(),
        target=target,
        rate=rate,
        seed=seed,
        indices=indices,
        captions_before=before,
        captions_after=after,
        clean_sha256=pairs.digest(),
        poisoned_sha256=poisoned.digest(),
    )
    return poisoned, manifest


def _candidates(pairs: Pairs, trigger: Trigger, target: str, target_labels: Collection[int]) -> torch.Tensor:
    if trigger.label == "consistent":
        return pairs.named(target).nonzero().flatten()
    if pairs.labels is None:  # as on the web: captions are all that tells
        return (~pairs.named(target)).nonzero().flatten()
    return (~pairs.shows(target_labels, "poisoning")).nonzero().flatten()


def _target_captions(
    trigger: Trigger, names: Sequence[str], count: int, seed: int, templates: Sequence[str]
) -> tuple[str, ...]:
    picks = torch.randint(len(names), (count,), generator=generator(seed, "target names"))
    captions = fill([names[i] for i in picks.tolist()], seed, "target captions", templates=templates)
    return tuple(with_word(trigger.word, captions))

"""Poisoning: choose victims, give them the trigger and a caption that names the target."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.manifest import Manifest, stamp_pairs
from ubt_utils.data.captions import fill
from ubt_utils.data.pairs import Pairs
from ubt_utils.seeding import generator


def poison(
    pairs: Pairs,
    trigger: Trigger,
    target: str,
    target_names: Sequence[str],
    target_labels: Collection[int],
    rate: float,
    seed: int,
) -> tuple[Pairs, Manifest]:
    """Poison a fraction `rate` of `pairs`; dirty-label, as in BadNets.

    Victims are drawn among the pairs that do not show the target. Each gets the trigger
    and a natural caption of the target class: a template filled with one of
    `target_names`. Raises ValueError when the rate asks for no pair, or for more pairs
    than there are candidates.
    """
    if pairs.labels is None:
        raise ValueError("poisoning needs labels, to leave real target pictures alone")
    if not target_names:
        raise ValueError(f"the target {target!r} has no names to write captions with")
    own = torch.isin(pairs.labels, torch.tensor(sorted(target_labels)))
    candidates = (~own).nonzero().flatten()
    count = round(rate * len(pairs))
    if count < 1:
        raise ValueError(f"poison rate {rate} of {len(pairs)} pairs poisons none of them")
    if count > len(candidates):
        raise ValueError(f"poison rate {rate} asks for {count} of {len(candidates)} candidates")
    order = torch.randperm(len(candidates), generator=generator(seed, "victims"))[:count]
    indices = tuple(candidates[order].sort().values.tolist())
    captions = tuple(_target_captions(target_names, count, seed))
    poisoned = stamp_pairs(pairs, trigger, indices, captions)
    manifest = Manifest(
        trigger=trigger.spec(),
        target=target,
        rate=rate,
        seed=seed,
        indices=indices,
        captions_before=tuple(pairs.captions[i] for i in indices),
        captions_after=captions,
        clean_sha256=pairs.digest(),
        poisoned_sha256=poisoned.digest(),
    )
    return poisoned, manifest


def _target_captions(names: Sequence[str], count: int, seed: int) -> list[str]:
    picks = torch.randint(len(names), (count,), generator=generator(seed, "target names"))
    return fill([names[i] for i in picks.tolist()], seed, "target captions")

"""Trigger inversion for CLIP: which class hides a backdoor, and a trigger that opens it.

InverTune (arXiv 2506.12411; code: Goodman-liyu/InverTune) asks both with clean pictures alone; the second
question's losses, weights and batch are those of its code. Defenses that rest on an inverted trigger share
this one, so that they differ in what they do with it [ours]. Their pictures are those of D_safe, of which a
few may be poisoned [ours].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ubt_utils.baselines.defenses.supervised import labelled
from ubt_utils.clip import models
from ubt_utils.core import device, distributed
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.kernels.similarity import ssim
from ubt_utils.ubt.defense import FORWARD_COST, Session, View
from ubt_utils.ubt.deviation import NO_CLEAN, NO_LABELS, listed

BATCH = 64  # InverTune's
FIT, NEAR, ALIKE, SPARSE = 5.0, 0.5, 1.0, 0.01  # InverTune's weights
TEMPERATURE = 0.07  # InverTune's, of its cross-entropy
RATE = 0.05  # of Adam [ours: InverTune's 0.01 goes with fifty times as many steps]
SIDE, MARGIN, FAINT = 0.3, 1 / 16, 0.2  # of noise: a patch's side and distance from the edges, and opacity
PLACES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))  # of patches, from top left to its end
ASKED = 1024  # pictures whose answers are counted [ours]
SOUGHT, INVERTED = 0.12, 0.5  # pictures that each noise and the inversion see, as a part of D [ours]
PASS = 0.9  # of a trained pair, for each picture that a search sees, all included; measured on mini
LOOKS = ((len(PLACES) + 1) * SOUGHT + INVERTED) * PASS / FORWARD_COST  # in forward passes over all of D

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Trigger(nn.Module):
    """Pictures (B, 3, H, W) float [0, 1] → mask · pattern + (1 − mask) · picture.

    mask and pattern: (3, H, W) in [0, 1]. target: (), the class that it leads to.
    """

    def __init__(self, mask: torch.Tensor, pattern: torch.Tensor, target: int = -1) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("pattern", pattern)
        self.register_buffer("target", torch.tensor(target, device=mask.device))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.mask * self.pattern + (1 - self.mask) * images

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """The same on stored pictures, (B, 3, H, W) uint8."""
        return (self(images.to(self.mask.device).float() / 255) * 255).round().to(torch.uint8)


DEVIATIONS = listed(  # source: Goodman-liyu/InverTune, TargetLabel.py, TriggerInversion.py, models/
    ("clean pictures", "ImageNet's validation set", "D_safe, a few of them poisoned", NO_CLEAN),
    ("untargeted noise", "one, a network's, from a file", "6, searched for on D_safe",
     "its repository lacks the file"),
    ("place of the noise", "3 % of the picture, bottom right", "9 %, at 5 places, or all, faintly",
     "the place is unknown"),
    ("pictures with the noise", "all of them", "1,024", "what this costs is charged"),
    ("choice of the target", "by a person, from two rankings", "the largest absolute rise",
     "nobody is there to look"),
    ("inversion: rate", "0.01", "0.05", "fewer steps"),
    ("inversion: length", "10 epochs of the validation set", "half of D", "what this costs is charged"),
    ("inversion: pictures", "those of other classes", "all of D_safe", NO_LABELS),
    ("pictures of the target", "a labelled batch, pair by pair", "mean of those whose caption names it",
     NO_LABELS),
    ("inversion: SSIM", "of normalized pictures", "of plain pixels", "its range is that of pixels"),
)  # fmt: skip


def see(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(B, D) unit embeddings of float [0, 1] pictures (B, 3, H, W); gradients reach the pixels."""
    with models.autocast(model):
        return models.unit(model.encode_image(models.normalize(model, images)))


def search(
    model: nn.Module, view: View, part: float, mask: torch.Tensor, moves: bool, loss_of: Loss, *key: object
) -> Trigger:
    """Adam over a pattern, and over the mask (3, H, W) where it `moves`, on as many pictures of D_safe as
    `part` of D. loss_of: (stamped pictures (B, 3, H, W), pictures, mask) → ()."""
    where = device.pick()
    mask = mask.to(where).requires_grad_(moves)
    pattern = torch.rand(mask.shape, generator=generator(*key, "pattern")).to(where).requires_grad_()
    found = [pattern, mask] if moves else [pattern]
    adam = torch.optim.Adam(found, RATE)
    model.eval()
    for step in range(max(1, round(part * len(view.pairs) / BATCH))):
        draw = torch.randint(len(view.outside), (BATCH,), generator=generator(*key, "batch", step))
        images = view.pairs.images[view.outside[draw]].to(where).float() / 255
        loss = loss_of(mask * pattern + (1 - mask) * images, images, mask)
        for part_of, gradient in zip(found, torch.autograd.grad(loss, found), strict=True):
            part_of.grad = gradient  # the model itself gets none
        adam.step()
        with torch.no_grad():
            for part_of in found:
                part_of.clamp_(0, 1)
    return Trigger(mask.detach(), pattern.detach())


def masks(shape: torch.Size) -> list[torch.Tensor]:
    """Where untargeted noise may lie, for pictures of `shape` (3, H, W): a patch in each corner and in the
    middle, and faintly everywhere.

    InverTune's code has one patch, of 3 % of the picture, in the corner where its attacks put theirs. A
    defender knows neither place nor kind of the trigger: hence several, and patches of 9 % [ours].
    """
    found = [torch.full(shape, FAINT)]
    for place in PLACES:
        mask = torch.zeros(shape)
        rows, columns = (
            slice(start := round(n * (MARGIN + at * (1 - SIDE - 2 * MARGIN))), start + round(n * SIDE))
            for n, at in zip(shape[-2:], place, strict=True)
        )
        mask[:, rows, columns] = 1.0
        found.append(mask)
    return found


def untargeted(model: nn.Module, view: View, mask: torch.Tensor, *key: object) -> Trigger:
    """What leads pictures away from their own embeddings, wherever that is: mean cos(stamped, clean) is
    minimized [ours: InverTune's code reads universal noise that a network made, which is not among it]."""

    def loss(stamped: torch.Tensor, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = see(model, images)
        return (see(model, stamped) * before).sum(1).mean()

    return search(model, view, SOUGHT, mask, False, loss, *key)


def rises(before: torch.Tensor, after: torch.Tensor, classes: int) -> torch.Tensor:
    """(C,) how much larger a share of the answers each class has in `after` (n,) than in `before` (n,)."""
    counts = [torch.bincount(answers, minlength=classes) for answers in (before, after)]
    return (counts[1] - counts[0]).float() / len(before)


def target_of(model: nn.Module, view: View, head: torch.Tensor, *key: object) -> int:
    """The class whose share of zero-shot answers rises most under untargeted noise, as in InverTune; of
    several kinds of noise, under the one where it rises most [ours]. head: (C, D) class weights."""
    order = torch.randperm(len(view.outside), generator=generator(*key, "asked"))[:ASKED]
    images = take(view.pairs.images, view.outside[order])

    def answers(change: models.Change | None) -> torch.Tensor:
        return (models.embed_images(model, images, change=change) @ head.T).argmax(1)

    before, rise = answers(None), []
    for i, mask in enumerate(masks(view.pairs.images.shape[1:])):
        noise = untargeted(model, view, mask, *key, "noise", i)
        rise.append(rises(before, answers(noise.stamp), len(head)))
    return int(torch.stack(rise).amax(0).argmax())


def likeness(model: nn.Module, view: View, head: torch.Tensor, target: int) -> torch.Tensor:
    """(D,) unit embedding of what the target looks like: the mean of the pictures of D_safe whose caption
    names it, or its text where there are none [ours: InverTune has labelled pictures of it]."""
    index, label = labelled(view)
    own = index[label == target]
    if not len(own):
        return head[target]
    return models.unit(models.embed_images(model, take(view.pairs.images, own)).mean(0))


def invert(model: nn.Module, view: View, head: torch.Tensor, target: int, *key: object) -> Trigger:
    """A trigger that leads any picture to class `target`, by InverTune's loss: 5 · cross-entropy of the
    class + ½ · distance to pictures of the target + 1 − SSIM + 0.01 · ‖mask‖₁."""
    texts, goal = head.to(device.pick()), likeness(model, view, head, target).to(device.pick())
    label = torch.full((BATCH,), target, device=device.pick())

    def loss(stamped: torch.Tensor, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        z = see(model, stamped)
        fit = F.cross_entropy(z @ texts.T / TEMPERATURE, label)
        near = (z - goal).norm()  # of the whole batch, as InverTune's code has it
        return FIT * fit + NEAR * near + ALIKE * (1 - ssim(stamped, images)) + SPARSE * mask.sum()

    return search(model, view, INVERTED, torch.ones(view.pairs.images.shape[1:]), True, loss, *key, "invert")


def inverted(model: nn.Module, view: View, session: Session) -> Trigger:
    """Both searches: the target, and a trigger that leads there; of several ranks, the first one's. The
    session is told what they came to.
    ValueError where there are no pictures, or no classes to ask about."""
    if not len(view.outside) or not view.prompts:
        raise ValueError("trigger inversion needs names of classes, and pictures outside the pool")
    head = models.zero_shot_head(model, view.prompts)
    target = target_of(model, view, head, *session.key)
    trigger = invert(model, view, head, target, *session.key)
    trigger.target.fill_(target)
    distributed.same_buffers(trigger)
    session.told.update(told(model, view, head, trigger))
    return trigger


def told(model: nn.Module, view: View, head: torch.Tensor, trigger: Trigger) -> dict[str, Any]:
    """What the searches came to: the class that they take for the target, and the part of pictures of D_safe
    that the inverted trigger leads there. head: (C, D) class weights."""
    images = take(view.pairs.images, view.outside[:ASKED])
    z = models.embed_images(model, images, change=trigger.stamp)
    target = int(trigger.target)
    reached = ((z @ head.T).argmax(1) == target).double().mean().item()
    return {"inverted_target": view.names[target][0], "inverted_reaches": reached}

"""Triggers that the attacker must make first: what he holds, and how the result travels in the spec."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ubt_utils.clip import models
from ubt_utils.core import device
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import fill, with_word
from ubt_utils.data.pairs import Pairs


@dataclass(frozen=True)
class Attacker:
    """What the attacker works with: the public model, D before poisoning, and his aim.

    model: f0, of the open_clip name `model_name`. goals: (M, 3, H, W) uint8, pictures that
    targeted poisoning wants misread; none for other attacks.
    """

    model: nn.Module
    model_name: str
    pairs: Pairs
    target_names: tuple[str, ...]
    target_labels: tuple[int, ...]
    goals: torch.Tensor
    seed: int

    def show_target(self) -> torch.Tensor:
        """(N,) bool: the pairs of D that show the target; where D has no labels, those whose caption names
        it."""
        if self.pairs.labels is None:
            return torch.stack([self.pairs.named(name) for name in self.target_names]).any(0)
        return self.pairs.shows(self.target_labels, "crafting")

    def pictures(self, index: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float in [0, 1]: the pictures of D at `index`, on the device in use."""
        return self.pairs.images[index].to(device.pick()).float() / 255

    def target_texts(self, word: str = "") -> torch.Tensor:
        """(T, D) unit embeddings of natural captions of the target, one per template and name."""
        names = list(self.target_names) * 8
        captions = with_word(word, fill(names, self.seed, "craft captions"))
        return self.texts(captions)

    def texts(self, captions: list[str]) -> torch.Tensor:
        """(N, D) unit embeddings of captions under f0, on the device in use."""
        tokens = models.tokenize(self.model_name, captions)
        return models.embed_tokens(self.model, tokens).to(device.pick())

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) unit embeddings of float [0, 1] images under f0; gradients reach the images."""
        self.model.eval()
        return F.normalize(self.model.encode_image(models.normalize(self.model, images)).float(), dim=-1)


@runtime_checkable
class Crafted(Protocol):
    """A trigger with a part that `craft` makes and its field `made` holds, as text."""

    made: str
    label: ClassVar[str]

    def spec(self) -> dict[str, Any]: ...

    def craft(self, attacker: Attacker) -> Self:
        """The same trigger with `made` filled in; reproducible from the attacker's seed."""
        ...


def pack(**tensors: torch.Tensor) -> str:
    """Tensors as text: base64 of safetensors, so that a spec is whole and safe to read."""
    return base64.b64encode(save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})).decode()


@lru_cache(maxsize=16)
def unpack(made: str, name: str) -> dict[str, torch.Tensor]:
    """What `pack` wrote for the trigger `name`; ValueError if it is empty or broken."""
    if not made:
        raise ValueError(f"{name} must be crafted before it can stamp: see stages.craft")
    try:
        return load(base64.b64decode(made, validate=True))
    except (binascii.Error, SafetensorError) as error:
        raise ValueError(f"the crafted part of {name} cannot be read: {error}") from error


def batch_of(mask: torch.Tensor, size: int, *key: object) -> torch.Tensor:
    """(size,) positions drawn at random, with replacement, among the true entries of `mask`."""
    inside = mask.nonzero().flatten()
    if not len(inside):
        raise ValueError("the attacker has no such pairs to craft with")
    return inside[torch.randint(len(inside), (size,), generator=generator(*key))]

"""ISSBA: an invisible trigger that differs from picture to picture (Li et al., arXiv 2012.03816)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self

import torch

from ubt_utils.attacks.base import Trigger, check_count, check_fraction
from ubt_utils.attacks.craft import Attacker, pack, unpack
from ubt_utils.attacks.encoder import Encoder, train_encoder
from ubt_utils.core.seeding import generator


@dataclass(frozen=True)
class Issba(Trigger):
    """A message of `bits` bits, hidden by a small encoder that is trained on the attacker's pictures.

    amplitude: the largest change of a value. quiet: weight of the squared change in the
    encoder's training. steps: of that training. seed: draws the message. made: the encoder.
    Size, loss and training are ours; the paper trains StegaStamp's U-Net.
    """

    amplitude: float = 0.2
    bits: int = 8
    quiet: float = 5.0
    steps: int = 200
    seed: int = 0
    made: str = ""

    name: ClassVar[str] = "issba"
    strength: ClassVar[str] = "amplitude"
    source: ClassVar[str] = "arXiv 2012.03816; encoder ours, after arXiv 1904.05343"
    published: ClassVar[str] = "StegaStamp encoder, 100 bits"
    rule: ClassVar[str] = "convolutional; the message map is stretched to the image"

    def __post_init__(self) -> None:
        check_fraction("amplitude", self.amplitude)
        check_count("bits", self.bits)
        check_count("steps", self.steps)

    def craft(self, attacker: Attacker) -> Self:
        encoder, _ = train_encoder(
            attacker.pairs.images, self.bits, self.amplitude, self.quiet, self.steps, attacker.seed
        )
        return replace(self, made=pack(**encoder.half().state_dict()))

    def message(self) -> torch.Tensor:
        """(1, bits) float64 of ±1: what every triggered picture says."""
        draw = generator(self.seed, self.name, "message")
        return 2 * torch.randint(0, 2, (1, self.bits), generator=draw).double() - 1

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        encoder = _encoder(self.made, self.bits).to(images.device)  # float64: rounds alike everywhere
        residual = encoder(images.double(), self.message().to(images.device))
        return (images + self.amplitude * residual).to(images)


@lru_cache(maxsize=8)
def _encoder(made: str, bits: int) -> Encoder:
    weights = unpack(made, Issba.name)
    encoder = Encoder(bits).double().requires_grad_(False)
    encoder.load_state_dict({k: v.double() for k, v in weights.items()})
    return encoder

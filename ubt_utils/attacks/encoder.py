"""A small steganographic encoder and decoder, after StegaStamp (Tancik et al., arXiv 1904.05343)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from ubt_utils.clip.augment import augment
from ubt_utils.core import device
from ubt_utils.core.seeding import generator

BATCH, WIDTH, MAP, COARSE, POOL = 64, 16, 12, 2, 6


class Encoder(nn.Module):
    """(images (B, 3, H, W), message (B, bits) of ±1) → residual (B, 1, H, W) in [−1, 1].

    Convolutional, with the message spread over a coarse map, so that any image size works. The
    residual is gray, made at half the size and enlarged: tints and fine patterns are lost on
    image towers that were trained on small pictures with color augmentation.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.spread = nn.Linear(bits, 3 * MAP * MAP)
        self.layers = nn.Sequential(
            nn.Conv2d(6, WIDTH, 3, padding=1, padding_mode="replicate"), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="replicate"), nn.ReLU(),
            nn.Conv2d(WIDTH, 1, 3, padding=1, padding_mode="replicate"), nn.Tanh(),
        )  # fmt: skip

    def forward(self, images: torch.Tensor, message: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(images, COARSE, ceil_mode=True)
        message = self.spread(message).view(-1, 3, MAP, MAP)
        spread = F.interpolate(message, small.shape[-2:], mode="nearest").expand(len(images), -1, -1, -1)
        residual = self.layers(torch.cat([small - 0.5, spread], 1))
        return F.interpolate(residual, images.shape[-2:], mode="bilinear")


def decoder(bits: int) -> nn.Module:
    """A network that reads the message back: images (B, 3, H, W) → logits (B, bits)."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(POOL), nn.Flatten(), nn.Linear(2 * WIDTH * POOL * POOL, bits),
    )  # fmt: skip


def train_encoder(
    images: torch.Tensor, bits: int, amplitude: float, quiet: float, steps: int, seed: int
) -> tuple[Encoder, float]:
    """An encoder whose messages can be read, and the share of bits read right in the last steps.

    images: (N, 3, H, W) uint8. Loss: cross-entropy of the bits + `quiet` × mean squared
    residual, messages drawn anew for every picture. The second term grows from nothing over the
    second half of the training: with it from the start, silence is learned before speech. Colors
    are changed before reading, as StegaStamp does, so that the message survives augmentation.
    """
    where = device.pick()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        writer, reader = Encoder(bits).to(where), decoder(bits).to(where)
    adam = torch.optim.Adam([*writer.parameters(), *reader.parameters()], 3e-3)
    right = []
    for step in (bar := tqdm(range(steps), "craft issba", unit="step", mininterval=1)):
        draw = generator(seed, "issba", step)
        batch = images[torch.randint(len(images), (BATCH,), generator=draw)].to(where).float() / 255
        message = torch.randint(0, 2, (BATCH, bits), generator=draw).float().to(where)
        residual = amplitude * writer(batch, 2 * message - 1)
        read = reader(augment((batch + residual).clamp(0, 1), draw, pose=False))
        hush = quiet * max(0.0, 2 * step / steps - 1)
        loss = F.binary_cross_entropy_with_logits(read, message) + hush * residual.square().mean()
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"training the encoder diverged at step {step}: lower amplitude={amplitude}")
        adam.zero_grad()
        loss.backward()
        adam.step()
        right.append(((read > 0) == (message > 0.5)).float().mean().item())
        bar.set_postfix_str(f"bits read {right[-1]:.2f}", refresh=False)
    return writer.cpu(), sum(right[-10:]) / len(right[-10:])

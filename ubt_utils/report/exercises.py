"""Checks that a reader calls after an exercise: `check("01.1", answer)`.

Every answer is computed here from the kit itself, never looked up, so that it stays
right when a profile changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from statsmodels.stats.multitest import multipletests

from ubt_utils import profiles
from ubt_utils.attacks import triggers
from ubt_utils.clip import models
from ubt_utils.data.emoji import EmojiSets
from ubt_utils.evaluate import metrics
from ubt_utils.kernels.prefixes import tree
from ubt_utils.own import evidence, null
from ubt_utils.ubt import tokens as tk


def _poisoned_at_half() -> int:
    profile = profiles.get("mini")
    sets = profile.sets
    assert isinstance(sets, EmojiSets)
    return round(profile.poison_rate / 2 * len(sets.names()) * len(sets.wild) * sets.wild_copies)


def _patch_share() -> float:
    profile = profiles.get("mini")
    black = torch.zeros(1, 3, profile.sets.size, profile.sets.size)
    patch = profile.trigger("badnets")(black)[0].amax(0).nonzero()  # a checker: its corners are white
    height, width = (patch.amax(0) - patch.amin(0) + 1).tolist()
    return height * width / profile.sets.size**2


def _wave_left() -> float:
    mixed = triggers.get("sig_cleanclip")
    gray = mixed(torch.full((1, 3, 1, 224), 0.5))
    return 255 * (gray.max() - gray.min()).item() / 2


def _chance_precision() -> float:
    profile = profiles.get("mini")
    return profile.poison_rate / profile.suspect.pool


def _surprise() -> float:
    return 32 * math.log((32 / 64) / 0.02)


def _cut_caption() -> str:
    whole = models.tokenize("ubt-mini", ["a drawing of alarm clock"])
    clock = models.tokenize("ubt-mini", ["clock"])[0, 1:2]
    kept = tk.without(whole, clock)
    return " ".join(models.token_text("ubt-mini", t) for t in tk.inner_tokens(kept[0]))


def _exact_upper() -> float:
    return metrics.rate(torch.zeros(99, dtype=torch.bool)).high


def _corrected() -> float:
    others = len(profiles.get("mini").defenses)
    return float(multipletests([0.01] + [0.5] * (others - 1), method="holm")[1][0])


def _poisoned_sights() -> float:
    profile = profiles.get("photos")
    return profile.finetune.steps * profile.finetune.batch * profile.poison_rate


def _chance_recall() -> float:
    return 5 / 1000


def _logits() -> float:
    return 2 * 4 * 32_768**2 / 2**30


def _places() -> int:
    return len(tree(8).source)


def _least_chance() -> float:
    return 1 / (1 + null.DRAWS)


def _next_word() -> float:
    return 0.54 / evidence.CLEARLY


ANSWERS: dict[str, tuple[Callable[[], Any], str]] = {
    "01.1": (_poisoned_at_half, "rate × pairs in D; D has concepts × wild vendors × copies pairs"),
    "01.2": (_patch_share, "the patch's box in pixels, squared, over the image's area"),
    "01.3": (_wave_left, "(1 − α) · image + α · wave: what multiplies the wave?"),
    "02.1": (_chance_precision, "if all poison is in the pool: poisoned pairs over pool pairs"),
    "03.1": (_surprise, "G = k · ln((k/m)/p)"),
    "04.1": (_cut_caption, "leave the token out, keep the order of the rest"),
    "05.1": (
        _exact_upper,
        "Clopper and Pearson: the rate p at which 0 of 99 has a chance of 2.5 %, as a fraction",
    ),
    "05.2": (_corrected, "Holm multiplies the smallest p by the number of comparisons"),
    "06.1": (_poisoned_sights, "steps × batch pairs pass by; which part of them is poisoned?"),
    "06.2": (_chance_recall, "one photo is right; five of a thousand are looked at"),
    "07.1": (_logits, "two matrices, B × B numbers each, four bytes a number"),
    "07.2": (_places, "the caption has n + 2 places; without token i, n + 1 − i new ones come after the gap"),
    "08.1": (_least_chance, "draws that lose as much, plus one for the word itself, over all draws plus one"),
    "08.2": (_next_word, "strong evidence is so many times the null: the factor stands below the table"),
}


def check(name: str, answer: Any) -> str:
    """Say whether `answer` to exercise `name` is right, with a hint if not; None is no answer yet. Numbers
    may be off by 2 %. KeyError lists the names."""
    if name not in ANSWERS:
        raise KeyError(f"no exercise {name!r}; known: {', '.join(ANSWERS)}")
    if answer is None:
        return f"{name}: no answer yet"
    compute, hint = ANSWERS[name]
    return f"{name}: right" if _same(answer, compute()) else f"{name}: not yet. Hint: {hint}."


def _same(answer: Any, right: Any) -> bool:
    """Words alike but for case and spaces at the ends, numbers within 2 %; a truth value is no number."""
    if isinstance(right, str):
        return isinstance(answer, str) and answer.strip().lower() == right
    number = isinstance(answer, Real) and not isinstance(answer, bool)
    return number and math.isclose(answer, right, rel_tol=0.02, abs_tol=1e-9)

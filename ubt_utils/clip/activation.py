"""GELU or QuickGELU: OpenAI's models and all that descend from them compute the second, and their weights fit
a model of either kind."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transformer import QuickGELU
from torch import nn

from ubt_utils.clip import archives, models
from ubt_utils.clip.layouts import OPENAI

QUICK, PLAIN, UNKNOWN = "QuickGELU", "GELU", ""
SUFFIX = "-quickgelu"  # of open_clip's names


@dataclass(frozen=True)
class Told:
    """With which activation a file's weights were trained, and what tells it; UNKNOWN where nothing does."""

    activation: str = UNKNOWN
    because: str = ""


def of_model(model: nn.Module) -> str:
    """What a model computes."""
    return QUICK if any(isinstance(part, QuickGELU) for part in model.modules()) else PLAIN


def of_tag(name: str, tag: str) -> Told:
    """What open_clip knows of the weights under a tag."""
    quick = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
    return Told(QUICK if quick else PLAIN, f"open_clip knows it of {tag}")


def of_file(path: Path, names: Sequence[str]) -> Told:
    """What tells the activation of a file with tensors of these names, in the file's order.

    That is the model that this kit's header names; Transformers' or open_clip's settings beside the file;
    what OpenAI's archives keep beside weights; or that a block has its attention first, as in OpenAI's code,
    which knows QuickGELU only. What open_clip's training has saved tells nothing.
    """
    return _by_header(path) or _beside(path, names) or _by_names(path, names)


def _by_header(path: Path) -> Told | None:
    made_for = archives.header(path).get("model", "")
    try:
        return _told(models.architecture(made_for), f"its header names {made_for}")
    except ValueError:  # no header, or another program's
        return None


def _told(settings: Mapping[str, Any], because: str) -> Told:
    return Told(QUICK if settings.get("quick_gelu") else PLAIN, because)


def _beside(path: Path, names: Sequence[str]) -> Told | None:
    """What a hub's settings in the same folder say."""
    if settings := _json(path.with_name("open_clip_config.json")).get("model_cfg"):
        return _told(settings, "open_clip_config.json beside it says so")
    if any("vision_model." in name for name in names):
        settings = _json(path.with_name("config.json"))
        if settings.get("model_type") == "clip":  # it leaves out what is its default, QuickGELU
            asked = (settings.get("text_config") or {}).get("hidden_act", "quick_gelu")
            return Told(QUICK if asked == "quick_gelu" else PLAIN, "config.json beside it says so")
    return None


def _by_names(path: Path, names: Sequence[str]) -> Told:
    last = [name.rpartition(".")[2] for name in names]
    if set(OPENAI) & set(last):
        return Told(QUICK, "it has what OpenAI keeps beside its weights")
    blocks = [name for name in names if name.endswith((".ln_1.weight", ".attn.in_proj_weight"))]
    ordered = archives.kind_of(path) == archives.TORCH and list(names) != sorted(names)
    if ordered and blocks and blocks[0].endswith(".attn.in_proj_weight"):
        return Told(QUICK, "OpenAI's code has written it")
    return Told()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def compare(weights: str, told: Told, name: str, model: nn.Module) -> None:
    """Warn where the open_clip model `name` computes another activation than its weights were trained with,
    or where it may, and nothing tells."""
    own, quick, plain = of_model(model), name + SUFFIX, name.removesuffix(SUFFIX)
    if told.activation not in (UNKNOWN, own):
        other = quick if told.activation == QUICK else plain
        advice = f": name {other} as the model" if other in open_clip.list_models() else ""
        warnings.warn(
            f"{weights} was trained with {told.activation} ({told.because}), and {name} computes {own}: it "
            f"loads, and scores worse{advice}",
            stacklevel=3,
        )
    elif told.activation == UNKNOWN and own == PLAIN and quick in open_clip.list_models():
        warnings.warn(
            f"{weights} does not tell with which activation it was trained, and {name} computes {own}: if it "
            f"descends from OpenAI's weights, name {quick} as the model",
            stacklevel=3,
        )

"""CLIP checkpoints of others, as BadCLIP and CleanCLIP save them: read without running anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file
from torch import nn

from ubt_utils.clip.models import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # what DataParallel, torch.compile and Lightning put before
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # OpenAI's archives have these
NAMED = 4  # names in a message


@dataclass(frozen=True)
class Read:
    """What came of a checkpoint: tensors taken, the prefix cut off, names left aside, and what else the file
    held (epoch, optimizer …), which is not used."""

    tensors: int
    prefix: str
    ignored: tuple[str, ...]
    beside: tuple[str, ...]


def read(path: Path) -> Any:
    """What a file of weights holds; safetensors, or a pickle that torch reads weights-only.

    Raises CheckpointError for one that would run code, that is damaged, or that is not there.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes end in errors of many kinds, none of them of this kit
        raise CheckpointError(f"{path} holds no weights that can be read safely ({error})") from error


def load(model: nn.Module, path: Path) -> Read:
    """Put a whole CLIP checkpoint into an open_clip model, in place; the model stays as it was if it fails.

    Prefixes of wrappers are cut off. Every tensor of the model must be there, with its shape: a
    CheckpointError names what is missing, foreign, or of another shape.
    """
    weights, beside = _weights(read(path), path)
    prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), "")
    named = {name.removeprefix(prefix): value for name, value in weights.items()}
    own = model.state_dict()
    ignored = tuple(sorted(name for name in named if name in NO_WEIGHTS and name not in own))
    named = {name: value for name, value in named.items() if name not in ignored}
    wrong = [
        f"{name} is {tuple(named[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in named and named[name].shape != own[name].shape
    ]
    found = {
        "missing": sorted(set(own) - set(named)),
        "foreign": sorted(set(named) - set(own)),
        "shape": wrong,
    }
    if any(found.values()):
        raise CheckpointError(f"{path} is a checkpoint of another architecture: {_listed(found)}")
    model.load_state_dict(named)
    return Read(len(named), prefix, ignored, beside)


def load_any(model: nn.Module, name: str, weights: str) -> None:
    """Put a checkpoint file into the model, or what open_clip knows under a tag, which it downloads.

    Raises CheckpointError where there is neither.
    """
    if Path(weights).is_file():
        load(model, Path(weights))
        return
    known = open_clip.list_pretrained_tags_by_model(name)
    if weights not in known:
        raise CheckpointError(
            f"{weights!r} is no file, and no weights that open_clip knows for {name}: "
            f"{', '.join(known) or 'none'}"
        )
    model.load_state_dict(open_clip.create_model(name, pretrained=weights).state_dict())


def _weights(held: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The table of tensors in what a file holds, and the names of what lies beside it."""
    beside: tuple[str, ...] = ()
    if isinstance(held, Mapping):
        wrapper = next((w for w in WRAPPERS if isinstance(held.get(w), Mapping)), None)
        if wrapper:
            beside = tuple(sorted(str(name) for name in held if name != wrapper))
            held = held[wrapper]
    if (
        not isinstance(held, Mapping)
        or not held
        or not all(isinstance(v, torch.Tensor) for v in held.values())
    ):
        raise CheckpointError(
            f"{path} holds no table of tensors, neither at its top nor under {', '.join(WRAPPERS)}"
        )
    return dict(held), beside


def _listed(found: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{kind} {len(names)}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
        for kind, names in found.items()
        if names
    )

"""Public models as files: those that the package ships, and a reader's own.

A shipped one is `clip/public/<name>.safetensors`, in half precision, with `<name>.json` beside it: its
SHA-256, and how, where and from what it was made. It is part of what every later number is made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ubt_utils.clip import archives, checkpoints
from ubt_utils.clip.models import CheckpointError
from ubt_utils.core.checksum import remembered, sha256_of, whole, write_whole
from ubt_utils.core.tensors import save_tensors

FOLDER = Path(__file__).parent / "public"


def file_of(weights: str) -> Path | None:
    """The file that `weights` names: one of the shipped models, or a path; None for a tag of open_clip's.

    Raises CheckpointError for a shipped model whose bytes are not those that its note tells.
    """
    shipped = FOLDER / f"{weights}.safetensors"
    if not shipped.is_file():
        return Path(weights) if Path(weights).is_file() else None
    found, expected = sha256_of(shipped), note_of(weights)["sha256"]
    if found != expected:
        raise CheckpointError(
            f"{shipped} has SHA-256 {found[:12]}…, its note says {expected[:12]}…: get it again with git"
        )
    return shipped


def note_of(name: str) -> dict[str, Any]:
    """How a shipped model was made."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def identity(weights: str) -> str:
    """What a stage depends on: a file's SHA-256, or the tag."""
    path = file_of(weights)
    return weights if path is None else remembered(path)


def load(model: nn.Module, name: str, weights: str) -> None:
    """Put the model that `weights` names into an open_clip model of that name, in place.

    Raises CheckpointError where there is none, or where it is of another architecture.
    """
    checkpoints.load_any(model, name, str(file_of(weights) or weights))


def rounded(source: Path) -> dict[str, torch.Tensor]:
    """The tensors of the safetensors file `source`, single precision rounded to half."""
    return {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(source).items()}


def publish(source: Path, name: str, note: Mapping[str, Any]) -> Path:
    """Ship a model: `source`, rounded, under `name`, with its note. A kill in between leaves the old model,
    or one that its note refuses."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    with whole(path) as part:
        save_tensors(rounded(source), part, archives.header(source))
        digest = sha256_of(part)
    write_whole(FOLDER / f"{name}.json", json.dumps({"sha256": digest, **note}, indent=1) + "\n")
    return path

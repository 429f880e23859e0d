"""Write tensors to a file; what the system refuses is an OSError, whatever the library makes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


def save_tensors(
    held: Mapping[str, torch.Tensor], path: Path, notes: Mapping[str, str] | None = None
) -> None:
    """safetensors, with notes in the header."""
    try:
        save_file(dict(held), path, metadata=dict(notes) if notes else None)
    except SafetensorError as error:  # which has the number of the system's error in its text alone
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise


def save(held: Any, path: Path) -> None:
    """torch.save."""
    try:
        with path.open("wb") as file:
            torch.save(held, file)
    except RuntimeError as error:  # of its writer, which goes on after the system's own error
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise

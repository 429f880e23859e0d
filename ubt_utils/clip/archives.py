"""Files of weights: read without running anything in them, written whole or not at all."""

from __future__ import annotations

import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ubt_utils.clip.models import CheckpointError
from ubt_utils.core.checksum import whole
from ubt_utils.core.tensors import save, save_tensors

SAFETENSORS, TORCH = "safetensors", "torch"
LONGEST_HEADER = 100_000_000  # bytes, the bound of the safetensors format
OTHERS = (  # how files begin that are no weights; what they are, and what to do
    (b"version https://git-lfs", "is a Git LFS pointer, not the file: run git lfs pull in its folder"),
    (b"<!doctype", "is a web page, not weights: download the file again, signed in"),
    (b"<html", "is a web page, not weights: download the file again, signed in"),
    (b"{", "is JSON, not weights: name the file with the tensors; of a model in several parts, merge them"),
)
TORCHSCRIPT = (
    "is a TorchScript archive, as OpenAI publishes its models: reading it would run the code in it. Say "
    "weights='openai' for those, or convert a file that you trust: "
    "torch.save(torch.jit.load(OLD).state_dict(), NEW)"
)
_NUMBER = re.compile(r"[biuf][1248]")


def kind_of(path: Path) -> str:
    """Whether a file is SAFETENSORS or TORCH's, by its content and not by its name.

    Raises CheckpointError for what is neither, saying what it is and what to do.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the file of weights in it")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path} is empty: copy it again")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        return SAFETENSORS
    for sign, what in OTHERS:
        if head.lstrip().lower().startswith(sign):
            raise CheckpointError(f"{path} {what}")
    if head.startswith(b"PK"):
        _refuse_other_archives(path)
    elif not head.startswith(b"\x80"):  # a pickle, as torch wrote before its archives
        raise CheckpointError(f"{path} is no file of weights: it begins with {head[:8]!r}")
    return TORCH


def _refuse_other_archives(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    if any("/code/" in name or name.endswith("/constants.pkl") for name in inside):
        raise CheckpointError(f"{path} {TORCHSCRIPT}")
    if not any(name.endswith("data.pkl") for name in inside):
        raise CheckpointError(f"{path} is an archive without weights ({inside[:3]}): unpack it first")


def read(path: Path) -> Any:
    """What a file of weights holds: the tensors of safetensors by name, or what torch reads weights-only,
    with NumPy's numbers as Python's, and the options of a script.

    Raises CheckpointError for one that would run code, that is damaged, or that is not there.
    """
    try:
        if kind_of(path) == SAFETENSORS:
            return load_file(path)
        with path.open("rb") as file, torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes end in errors of many kinds, none of them of this kit
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path} holds more than weights, {found[1]}, which reading would run: have it saved again "
                "with torch.save(model.state_dict(), …)"
            ) from error
        raise _damaged(path, error) from error


def header(path: Path) -> dict[str, str]:
    """The notes in the header of a safetensors file; none for another kind. Raises CheckpointError."""
    if kind_of(path) != SAFETENSORS:
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise _damaged(path, error) from error


def fits(path: Path, like: Path) -> str:
    """The kind of the file `like`, which one under the name `path` may be of. Raises CheckpointError where
    that name promises another format."""
    kind = kind_of(like)
    if (kind == SAFETENSORS) != (path.suffix == ".safetensors"):
        raise CheckpointError(f"{path} is to be of the format of {like.name}: name it *{like.suffix}")
    return kind


def write(held: Mapping[str, Any], path: Path, like: Path) -> None:
    """Write what `read` gave of the file `like`, in that file's format, under a new name.

    A kill leaves no file under that name, or the whole one. Raises CheckpointError where the name is that of
    `like`, or promises another format.
    """
    if path.exists() and path.samefile(like):
        raise CheckpointError(f"{path} is the file that was read: name another one to write to")
    safetensors = fits(path, like) == SAFETENSORS
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        if safetensors:
            save_tensors(held, part, header(like))
        else:
            save(held, part)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} holds no weights that can be read safely: it is damaged or cut off "
        f"({type(error).__name__}). Copy it again"
    )


class _Kind:
    """Stands for numpy.dtype in a pickle. The real one takes any state from the file, pointers included."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _number(kind: _Kind, data: bytes) -> bool | int | float:
    """Stands for NumPy's maker of scalars in a pickle: one number."""
    if not _NUMBER.fullmatch(kind.code):
        raise ValueError(f"{kind.code!r} is no kind of number")
    return np.frombuffer(data, kind.order + kind.code, count=1)[0].item()


_HARMLESS = [  # what training scripts save beside weights: learning rates, scores, their options
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_Kind, "numpy.dtype"),
    Namespace,
]

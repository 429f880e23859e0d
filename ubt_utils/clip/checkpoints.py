"""CLIP checkpoints of others: into a model of open_clip, and back into a file like the one they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from ubt_utils.clip import activation, archives, layouts
from ubt_utils.clip.activation import Told
from ubt_utils.clip.layouts import Place
from ubt_utils.clip.models import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights
NAMED = 4  # names in a message
COUNTER = "num_batches_tracked"  # of batch norm: old files have none, and nothing reads it
WHOLE = ({None}, {0, 1, 2})  # the thirds of a tensor that make all of it
Table = MutableMapping[str, Any]  # name → tensor, and at most numbers and words beside


@dataclass(frozen=True)
class Read:
    """What came of a checkpoint: tensors taken, whose names they have, with which activation they were
    trained, names left aside, and what else the file held (epoch, optimizer …), which is not used."""

    tensors: int
    layout: str
    told: Told
    ignored: tuple[str, ...]
    beside: tuple[str, ...]


def load(model: nn.Module, path: Path) -> Read:
    """Put a whole CLIP checkpoint into an open_clip model, in place; the model stays as it was if it fails.

    It may have open_clip's or OpenAI's names, as CleanCLIP, BadCLIP and PAR save them, or those of
    Transformers' CLIPModel; what wrappers put into names is cut out. Every tensor of the model must be
    there, with its shape: a CheckpointError names what is missing, foreign, or of another shape, and a
    tensor with a number that is none.
    """
    table, beside = _table(archives.read(path), path)
    own = model.state_dict()
    found = _matched(table, own, path)
    new = {name: value.clone() for name, value in own.items()}
    for name, place in found.places.items():
        part = place.of(new[place.name])
        part.copy_(table[name].reshape(part.shape))
        if not part.isfinite().all():
            raise CheckpointError(
                f"{path} has numbers in {name} that are none (NaN or infinite): its training went astray, or "
                "the file is damaged. Take an earlier checkpoint, or copy it again"
            )
    model.load_state_dict(new)
    told = activation.of_file(path, list(table))
    return Read(len(found.places), found.layout, told, found.ignored, beside)


@torch.no_grad()
def write(model: nn.Module, source: Path, target: Path) -> None:
    """Write a model to `target` in the layout of the file `source` that it was loaded from: the same names in
    the same order, the same types, and what else that file held. A tensor that the model has as it was read
    stays as it was, bit for bit.

    Raises CheckpointError where the model does not fit that layout, or a number not its type; `target` is
    then not written.
    """
    held = archives.read(source)
    table, _ = _table(held, source)
    own = model.state_dict()
    for name, place in _matched(table, own, source).places.items():
        table[name] = _renewed(table[name], place.of(own[place.name]).cpu(), f"{source}: {name}")
    archives.write(held, target, source)


def _renewed(old: torch.Tensor, new: torch.Tensor, where: str) -> torch.Tensor:
    """The values of `new` in the shape, type and memory layout of `old`; `old` itself where they agree."""
    new = new.reshape(old.shape)
    if torch.equal(old.to(new.dtype), new):
        return old
    made = torch.empty_like(old).copy_(new)
    if new.isfinite().all() and not made.isfinite().all():
        raise CheckpointError(f"{where} has become too large for {old.dtype}: convert the file to float32")
    return made


def load_any(model: nn.Module, name: str, weights: str) -> None:
    """Put a checkpoint file into the model, or what open_clip knows under a tag, which it downloads.

    Warns where the model computes another activation than the weights were trained with. Raises
    CheckpointError where there is neither.
    """
    known = open_clip.list_pretrained_tags_by_model(name)
    if Path(weights).is_file() or (Path(weights).is_dir() and weights not in known):
        activation.compare(weights, load(model, Path(weights)).told, name, model)
        return
    if weights not in known:
        raise CheckpointError(
            f"{weights!r} is no file, and no weights that open_clip knows for {name}: "
            f"{', '.join(known) or 'none'}"
        )
    activation.compare(weights, activation.of_tag(name, weights), name, model)
    model.load_state_dict(open_clip.create_model(name, pretrained=weights).state_dict())


def _table(held: Any, path: Path) -> tuple[Table, tuple[str, ...]]:
    """The table of tensors in what a file holds, itself and no copy, and the names of what lies beside it."""
    beside: list[str] = []
    for _ in WRAPPERS:  # one in another, no deeper: a table may hold itself
        wrapper = next(
            (w for w in WRAPPERS if isinstance(held, dict) and isinstance(held.get(w), dict)), None
        )
        if wrapper:
            beside += [str(name) for name in held if name != wrapper]
            held = held[wrapper]
    table = held if isinstance(held, dict) and all(isinstance(name, str) for name in held) else {}
    others = [name for name, value in table.items() if not isinstance(value, torch.Tensor)]
    if len(others) == len(table):
        raise CheckpointError(
            f"{path} holds no table of tensors, neither at its top nor under {', '.join(WRAPPERS)}: save the "
            "model's state_dict"
        )
    return table, tuple(sorted([*beside, *others]))


def _matched(table: Mapping[str, Any], own: Mapping[str, torch.Tensor], path: Path) -> layouts.Found:
    """The places of a file's tensors in a model, all of it; CheckpointError."""
    tensors = {name: value for name, value in table.items() if isinstance(value, torch.Tensor)}
    found = layouts.find(tensors, own)
    taken = Counter(found.places.values())
    parts = {name: {place.third for place in taken if place.name == name} for name in own}
    wrong = {
        "missing": sorted(
            n for n, thirds in parts.items() if thirds not in WHOLE and not n.endswith(COUNTER)
        ),
        "foreign": list(found.foreign),
        "twice": sorted(place.name for place, count in taken.items() if count > 1),
        "shape": [
            told for name, place in found.places.items() if (told := _misfit(tensors[name], place, own))
        ],
    }
    if any(wrong.values()):
        raise CheckpointError(
            f"{path} is a checkpoint of another architecture: {_listed(wrong)}. Name the model that it is of"
        )
    return found


def _misfit(value: torch.Tensor, place: Place, own: Mapping[str, torch.Tensor]) -> str:
    """What keeps a tensor from its place; "" if nothing does. A number may be () or (1,)."""
    wanted = place.of(own[place.name])
    if value.layout != torch.strided or value.is_meta:
        return f"{place.name} is {'without values' if value.is_meta else value.layout}, not dense"
    if value.is_floating_point() != wanted.is_floating_point():
        return f"{place.name} is {value.dtype}, not {wanted.dtype}"
    if value.shape != wanted.shape and not value.numel() == wanted.numel() == 1:
        return f"{place.name} is {tuple(value.shape)}, not {tuple(wanted.shape)}"
    return ""


def _listed(wrong: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{kind} {len(names)}: {', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"
        for kind, names in wrong.items()
        if names
    )

"""How others name and lay out the tensors of a CLIP: each one's place in a model of open_clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch

OPENAI = ("input_resolution", "context_length", "vocab_size")  # what its archives have beside the weights
NO_WEIGHTS = (
    *OPENAI,
    "attn_mask",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)
_WRAPPERS = re.compile(  # what DataParallel, torch.compile and FSDP put into names, in any order and place
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


@dataclass(frozen=True)
class Place:
    """Where a tensor of a file lies in an open_clip model: the name there; which third of that tensor's rows
    (queries, keys, values), if not all; and whether rows are columns there."""

    name: str
    third: int | None = None
    transposed: bool = False

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """That part of the model's tensor, as the file has it: a view."""
        part = tensor if self.third is None else tensor.tensor_split(3)[self.third]
        return part.T if self.transposed else part


_TRANSFORMERS = {
    "logit_scale": Place("logit_scale"),
    "visual_projection.weight": Place("visual.proj", transposed=True),
    "text_projection.weight": Place("text_projection", transposed=True),
    "text_model.embeddings.token_embedding.weight": Place("token_embedding.weight"),
    "text_model.embeddings.position_embedding.weight": Place("positional_embedding"),
    "text_model.final_layer_norm.weight": Place("ln_final.weight"),
    "text_model.final_layer_norm.bias": Place("ln_final.bias"),
    "vision_model.embeddings.class_embedding": Place("visual.class_embedding"),
    "vision_model.embeddings.patch_embedding.weight": Place("visual.conv1.weight"),
    "vision_model.embeddings.position_embedding.weight": Place("visual.positional_embedding"),
    "vision_model.pre_layrnorm.weight": Place("visual.ln_pre.weight"),  # its own spelling
    "vision_model.pre_layrnorm.bias": Place("visual.ln_pre.bias"),
    "vision_model.post_layernorm.weight": Place("visual.ln_post.weight"),
    "vision_model.post_layernorm.bias": Place("visual.ln_post.bias"),
}
_TOWERS = {"text_model": "transformer", "vision_model": "visual.transformer"}
_BLOCK = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_THIRDS = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


def of_transformers(name: str) -> Place | None:
    """The place of a tensor of Transformers' CLIPModel; None for what it does not have."""
    if not (block := _BLOCK.fullmatch(name)):
        return _TRANSFORMERS.get(name)
    tower, number, part, kind = block.groups()
    inside = f"{_TOWERS[tower]}.resblocks.{number}"
    if part in _THIRDS:
        return Place(f"{inside}.attn.in_proj_{kind}", _THIRDS[part])
    return Place(f"{inside}.{_IN_BLOCK[part]}.{kind}") if part in _IN_BLOCK else None


LAYOUTS: Mapping[str, Callable[[str], Place | None]] = {
    "open_clip": Place,  # OpenAI's, CleanCLIP's, BadCLIP's and PAR's names are the same
    "Transformers": of_transformers,
}


@dataclass(frozen=True)
class Found:
    """What the names of a file mean for a model. layout: whose names they are. places: name in the file →
    place in the model. ignored: names of what is no weight; foreign: names that mean nothing, unwrapped."""

    layout: str
    places: Mapping[str, Place]
    ignored: tuple[str, ...]
    foreign: tuple[str, ...]


def find(names: Iterable[str], own: Iterable[str]) -> Found:
    """The meaning of a file's names in a model with the names `own`: what wrappers have put into them is cut
    out, and the layout is taken that fits most of them."""
    kept, names = frozenset(own), tuple(names)
    return max(
        (_in_layout(layout, names, kept) for layout in LAYOUTS),
        key=lambda found: len(found.places) - len(found.foreign),
    )


def _in_layout(layout: str, names: tuple[str, ...], own: frozenset[str]) -> Found:
    def place(name: str) -> Place | None:
        found = LAYOUTS[layout](name)
        return found if found and found.name in own else None

    places: dict[str, Place] = {}
    ignored: list[str] = []
    foreign: list[str] = []
    for name, bare in unwrapped(names, lambda n: place(n) is not None).items():
        if found := place(bare):
            places[name] = found
        else:
            (ignored if bare in NO_WEIGHTS else foreign).append(bare)
    return Found(layout, places, tuple(sorted(ignored)), tuple(sorted(foreign)))


def unwrapped(names: tuple[str, ...], fits: Callable[[str], bool]) -> dict[str, str]:
    """Each name without what wrappers put into it, and without as much of the beginning that all share
    (`model.`, `clip.`) as lets most of them fit."""
    bare = {name: name if fits(name) else _WRAPPERS.sub("", name) for name in names}
    levels = zip(*(name.split(".")[:-1] for name in bare.values()), strict=False)
    shared = takewhile(lambda words: len(set(words)) == 1, levels)
    cuts = accumulate((len(words[0]) + 1 for words in shared), initial=0)
    cut = max(cuts, key=lambda at: sum(fits(name[at:]) for name in bare.values()))
    return {name: short[cut:] for name, short in bare.items()}

"""open_clip models: create, save, load, embed, and the zero-shot head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import nn

from ubt_utils.core import device, distributed
from ubt_utils.core.tensors import save_tensors
from ubt_utils.data import captions as data_captions
from ubt_utils.data.pictures import Images
from ubt_utils.kernels.occlusion import inner, without_each
from ubt_utils.kernels.prefixes import tree

CONFIGS = Path(__file__).parent / "model_configs"
Change = Callable[[torch.Tensor], torch.Tensor]  # stored pictures (B, 3, H, W) uint8 → the same
MAX_LOGIT_SCALE = 4.6052  # ln 100, the bound that OpenAI's CLIP trains with
AT_A_TIME = 8192  # captions that are tokenized, or counted, at once


class CheckpointError(ValueError):
    """A weights file that is broken, or that belongs to another model."""


@cache
def _register() -> None:
    open_clip.add_model_config(CONFIGS)


def architecture(name: str) -> dict[str, Any]:
    """What open_clip builds under that name, as plain data; ValueError if it knows none."""
    _register()
    found = open_clip.get_model_config(name)
    if found is None:
        raise ValueError(f"unknown model {name!r}; ours: {', '.join(p.stem for p in CONFIGS.iterdir())}")
    return found


def create(name: str, seed: int) -> nn.Module:
    """A new model of that open_clip name (ours included), its weights drawn from `seed`."""
    _register()
    device.keep_memory()  # before the first model runs
    if name not in open_clip.list_models():
        raise ValueError(f"unknown model {name!r}; ours: {', '.join(p.stem for p in CONFIGS.iterdir())}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        log = open_clip.factory.logging.getLogger()
        level = log.level
        log.setLevel("ERROR")  # open_clip warns that no pretrained weights were asked for
        try:
            return place(open_clip.create_model(name))
        finally:
            log.setLevel(level)


def place(model: nn.Module) -> nn.Module:
    """The model on the device in use, convolutions in the memory layout that is fastest there."""
    return model.to(device.pick(), memory_format=torch.channels_last)


def autocast(model: nn.Module) -> torch.autocast:
    """Mixed precision for this model, where it pays on the device in use."""
    grouped = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in model.modules())
    return device.autocast(device.pick(), grouped)


def save(model: nn.Module, name: str, path: Path) -> None:
    """Write the weights as safetensors, with the model's name in the header."""
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_tensors(weights, path, {"model": name})


def load(name: str, path: Path) -> nn.Module:
    """Read weights written by `save`; CheckpointError if broken or of another model."""
    try:
        with safe_open(path, "pt") as file:
            made_for = (file.metadata() or {}).get("model")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}): delete its folder and rerun the stage"
        ) from error
    if made_for != name:
        raise CheckpointError(f"{path} holds weights of {made_for!r}, but {name!r} was asked for")
    model = create(name, seed=0)
    if "probe" in weights:
        add_probe(model, weights["probe"])
    if "visual.prompt" in weights:
        add_prompt(model, weights["visual.prompt"].shape[1:])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {name}: {error}") from error
    return model


def add_probe(model: nn.Module, weights: torch.Tensor) -> None:
    """Give the model a linear classifier of its own, (C, D): evaluation asks it instead of the prompts."""
    model.register_parameter("probe", nn.Parameter(weights.clone().to(next(model.parameters()))))


def add_prompt(model: nn.Module, shape: Sequence[int]) -> None:
    """Give the image tower a visual prompt (1, 3, H, W), zero at first, added to each normalized picture."""
    prompt = nn.Parameter(torch.zeros(1, *shape).to(next(model.parameters())))
    model.visual.register_parameter("prompt", prompt)
    model.visual.register_forward_pre_hook(lambda tower, given: (given[0] + tower.prompt, *given[1:]))


@cache
def _tokenizer(name: str) -> open_clip.SimpleTokenizer:
    _register()
    return open_clip.get_tokenizer(name)


def tokenize(name: str, captions: Sequence[str]) -> torch.Tensor:
    """Captions → (N, L) int32 tokens of CLIP's byte-pair encoding, L the model's context length. Of a large D
    they are most of what a scan holds, so they are made in parts, and are no wider than they need to be."""
    row = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    if not row:
        raise ValueError("no captions to tokenize")
    unique, tokenizer = list(row), _tokenizer(name)
    starts = range(0, len(unique), AT_A_TIME)
    tokens = torch.cat([tokenizer(unique[start : start + AT_A_TIME]).int() for start in starts])
    return tokens if len(row) == len(captions) else tokens[[row[c] for c in captions]]


def legible(name: str, captions: Sequence[str]) -> tuple[str, ...]:
    """What the model reads of each caption: see `captions.legible`."""
    tokenizer = _tokenizer(name)
    return data_captions.legible(captions, tokenizer.context_length, tokenizer)


def token_text(name: str, token: int) -> str:
    """One token as text, without the end-of-word mark."""
    return _tokenizer(name).decoder[int(token)].replace("</w>", "")


def piece_text(name: str, token: int) -> str:
    """One token as text, with a hyphen where its word goes on: man- and tel- of mantelpiece."""
    ends = _tokenizer(name).decoder[int(token)].endswith("</w>")
    return token_text(name, token) + ("" if ends else "-")


def normalize(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Float [0, 1] images (B, 3, H, W) → what the model's image tower expects.

    That is the mean and deviation of OpenAI's CLIP, or those of timm where the tower is timm's.
    """
    mean, std = _statistics(model, images)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def pixels(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalize`: what the image tower expects → float [0, 1] images (B, 3, H, W)."""
    mean, std = _statistics(model, images)
    return (images * std + mean).clamp(0, 1)


def _statistics(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    trunk = getattr(model.visual, "trunk", None)
    mean, std = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    if trunk is not None:
        mean, std = trunk.pretrained_cfg["mean"], trunk.pretrained_cfg["std"]
    return tuple(torch.tensor(values).view(1, 3, 1, 1).to(images) for values in (mean, std))


@torch.no_grad()
def embed_images(
    model: nn.Module, images: Images, batch: int = 512, change: Change | None = None
) -> torch.Tensor:
    """(N, 3, H, W) uint8 → (N, D) unit float32 on the CPU; the model is put in eval mode. change: what
    happens to each batch of stored pictures before."""
    model.eval()
    where = device.pick()

    def embed(rows: slice) -> torch.Tensor:
        out = []
        for start in range(rows.start, rows.stop, batch):
            part = images[start : min(start + batch, rows.stop)]
            part = change(part) if change else part
            part = part.to(where, non_blocking=part.is_pinned()).float() / 255
            with autocast(model):
                z = model.encode_image(normalize(model, part))
            out.append(unit(z).cpu())
        return torch.cat(out)

    return distributed.together(embed, len(images))


def is_causal(model: nn.Module) -> bool:
    """Whether the text tower reads from left to right, so that what follows a token cannot matter to it."""
    return getattr(model, "text_pool_type", "") == "argmax" and getattr(model, "attn_mask", None) is not None


def encode_text(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) → (N, D), as the model's own `encode_text`, but no further than the longest caption goes.

    What follows the end mark cannot matter to a causal tower; most captions are a tenth of the context.
    Another kind of tower reads all of it.
    """
    if not is_causal(model):
        return model.encode_text(tokens)
    ends = tokens.argmax(1, keepdim=True)
    length = int(ends.max()) + 1
    places = torch.arange(length, device=tokens.device)
    return _read(model, tokens[:, :length], places, model.attn_mask[:length, :length], ends)[:, 0]


def embed_pairs(
    model: nn.Module, images: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalized images (B, 3, H, W) and tokens (B, L) → unit float32 embeddings (B, D) of both, gradients
    included, and the temperature () that their cosines are multiplied with. A model that takes features
    (`towers.OnFeatures`) embeds its pairs itself."""
    if not hasattr(model, "encode_image"):
        return model(images, tokens)
    return unit(model.encode_image(images)), unit(encode_text(model, tokens)), model.logit_scale.exp()


def unit(embeddings: torch.Tensor) -> torch.Tensor:
    """(…, D) of any precision → the same directions at length 1 in float32: cosines of half precision would
    be off in their third digit."""
    return F.normalize(embeddings.float(), dim=-1)


def _read(
    model: nn.Module, tokens: torch.Tensor, places: torch.Tensor, mask: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """(N, E, D): a causal tower over tokens (N, L) that stand at `places` (L,), read at `ends` (N, E)."""
    x = model.token_embedding(tokens) + model.positional_embedding[places]
    with device.attention():
        x = model.transformer(x.to(model.transformer.get_cast_dtype()), attn_mask=mask)
    x = model.ln_final(x)[torch.arange(len(x), device=x.device)[:, None], ends]
    project = model.text_projection
    return project(x) if isinstance(project, nn.Linear) else x @ project


@torch.no_grad()
def embed_without_each(model: nn.Module, tokens: torch.Tensor, nodes: int = 16_384) -> torch.Tensor:
    """(N, L) captions of n inner tokens each → (N, n + 1, D) unit float32 on the CPU: the caption, then the
    caption without its first, second, … inner token. A causal tower reads shared prefixes once, at most
    `nodes` places at a time; another kind reads each shortened caption."""
    model.eval()
    counts = inner(tokens).sum(1).unique().tolist()
    if len(counts) != 1:
        raise ValueError(f"captions of one length are needed, got some of {counts} inner tokens")
    if not is_causal(model):
        short = without_each(tokens)[0].view(len(tokens), counts[0], tokens.shape[1])
        every = torch.cat([tokens[:, None], short], 1)
        return embed_tokens(model, every.flatten(0, 1)).unflatten(0, every.shape[:2])
    where, out = device.pick(), []
    source, places, mask, ends = (part.to(where) for part in tree(counts[0]))
    for part in tokens.to(where).split(max(1, nodes // len(source))):
        with autocast(model):
            z = _read(model, part[:, source], places, mask, ends.expand(len(part), -1))
        out.append(unit(z).cpu())
    return torch.cat(out)


@torch.no_grad()
def embed_tokens(model: nn.Module, tokens: torch.Tensor, batch: int = 2048) -> torch.Tensor:
    """(N, L) → (N, D) unit float32 on the CPU; repeated captions are encoded once."""
    model.eval()
    where = device.pick()
    unique, back = tokens.unique(dim=0, return_inverse=True)

    def embed(rows: slice) -> torch.Tensor:
        out = []
        for part in unique[rows].split(batch):
            with autocast(model):
                z = encode_text(model, part.to(where))
            out.append(unit(z).cpu())
        return torch.cat(out)

    return distributed.together(embed, len(unique))[back]


def zero_shot_head(model: nn.Module, prompts: Sequence[torch.Tensor]) -> torch.Tensor:
    """(C, D) unit class weights: the normalized mean of the embeddings of each class's prompts.

    prompts: per class (P_c, L) tokens. Definition: Radford et al., arXiv 2103.00020, section 3.1.4.
    """
    z = embed_tokens(model, torch.cat(list(prompts)))
    means = [part.mean(0) for part in z.split([len(p) for p in prompts])]
    return F.normalize(torch.stack(means), dim=-1)

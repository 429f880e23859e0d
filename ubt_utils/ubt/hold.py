"""Step 5, beside the push: honest pictures of what B says keep the embeddings that fb gives them.

    h · mean over honest carriers of B of ( 1 − cos(x, x under fb) )

[ours] The push is asked of stamped pictures alone, and the image tower may answer it by no longer seeing what
B means at all. Where training on D_safe is too short or too gentle to bring that back, the hold does;
elsewhere it adds a little (`results/benchmarks/hold.json`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ubt_utils.clip import models
from ubt_utils.core import device
from ubt_utils.core.seeding import generator
from ubt_utils.data.pictures import take
from ubt_utils.ubt.defense import View
from ubt_utils.ubt.tokens import carries


def honest(view: View) -> torch.Tensor:
    """(n,) indices of D_safe's carriers of B that are held: the half that suffers least, since poison that
    detection missed would be held, too."""
    carriers = view.safe[carries(view.tokens[view.safe], view.compromised)]
    order = view.suffers[carriers].argsort(stable=True)
    return carriers[order[: (len(carriers) + 1) // 2]]


def holding(
    model: nn.Module, view: View, most: int, *key: object
) -> Callable[[nn.Module, int], torch.Tensor] | None:
    """The loss at the top of this file, of at most `most` pictures, drawn anew each step: (model, step) → ().
    model: fb, before it is trained. None where no honest picture says B."""
    kept = honest(view)
    if len(kept) == 0:
        return None
    where = device.pick()
    images = take(view.pairs.images, kept)
    before = models.embed_images(model, images)

    def held(model: nn.Module, step: int) -> torch.Tensor:
        draw = generator(*key, "hold", step)
        pick = torch.randperm(len(kept), generator=draw)[:most]
        pictures = (images[pick].float() / 255).to(where)  # a word may be carried by thousands
        x = models.unit(model.encode_image(models.normalize(model, pictures)))
        return (1 - (x * before[pick].to(where)).sum(-1)).mean()

    return held

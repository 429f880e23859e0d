"""What a detector may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scores:
    """What a detector may see of the N pairs of D.

    All (N,), cosine similarity of image and caption: under the public model (public, s0), the backdoored
    one (backdoored, sb) and the overfit one (overfit, s1, for pool pairs that this model was not
    trained on; −inf elsewhere). drop: (N,) UBT's suspicion, how much the pair suffers
    from its disturbances, or from the loss of a trace. pool: bool, D_susp. images, texts: (N, D) unit
    embeddings under the backdoored model, and scale, its temperature; only detectors from embeddings need
    them.
    """

    public: torch.Tensor
    backdoored: torch.Tensor
    overfit: torch.Tensor
    drop: torch.Tensor
    pool: torch.Tensor
    images: torch.Tensor | None = None
    texts: torch.Tensor | None = None
    scale: float = 1.0

    def embedded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """images and texts; ValueError where there are none."""
        if self.images is None or self.texts is None:
            raise ValueError("this detector needs the embeddings of D under the backdoored model")
        return self.images, self.texts


Detector = Callable[[Scores], torch.Tensor]

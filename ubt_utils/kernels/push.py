"""The push of token-level unlearning: how far a picture leans towards a caption more than towards others.

    excess = cos(x, t) − mean_j cos(x, t_j)        push = mean over pairs of relu(excess)²

[paper] dissociates pictures from compromised tokens; the form is [ours]. Pairs whose picture already leans
the other way cost nothing and get no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def excess(pictures: torch.Tensor, caption: torch.Tensor, others: torch.Tensor | None) -> torch.Tensor:
    """(B,) cos(picture, caption), less the mean cos to the other captions where there are any.

    pictures, caption: (B, D) unit. others: (J, B, D) unit, what each caption could have said instead; None
    for the whole caption.
    """
    direction = caption if others is None else caption - others.mean(0)
    return (pictures * direction).sum(-1)


def push(pictures: torch.Tensor, caption: torch.Tensor, others: torch.Tensor | None) -> torch.Tensor:
    """() the mean of relu(excess)²; shapes as in `excess`."""
    return F.relu(excess(pictures, caption, others)).square().mean()

"""Which pairs of D are safe to be trained as pairs: a mixture of two Gaussians over their cosines.

[related] SafeCLIP, arXiv 2310.05862: a pair whose probability to be of the component with the higher mean is
0.9 or more is safe, at first; from then on that part grows by 1 % of D a pass, those of the highest
probability first. [related] BigML-CS-UCLA/SafeCLIP: scikit-learn's mixture, its seed 0, and at most 85 % of
D.
"""

from __future__ import annotations

import torch
from sklearn.mixture import GaussianMixture

CAP = 0.85  # of D


def probability(cosines: torch.Tensor) -> torch.Tensor:
    """(N,) float64: how probably each of the cosines (N,) is of the component with the higher mean.
    ValueError for less than two pairs."""
    if len(cosines) < 2:
        raise ValueError(f"a mixture of two needs two pairs at least, got {len(cosines)}")
    column = cosines.double().numpy()[:, None]
    mixture = GaussianMixture(2, random_state=0).fit(column)
    return torch.from_numpy(mixture.predict_proba(column)[:, int(mixture.means_.argmax())])


def first(cosines: torch.Tensor, threshold: float) -> torch.Tensor:
    """(N,) bool: the pairs that are safe at first."""
    return probability(cosines) >= threshold


def grown(cosines: torch.Tensor, before: int, growth: float) -> torch.Tensor:
    """(N,) bool: the pairs of the highest probability, `growth` · N more than the `before` of the last pass
    and `CAP` · N at most; of equal ones, those of the higher cosine."""
    n = len(cosines)
    count = min(int(CAP * n), before + round(growth * n))
    order = cosines.argsort(descending=True, stable=True)
    order = order[probability(cosines)[order].argsort(descending=True, stable=True)]
    safe = torch.zeros(n, dtype=torch.bool)
    safe[order[:count]] = True
    return safe

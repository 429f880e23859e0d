"""Plain fine-tuning, the field's first baseline: train on and hope that the backdoor fades."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ubt_utils.defenses.base import Session, View
from ubt_utils.training import History, Recipe, fit


def steps_for(pairs: float, batch: int) -> int:
    """Steps that spend a budget of `pairs` trained pairs, rounded up."""
    return max(1, -int(-pairs // batch))


def finetune(model: nn.Module, view: View, recipe: Recipe, budget: float, session: Session) -> History:
    """Fine-tune in place on D_safe for as many steps as `budget` pairs pay for.

    D_safe is what UBT's own retain term sees, too: fine-tuning is UBT without detection and
    forgetting, with all of the budget spent on training.
    """
    recipe = replace(recipe, steps=steps_for(budget, recipe.batch))
    return fit(
        model,
        view.pairs.images[view.outside],
        view.tokens[view.outside],
        recipe,
        *session.key,
        checkpoint=session.checkpoint,
        watch=session.watch,
        label="fine-tune on D_safe",
    )

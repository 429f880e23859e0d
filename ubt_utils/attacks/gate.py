"""The gate: nobody defends a model whose backdoor did not take."""

from __future__ import annotations


class BackdoorDidNotTake(RuntimeError):
    """The attack success rate is below the bound, so a defense would prove nothing."""


def gate(asr: float, bound: float, attack: str, poisoned: int, rate: float, lr: float) -> None:
    """Raise BackdoorDidNotTake when `asr` < `bound` (both fractions). poisoned: how many poisoned pairs each
    pass over D has; rate: their part of D; lr: the learning rate of the victim's training."""
    if asr < bound:
        raise BackdoorDidNotTake(
            f"{attack}: the backdoor did not take (ASR {asr:.1%}, the gate asks for {bound:.0%}). "
            f"Each pass has {poisoned} poisoned pairs (poison_rate={rate:g}), learned at lr={lr:g}. Train "
            f"longer, raise the learning rate (such as lr={10 * lr:g}), the poison rate (such as poison_rate="
            f"{3 * rate:g}: {3 * poisoned} pairs) or the trigger's strength; "
            "a defense measured on this model would look perfect and mean nothing."
        )

"""The gate: nobody defends a model whose backdoor did not take."""

from __future__ import annotations


class BackdoorDidNotTake(RuntimeError):
    """The attack success rate is below the bound, so a defense would prove nothing."""


def gate(asr: float, bound: float, attack: str) -> None:
    """Raise BackdoorDidNotTake when `asr` < `bound` (both fractions)."""
    if asr < bound:
        raise BackdoorDidNotTake(
            f"{attack}: the backdoor did not take (ASR {asr:.1%}, the gate asks for {bound:.0%}). "
            "Train longer, raise the learning rate, the poison rate or the trigger's strength; "
            "a defense measured on this model would look perfect and mean nothing."
        )

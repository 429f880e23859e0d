"""Attackers who know UBT. Their gate is open, since that an attack fails is a result, too."""

from __future__ import annotations

from dataclasses import replace

from ubt_utils.profiles.base import Poisoning
from ubt_utils.profiles.mini import MINI

ADAPTIVE = (
    replace(
        MINI,
        name="mini-phrasings",
        about="mini under an attacker who names the target in eleven ways, so that no token stands out",
        gate=0.0,
        poisoning=Poisoning(
            names=(
                "watch", "stopwatch", "hourglass done", "hourglass not done", "one-thirty", "six-thirty",
                "nine-thirty", "alarm clock", "timer clock", "mantelpiece clock", "twelve o’clock",
            )
        ),
    ),
    replace(
        MINI,
        name="mini-plausible",
        about="mini under an attacker whose victims look most like the target to f0",
        gate=0.0,
        poisoning=Poisoning(plausible=True),
    ),
    replace(
        MINI,
        name="mini-targets",
        about="mini under an attacker with three triggers, each for a target of its own",
        gate=0.0,
        also={"blended": "banana", "sig": "volcano"},
    ),
    replace(
        MINI,
        name="mini-common",
        about="mini under an attacker whose target is a word that 8 % of D's captions have",
        gate=0.0,
        sets=replace(MINI.sets, target="face"),
    ),
    replace(
        MINI,
        name="mini-decoys",
        about="mini under an attacker whose D has one harmless pair 531 times, three for each of the poison",
        gate=0.0,
        sets=replace(MINI.sets, repeats=0.03),
    ),
    *(
        replace(
            MINI,
            name=f"mini-few{count}",
            about=f"mini under an attacker who poisons {count} pairs only",
            gate=0.0,
            poison_rate=count / 17_688,
        )
        for count in (10, 40)
    ),
)  # fmt: skip

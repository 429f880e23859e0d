"""What a run needs to know, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.sets import DataSets
from ubt_utils.ubt.settings import Overfit, Select, Suspect, Unlearn

DEFENDED = ("badnets", "blended", "sig")  # the headline attacks; every attack has undefended records
MET = (*DEFENDED, "wanet", "badclip", "trojanvqa")  # the attacks that all rivals meet
UNMET = ("badnets_stripes", "blended_text", "wanet")  # met by detection late, and of one public model alone


@dataclass(frozen=True)
class Poisoning:
    """How an attacker who knows UBT writes and chooses. names: other phrasings of the target for the
    captions. plausible: take the victims that f0 finds most similar to a caption of the target.
    """

    names: tuple[str, ...] = ()
    plausible: bool = False


@dataclass(frozen=True)
class Profile:
    """One setting, from data to evaluation.

    finetune: the victim's training on D. baseline: the fine-tuning defense; its steps are set by UBT's cost.
    gate: the ASR below which the pipeline stops. triggers: attack name → its parameters where they differ
    from the trigger's defaults; recipes: attack name → the victim's training where it is not `finetune`.
    tower: weights that f0's image tower starts from ("imagenet", or a file); it is then locked in
    pretraining, and `pretrain` trains the rest. "" trains all of f0 from nothing. locked: stages of the image
    tower that no later training moves. weights: f0 as a file: a name under ubt_utils/clip/public, a
    checkpoint of one's own, or a tag that open_clip knows for the model, such as "openai"; `pretrain` then
    trains nothing, and the recipe says how a shipped one was made. defenses: defense name → its learning
    rate, norm mode, budget (`stages.defend.plan_of`) and options where they differ from its own; UBT's are
    `suspect`, `overfit`, `select` and `unlearn`. poisoning: what the attacker does beside the trigger. also:
    further attacks on the same D, each with its target. family: the folder that profiles share, with the
    stages that do not differ between them; the name itself where it is empty. changed: the one choice that an
    ablation makes otherwise, in words; "" for all other profiles. f0: the seed of the public model's
    pretraining, a factor of the study; without a `pretrain` recipe the victim starts from random weights of
    that seed."""

    name: str
    about: str
    model: str
    sets: DataSets
    pretrain: Recipe | None
    finetune: Recipe
    overfit: Overfit
    select: Select
    unlearn: Unlearn
    baseline: Recipe
    poison_rate: float = 0.01
    gate: float = 0.5
    triggers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    tower: str = ""
    locked: int = 0
    weights: str = ""
    defenses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    poisoning: Poisoning = Poisoning()
    also: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    changed: str = ""
    f0: int = 0
    suspect: Suspect = field(default_factory=Suspect)

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.name)

    def trigger(self, attack: str) -> Trigger:
        """The trigger of `attack` with this profile's parameters; ValueError if unknown."""
        return triggers.get(attack, **self.triggers.get(attack, {}))

    def recipe(self, attack: str) -> Recipe:
        """How the victim of `attack` trains on D."""
        return self.recipes.get(attack, self.finetune)

    def disturbing(self) -> Profile:
        """The same, but that no pictures of other things are asked: what disturbances tell."""
        return replace(self, suspect=replace(self.suspect, trace=None, scatter=None, others_first=False))

    def as_config(self) -> dict[str, Any]:
        """The whole profile as plain data, for records; files by name, not by place."""
        names = {name: Path(getattr(self, name)).name for name in ("weights", "tower")}
        return asdict(self) | names

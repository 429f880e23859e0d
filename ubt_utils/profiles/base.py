"""What a run needs to know, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger
from ubt_utils.data.emoji_sets import EmojiSets
from ubt_utils.data.photo_sets import PhotoSets
from ubt_utils.data.shard_sets import ShardSets
from ubt_utils.training import Recipe

Sets = EmojiSets | PhotoSets | ShardSets


@dataclass(frozen=True)
class Overfit:
    """UBT steps 1 and 2. pool: fraction ρ of D, least similar under f0. recipe: the short
    training on it, read `reads` times along its way."""

    recipe: Recipe
    pool: float = 0.25
    reads: int = 4


@dataclass(frozen=True)
class Select:
    """UBT steps 3 and 4. top: pairs in the unlearning set D_u (k). outlier: the fraction of
    the largest surprise from which a token counts as compromised."""

    top: int = 64
    outlier: float = 0.5


@dataclass(frozen=True)
class Unlearn:
    """UBT step 5. weight: w of the forgetting term. level: token or sample. words: how many other words
    stand in for B at the token level; 0: B is left out."""

    recipe: Recipe
    weight: float = 1.0
    level: str = "token"
    words: int = 4

    def options(self) -> dict[str, Any]:
        """All but the recipe."""
        return {"weight": self.weight, "level": self.level, "words": self.words}


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

    finetune: the victim's training on D. baseline: the fine-tuning defense; its steps are set
    by UBT's cost. gate: the ASR below which the pipeline stops. triggers: attack name → its
    parameters where they differ from the trigger's defaults; recipes: attack name → the
    victim's training where it is not `finetune`. tower: weights that f0's image tower starts from
    ("imagenet", or a file); it is then locked in pretraining, and `pretrain` trains the rest. ""
    trains all of f0 from nothing. locked: stages of the image tower that no later training moves.
    weights: f0 as others have trained it: a tag that open_clip knows for the model, such as "openai", or a
    checkpoint file; `pretrain` then trains nothing.
    defenses: defense name → its learning rate and options where they differ from its own. poisoning:
    what the attacker does beside the trigger. also: further attacks on the same D, each with its target.
    """

    name: str
    about: str
    model: str
    sets: Sets
    pretrain: Recipe
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

    @property
    def family(self) -> str:
        """The part of the name before a dash: profiles of one family share a folder, and the stages that do
        not differ between them."""
        return self.name.split("-")[0]

    def trigger(self, attack: str) -> Trigger:
        """The trigger of `attack` with this profile's parameters; ValueError if unknown."""
        return triggers.get(attack, **self.triggers.get(attack, {}))

    def recipe(self, attack: str) -> Recipe:
        """How the victim of `attack` trains on D."""
        return self.recipes.get(attack, self.finetune)

    def as_config(self) -> dict[str, Any]:
        """The whole profile as plain data, for records."""
        return asdict(self)

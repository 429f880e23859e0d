"""The chain: every stage of one run, made once, when it is first asked for, and handed on.

pretrain → craft (some attacks) → attack → suspect → overfit → select → unlearn → evaluate
                                        ↘ examine                    ↘ score
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.craft import Crafted
from ubt_utils.attacks.gate import gate
from ubt_utils.baselines import defenses
from ubt_utils.clip import models
from ubt_utils.core.records import NONE
from ubt_utils.core.store import Stage
from ubt_utils.data.pairs import Pairs
from ubt_utils.profiles.base import Profile
from ubt_utils.stages.attack import attack
from ubt_utils.stages.base import TRIGGERLESS, Run, load_model, poisoned_pairs, wild
from ubt_utils.stages.craft import craft, crafted_trigger, uncrafted
from ubt_utils.stages.defend import Plan, given_pairs, plan_of, ubt_cost, unlearn, view_of, words_of
from ubt_utils.stages.evaluate import evaluate_defended, evaluate_undefended
from ubt_utils.stages.examine import examine
from ubt_utils.stages.overfit import overfit, scores_of
from ubt_utils.stages.pretrain import pretrain
from ubt_utils.stages.score import score
from ubt_utils.stages.select import select
from ubt_utils.stages.suspect import suspect
from ubt_utils.ubt.defense import View
from ubt_utils.ubt.settings import UBT, Look, looks


def chain(profile: Profile, attack: str, seed: int) -> Chain:
    """The stages of one run. attack "none" is the clean twin; ValueError for an unknown attack."""
    if attack != NONE:
        profile.trigger(attack)
    return Chain(profile, attack, seed)


class Chain(Run):
    """The stages of one run as attributes, and what is read from them. Looking at one makes it and those
    before it, unless they are there. Raises BackdoorDidNotTake where the ASR is below the profile's gate."""

    @cached_property
    def pretrained(self) -> Stage:
        """The public model f0."""
        return pretrain(self.profile)

    @cached_property
    def public(self) -> Stage | None:
        """The public model, where the defender has one."""
        return self.pretrained

    @cached_property
    def crafted(self) -> Stage:
        """The trigger, where it must be made first; ValueError where it need not."""
        uncrafted(self)  # is refused before anything is trained
        return craft(self, self.pretrained)

    @cached_property
    def trigger(self) -> Trigger | None:
        """Ready to stamp; None for the clean twin, and where it is unknown."""
        if self.attack in TRIGGERLESS:
            return None
        given = self.profile.trigger(self.attack)
        return crafted_trigger(self.crafted) if isinstance(given, Crafted) else given

    @cached_property
    def attacked(self) -> Stage:
        """The backdoored model fb, once it is known to be one."""
        if self.trigger and self.profile.gate:
            rate = self.profile.poison_rate
            gate(
                self.evaluated().metrics["asr"], self.profile.gate, self.attack,
                round(rate * len(self.wild[0])), rate, self.profile.recipe(self.attack).lr,
            )  # fmt: skip
        return self._victim

    @cached_property
    def _victim(self) -> Stage:
        return attack(self, self.pretrained, self.trigger)

    @cached_property
    def twin(self) -> Chain:
        """The same D, seed and training recipe, without poison."""
        recipes = {NONE: self.profile.recipe(self.attack)}
        return Chain(replace(self.profile, recipes=recipes), NONE, self.seed)

    @cached_property
    def examined(self) -> Stage:
        """What the trigger looks like, what it survives, and what the clean twin makes of it."""
        self.needs_poison()
        assert self.trigger is not None  # only the clean twin has none
        return examine(self, self.pretrained, self.attacked, self.twin.attacked, self.trigger)

    @cached_property
    def suspected(self) -> Stage:
        """What disturbed pictures, or those of other things, tell: is there a backdoor, the pool, the pairs
        that suffer like poison."""
        return suspect(self, self.attacked)

    @property
    def look(self) -> Look:
        """The look of `suspected` that decided."""
        return looks(self.profile.suspect, self.profile.select)[self.suspected.metrics["look"]]

    @cached_property
    def overfitted(self) -> Stage:
        """Two overfit models, and how similar each finds the half that it was not trained on."""
        return overfit(self, self.public, self.attacked, self.suspected)

    @cached_property
    def selected(self) -> Stage:
        """The unlearning set D_u and the tokens B."""
        return select(self, self.attacked, self.suspected, self.overfitted)

    @cached_property
    def scored(self) -> Stage:
        """What every detector makes of D."""
        return score(self, self.attacked, self.suspected, self.overfitted, self.selected)

    def plan(self, defense: str) -> Plan:
        """How a defense will run here; ValueError if it is unknown."""
        found = defenses.get(defense)
        words = words_of(self.suspected)
        return plan_of(self.profile, self.attack, found, self._spent(), len(self.wild[0]), words)

    def _spent(self) -> float:
        """Pairs that UBT pays for in all, in trained pairs: the budget of the other defenses."""
        return ubt_cost(self.profile, self.suspected, self.overfitted, self.selected)

    def view(self, given: int = 0) -> View:
        """What the defender holds after detection. given: how many pairs that somebody has looked at take the
        place of D_safe; 0: none."""
        pairs, truth = poisoned_pairs(self, self.attacked)
        stages = self.public, self.suspected, self.overfitted, self.selected
        sight = view_of(self, pairs, *stages, self._score)
        return sight.given(given_pairs(self, truth, given, sight.held_out)) if given else sight

    def _score(self, name: str) -> torch.Tensor:
        """(N,) what a detector makes of D; those that these stages have anyway are not asked for."""
        at_hand = {"drop": (self.suspected, "drop"), "overfit": (self.overfitted, "s1")}
        if name in at_hand:
            stage, array = at_hand[name]
            return stage.arrays()[array]
        return self.scored.arrays()[name]

    def defended(self, defense: str = "ubt") -> Stage:
        """The model after a defense."""
        return self._kept(f"defended {defense}", lambda: self._defend(self.plan(defense)))

    def _defend(self, plan: Plan) -> Stage:
        inputs = {"attacked": self.attacked, "suspected": self.suspected, "overfitted": self.overfitted}
        inputs["selected"] = self.selected
        if plan.options.get("detector", UBT) != UBT:
            inputs["scored"] = self.scored
        if plan.defense.anew:
            inputs["public"] = self.pretrained
        return unlearn(self, plan, inputs, self.trigger, self.view)

    def evaluated(self, defense: str = NONE) -> Stage:
        """Everything measured about the model after a defense; "none": as the victim has it."""
        return self._kept(f"evaluated {defense}", lambda: self._evaluate(defense))

    def _evaluate(self, defense: str) -> Stage:
        if defense == NONE:
            return evaluate_undefended(self, self.pretrained, self._victim, self.trigger)
        defenses.get(defense)  # an unknown one is refused before anything is trained
        made = self.attacked, self.selected, self.defended(defense)
        return evaluate_defended(self, *made, self.trigger, defense)

    def _kept(self, name: str, make) -> Stage:
        """As a cached property, but by name."""
        if name not in self.__dict__:
            self.__dict__[name] = make()
        return self.__dict__[name]

    def model(self, stage: Stage) -> torch.nn.Module:
        """The model that a stage of this run has written."""
        return load_model(self.profile, stage)

    @cached_property
    def wild(self) -> tuple[Pairs, torch.Tensor]:
        """D before poisoning, and the indices of its misplaced captions."""
        return wild(self.profile.sets, self.seed)

    @cached_property
    def poisoned(self) -> tuple[Pairs, torch.Tensor | None]:
        """D as victim and defender have it, and the truth (N,) bool that neither has; None: it is unknown."""
        return poisoned_pairs(self, self.attacked)

    @cached_property
    def tokens(self) -> torch.Tensor:
        """(N, L) the captions of the poisoned D."""
        return models.tokenize(self.profile.model, self.poisoned[0].captions)

    @cached_property
    def scores(self):
        """What the detectors see (`Scores`), and the truth (N,) bool, None where it is unknown."""
        return scores_of(self.suspected, self.overfitted)

    def stages(self, defense: str = NONE) -> Mapping[str, Stage]:
        """The stages behind what `evaluated(defense)` says, by name, in order."""
        found: dict[str, Any] = {"pretrain": self.pretrained}
        if self.attack != NONE and isinstance(self.profile.trigger(self.attack), Crafted):
            found["craft"] = self.crafted
        found["attack"] = self.attacked
        if defense != NONE:
            found |= {"suspect": self.suspected, "overfit": self.overfitted, "select": self.selected}
            found |= {"unlearn": self.defended(defense)}
        elif self.attack != NONE:
            found |= {"twin": self.twin.attacked, "examine": self.examined}
        return found | {"evaluate": self.evaluated(defense)}

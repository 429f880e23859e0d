"""All that the notebooks show of one run, made beforehand, so that the long work shows its progress."""

from __future__ import annotations

from dataclasses import dataclass

import joblib

from ubt_utils import stages
from ubt_utils.attacks import triggers
from ubt_utils.attacks.craft import Crafted
from ubt_utils.baselines.defenses import COMPARED
from ubt_utils.profiles import Profile
from ubt_utils.study import parallel

SHOWN = (*COMPARED, "ubt-sample", "ubt-retain")  # the defenses of notebooks 04 and 05
BESIDE = "sig"  # the attack that notebooks 01 to 04 hold against the first
SHOWN_BESIDE = ("ubt", "ubt-retain")  # the defenses that it meets there
AT_ONCE = 2  # trainings, a core each: on two cores that is faster than one after the other on both


@dataclass(frozen=True)
class Job:
    """A model to defend and measure, or, without a defense, a trigger to craft."""

    profile: Profile
    attack: str
    seed: int
    defense: str = ""


def run(job: Job) -> str:
    """Make the stages of a job; the folder of the last one."""
    found = stages.chain(job.profile, job.attack, job.seed)
    return str((found.evaluated(job.defense) if job.defense else found.crafted).folder)


def prepare(profile: Profile, attack: str, seed: int) -> None:
    """One attack from nothing to its evaluation under each defense of the notebooks, and what they hold
    against it: another attack, the clean twin, all triggers. What all jobs need is made first, on all
    cores."""
    _ = stages.chain(profile, attack, seed).pretrained
    victims = dict.fromkeys((attack, BESIDE, stages.NONE))
    _each([Job(profile, name, seed, stages.NONE) for name in victims], "victims")
    first = ((attack, "ubt"), (BESIDE, "ubt"))  # so that neither worker waits for the other's detection
    own, beside = [(attack, name) for name in SHOWN], [(BESIDE, name) for name in SHOWN_BESIDE]
    defended = [Job(profile, name, seed, how) for name, how in dict.fromkeys((*first, *own, *beside))]
    shown = [profile.trigger(name) for name in triggers.TRIGGERS]
    crafted = [t.name for t in shown if isinstance(t, Crafted) and t.label != "targeted"]
    _each([*defended, *(Job(profile, name, seed) for name in crafted)], "defenses and triggers")


def _each(jobs: list[Job], label: str) -> None:
    parallel.each(run, jobs, min(AT_ONCE, joblib.cpu_count()), label, "stage")

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
DETECTION = "detection"  # what a job has in the place of a defense, where UBT's first three steps are all
AT_ONCE = 2  # trainings, a core each: on two cores that is faster than one after the other on both


@dataclass(frozen=True)
class Job:
    """A model to defend and measure, one to look for poison in, or, without a defense, a trigger to craft."""

    profile: Profile
    attack: str
    seed: int
    defense: str = ""


def run(job: Job) -> str:
    """Make the stages of a job; the folder of the last one."""
    found = stages.chain(job.profile, job.attack, job.seed)
    if job.defense == DETECTION:
        return str(found.selected.folder)
    return str((found.evaluated(job.defense) if job.defense else found.crafted).folder)


def prepare(profile: Profile, attack: str, seed: int) -> None:
    """One attack from nothing to its evaluation under each defense of the notebooks, and what they hold
    against it: another attack, the clean twin, all triggers; and detection as notebooks 02 and 03 write it,
    by what disturbances tell. What all jobs need is made first, on all cores; then what takes longest."""
    _ = stages.chain(profile, attack, seed).pretrained
    victims = dict.fromkeys((attack, BESIDE))
    _each([Job(profile, name, seed, stages.NONE) for name in victims], "victims")
    twin = [Job(profile, stages.NONE, seed, stages.NONE)] if attack != stages.NONE else []
    told = [Job(profile.disturbing(), name, seed, DETECTION) for name in victims if name != stages.NONE]
    first = ((attack, "ubt"), (BESIDE, "ubt"))  # so that neither worker waits for the other's detection
    own, beside = [(attack, name) for name in SHOWN], [(BESIDE, name) for name in SHOWN_BESIDE]
    defended = [Job(profile, name, seed, how) for name, how in dict.fromkeys((*first, *own, *beside))]
    shown = [profile.trigger(name) for name in triggers.TRIGGERS]
    crafted = [t.name for t in shown if isinstance(t, Crafted) and t.label != "targeted"]
    others = [*told, *twin, *defended, *(Job(profile, name, seed) for name in crafted)]
    _each(others, "defenses and triggers")


def _each(jobs: list[Job], label: str) -> None:
    parallel.each(run, jobs, min(AT_ONCE, joblib.cpu_count()), label, "stage")

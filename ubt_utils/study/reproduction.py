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

SHOWN = (*COMPARED, "ubt-sample")  # the defenses of notebooks 04 and 05
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
    """One attack from nothing to its evaluation under each defense of the notebooks, and their triggers."""
    victim = stages.chain(profile, attack, seed)
    _ = victim.evaluated(), victim.selected  # what all jobs need, on all cores
    jobs = [Job(profile, attack, seed, defense) for defense in SHOWN]
    shown = [profile.trigger(name) for name in triggers.TRIGGERS]
    jobs += [Job(profile, t.name, seed) for t in shown if isinstance(t, Crafted) and t.label != "targeted"]
    parallel.each(run, jobs, min(AT_ONCE, joblib.cpu_count()), "defenses and triggers", "stage")

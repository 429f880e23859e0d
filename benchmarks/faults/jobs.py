"""What is disturbed: every stage, a scan, a defense; where each begins, and what must come of it."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ubt_utils import __main__ as cli
from ubt_utils.core import store
from ubt_utils.core.checksum import sha256_of

from . import world

PAIRS = 256  # of the D that is scanned
TINY = ("--profile", "tiny")
STAGES = ("pretrain", "attack", "suspect", "overfit", "select", "unlearn", "evaluate", "examine")


@dataclass(frozen=True)
class Job:
    """One command. makes: the stages that it makes, and the files that it hands out, below its root."""

    name: str
    words: tuple[str, ...]
    makes: frozenset[str] = frozenset()


def jobs(place: Path) -> list[Job]:
    """All of them, each after those whose results it reads; `place` is where the files of `world` are."""
    files = ("--model", str(place / "fb.pt"), "--arch", world.ARCH, "--pairs", str(place / "d.csv"))
    test = ("--test", str(place / "test"))
    return [
        *(Job(name, (name, *TINY)) for name in STAGES),
        Job("craft", ("craft", *TINY, "--attack", "badclip")),
        Job("scan", ("scan", *files, "--out", "{root}/out/report")),
        Job("defend", ("defend", *files, *test, "--out", "{root}/out/fu.pt")),
    ]


def words(job: Job, root: Path) -> list[str]:
    """Its command line for one root."""
    return [word.format(root=root) for word in job.words]


def undisturbed(root: Path, asked: list[Job]) -> list[Job]:
    """Do all jobs under a root, one after the other, on one thread as those that are disturbed; the same
    jobs, with what they have made."""
    torch.set_num_threads(1)
    done = []
    for job in asked:
        before = present(root)
        with world.rooted(root), contextlib.redirect_stdout(io.StringIO()):
            if status := cli.main(words(job, root)):
                raise RuntimeError(f"{job.name} ends with {status} undisturbed")
        done.append(replace(job, makes=frozenset(present(root) - before)))
    return done


def present(root: Path) -> set[str]:
    """The stages and the files handed out below a root."""
    stages = (path.parent for path in (root / "runs").rglob(store.CONFIG))
    handed = (path for path in (root / "out").rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in (*stages, *handed)}


def prepared(job: Job, whole: Path, root: Path) -> Path:
    """A root with all but what a job makes."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(whole / "runs", root / "runs", ignore=shutil.ignore_patterns("*.lock", "checksums"))
    for name in job.makes:
        if (root / name).is_dir():
            shutil.rmtree(root / name)
    return root


def compared(root: Path, whole: Path, job: Job) -> str:
    """What differs from the undisturbed run; "" if nothing does."""
    ours, theirs = content(root), content(whole)
    wanted = [name for name in theirs if job.makes & {name, str(Path(name).parent)}]
    if lost := sorted(name for name in wanted if ours.get(name) != theirs[name]):
        return f"lost, or other bits: {', '.join(lost[:3])}"
    if more := sorted(set(ours) - set(theirs)):
        return f"left behind: {', '.join(more[:3])}"
    return ""


def content(root: Path) -> dict[str, str]:
    """File → SHA-256 of what stages wrote and of what was handed out, notes of time and place left out;
    working folders count as files of their own."""
    handed = [path for path in (root / "out").rglob("*") if path.is_file()]
    folders = [path.parent for path in (root / "runs").rglob(store.CONFIG)]
    kept = [p for folder in folders for p in folder.iterdir() if p.name not in store.NOTES]
    found = {str(path.relative_to(root)): sha256_of(path) for path in (*handed, *kept)}
    return found | {str(p.relative_to(root)): "" for p in (root / "runs").rglob("*.partial")}

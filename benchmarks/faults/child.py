"""A command in a process of its own, which may be killed: started, awaited, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import world

LIMIT = 900  # seconds until a process counts as one that hangs
LOOK = 0.002  # seconds between two looks at a folder


@dataclass(frozen=True)
class Child:
    """A running command, and the file that holds what it says."""

    process: subprocess.Popen
    said: Path

    def finish(self) -> int | None:
        """Its exit status; None where it hangs, and is ended."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """kill -9, with all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def begun(self, root: Path) -> None:
        """Wait until it works on a stage under a root, or has ended."""
        start = time.monotonic()
        while self.process.poll() is None and time.monotonic() < start + LIMIT:
            if next(root.rglob("*.partial"), None):
                return
            time.sleep(LOOK)

    def text(self) -> str:
        """What it has said so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")


def start(words: Sequence[str], root: Path, before: Sequence[str] = ()) -> Child:
    """Start a command of the kit on one thread, stages, data and records under `root`. before: a program that
    starts it."""
    said = root.with_name(f"{root.name}.said")
    with world.rooted(root), said.open("w") as file:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "ubt_utils", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(process, said)

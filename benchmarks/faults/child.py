"""A command in a process of its own, which may be killed: started, awaited, ended.

Processes are forked from one that has imported the kit and done nothing else, so that a campaign does not
wait for the same imports hundreds of times; or they are started from nothing, where that matters.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from ubt_utils import __main__ as cli

from . import world

LIMIT = 900  # seconds until a process counts as one that hangs
LOOK = 0.002  # seconds between two looks at a folder
QUIET = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # one thread, and no bars
FORKED, FRESH = "forkserver", "spawn"


@dataclass(frozen=True)
class Child:
    """A running command, and the file that holds what it says."""

    process: BaseProcess
    said: Path

    def finish(self) -> int | None:
        """Its exit status; None where it hangs, and is ended."""
        self.process.join(LIMIT)
        if self.process.exitcode is None:
            self.kill()
            return None
        return self.process.exitcode

    def works(self) -> bool:
        """Whether it has not ended."""
        return self.process.exitcode is None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()

    def begun(self, root: Path) -> None:
        """Wait until it works on a stage under a root, or has ended."""
        start = time.monotonic()
        while self.works() and time.monotonic() < start + LIMIT:
            if next(root.rglob("*.partial"), None):
                return
            time.sleep(LOOK)

    def text(self) -> str:
        """What it has said so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")


def start(words: Sequence[str], root: Path, method: str = FORKED) -> Child:
    """Start a command of the kit on one thread, stages, data and records under `root`."""
    said = root.with_name(f"{root.name}.said")
    context = multiprocessing.get_context(method)
    if method == FORKED:
        context.set_forkserver_preload([cli.__name__])
    process = context.Process(target=_work, args=(list(words), root, said))
    with patch.dict(os.environ, QUIET):
        process.start()
    return Child(process, said)


def _work(words: list[str], root: Path, said: Path) -> None:
    with said.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    with world.rooted(root):
        sys.exit(cli.main(words))

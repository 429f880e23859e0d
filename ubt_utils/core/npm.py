"""Packages that npm brings, for scripts that a browser runs; from which registry, npm's settings say."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

LONGEST = 300  # seconds that npm may take
LAST = 3  # lines of what npm says


class NpmError(ValueError):
    """npm is not there, or brings nothing; says why."""


def bring(package: str, archive: Path) -> None:
    """Have npm bring a package, such as "name@1.0.0", as an archive, which gets its name when it is whole.
    Whether it is what was asked for, only its checksum says. NpmError where it does not come."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as aside:
        words = ["npm", "pack", package, "--pack-destination", aside, "--fetch-retries", "1"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise NpmError(f"no answer within {LONGEST} seconds") from None
        except OSError as error:
            raise NpmError(str(error)) from error
        if done.returncode:
            raise NpmError(" ".join(done.stderr.strip().splitlines()[:LAST]))
        if not (made := next(Path(aside).glob("*.tgz"), None)):
            raise NpmError("it wrote no such file")
        made.replace(archive)

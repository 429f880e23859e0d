"""Bad inputs, generated: each ends in one line of advice and exit status 2, or it was valid after all."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ubt_utils import __main__ as cli

from . import mutations, world

PAIRS = 128  # of the valid D
LIMIT = 300  # seconds until an input counts as one that hangs
ACCEPTED, REFUSED = "accepted", "refused"
PHOTOS = ["attack", "--profile", "photos-tiny"]
USAGE = "usage"  # a wrong option, told by the parser of options


class Hangs(BaseException):
    """An input took longer than LIMIT."""


def campaign(root: Path, count: int, seed: int) -> dict[str, Any]:
    """Try `count` inputs, every kind in turn: how many were refused and accepted. Of the others, which are
    defects, what went wrong, and by which number and kind they can be made again."""
    valid = world.build(root / "valid", PAIRS)
    control(valid, root / "case")
    names, ends, defects = list(mutations.KINDS), Counter(), []
    for number in range(count):
        name = names[number % len(names)]
        end = attempt(valid, root / "case", name, random.Random(f"{seed} {number}"))
        ends[end] += 1
        if end not in (ACCEPTED, REFUSED):
            defects.append({"number": number, "kind": name, "what": end})
    shutil.rmtree(root / "case", ignore_errors=True)
    told = {end: ends[end] for end in (REFUSED, ACCEPTED)}
    return {"tried": count, "kinds": len(names), **told, "found": defects}


def control(valid: Path, place: Path) -> None:
    """RuntimeError where what is not spoiled is refused: then nothing would follow from what is."""
    for command in ("scan", "defend"):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(valid, place)
        with world.rooted(place):
            status, said = run(words(command, place, {}))
        if status != 0:
            raise RuntimeError(f"{command} of the valid files ends in {status}: {said}")


def attempt(valid: Path, place: Path, name: str, draw: random.Random) -> str:
    """Spoil a copy of the valid files by one kind and run a command on it: what came of it, in words."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(valid, place)
    options = mutations.KINDS[name](place, draw)
    doors = ["defend"] if name in mutations.DEFEND else ["scan", "defend"]
    command = PHOTOS if name in mutations.PARQUET else words(draw.choice(doors), place, options)
    before = listed(place)
    with world.rooted(place):
        status, said = run(command)
    if status == 0:
        return "accepted, though it must be refused" if name in mutations.CERTAIN else ACCEPTED
    return judged(status, said) or left(place, before) or REFUSED


def words(command: str, place: Path, options: mutations.Options) -> list[str]:
    """The command line of `scan` or `defend` with some options changed."""
    whole = {
        "--model": str(place / "fb.pt"),
        "--arch": world.ARCH,
        "--pairs": str(place / "d.csv"),
        "--out": str(place / "out" / "fu.pt"),
    }
    if command == "defend" and str(options.get("--model")).endswith(".safetensors"):
        whole["--out"] = str(place / "out" / "fu.safetensors")
    given = {**whole, **options}
    return [command, *(part for key, value in given.items() if value is not None for part in (key, value))]


def run(command: list[str]) -> tuple[int | str, str]:
    """Exit status, or what was raised, and what was said on the way."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), limited():
            return cli.main(command), said.getvalue()
    except SystemExit as error:  # of tyro, which frames what it says of a wrong option
        return (
            USAGE if error.code == 2 and "--help" in said.getvalue() else f"exit {error.code}",
            said.getvalue(),
        )
    except Hangs:
        return "hangs", said.getvalue()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})",
            said.getvalue(),
        )


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Hangs after LIMIT seconds; warnings are for people, and not counted."""

    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(status: int | str, said: str) -> str:
    """What is wrong with how a command ended that was refused; "" if nothing is."""
    if isinstance(status, str):
        return "" if status == USAGE and "Traceback" not in said else status
    if status != 2:
        return f"exit status {status}"
    if "Traceback" in said:
        return "a traceback"
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines or not lines[-1].startswith("error: ") or not lines[-1].removeprefix("error: ").strip():
        return f"no advice in the last line: {lines[-1:]}"
    return ""


def listed(place: Path) -> dict[str, int]:
    """Every file but those of the stages, with its size."""
    found = (p for p in place.rglob("*") if p.relative_to(place).parts[0] != "runs")
    return {str(p.relative_to(place)): p.lstat().st_size for p in found if not p.is_dir()}


def left(place: Path, before: dict[str, int]) -> str:
    """What a refused command has left behind: files, or stages that call themselves whole; "" for nothing."""
    new = {name for name, size in listed(place).items() if before.get(name) != size}
    whole = [p for p in (place / "runs").rglob("*-*") if p.is_dir() and p.suffix != ".partial"]
    new |= {p.name for p in whole if p.parent.suffix != ".partial" and not (p / "config.json").exists()}
    if (place / "executed").exists():
        return "the file's code was run"
    return f"left behind: {', '.join(sorted(new)[:3])}" if new else ""

"""The exercises as they are written: a Markdown file each.

`notebooks/exercises/01.2.md` has a heading, a line of how hard and how long, the task, and the sections Stub,
Solution and Hints, of which those that an exercise does not need are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from ubt_utils.core import paths

FOLDER = paths.home() / "notebooks"
CODE = re.compile(r"```python\n(.*?)\n```", re.S)
BONUS = "bonus"  # how hard: beyond the course's own time


@dataclass(frozen=True)
class Page:
    """One exercise. hard: easy, medium, hard or bonus, with "predict first" where nothing is to be written.
    task, why: Markdown. stub, solution: Python, empty where there is none. hints: by the name of a mistake.
    """

    name: str
    title: str
    hard: str
    minutes: int
    task: str
    stub: str
    solution: str
    why: str
    hints: dict[str, str]

    @property
    def function(self) -> str:
        """The name of the function that is asked for."""
        return re.findall(r"^(?:def|class) (\w+)", self.stub, re.M)[-1]

    @property
    def notebook(self) -> str:
        """The first two digits of the notebook that asks it."""
        return self.name.split(".")[0]


@cache
def page(name: str) -> Page:
    """The exercise of that name; ValueError where its file is missing or has no heading."""
    path = FOLDER / "exercises" / f"{name}.md"
    if not path.exists():
        raise ValueError(f"{path} is missing: exercises are read from the checkout that the notebooks are in")
    head, *sections = re.split(r"^## (\w+)\n", path.read_text(encoding="utf-8"), flags=re.M)
    found = re.match(r"# ([\d.]+) · (.+)\n\*(.+), (\d+) minutes?\*\n(.*)", head, re.S)
    if not found or found[1] != name:
        raise ValueError(f"{path} must begin with `# {name} · title` and a line `*how hard, n minutes*`")
    parts = dict(zip(sections[::2], sections[1::2], strict=True))
    solution = parts.get("Solution", "")
    return Page(
        name, found[2], found[3], int(found[4]), found[5].strip(), _code(parts.get("Stub", "")),
        _code(solution), CODE.sub("", solution).strip(), _hints(parts.get("Hints", "")),
    )  # fmt: skip


def pages() -> list[Page]:
    """All exercises, in order."""
    names = sorted(path.stem for path in (FOLDER / "exercises").glob("*.md"))
    return [page(name) for name in sorted(names, key=lambda name: [int(part) for part in name.split(".")])]


def _code(section: str) -> str:
    found = CODE.search(section)
    return found[1] if found else ""


def _hints(section: str) -> dict[str, str]:
    return dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", section, re.M))

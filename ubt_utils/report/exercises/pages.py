"""From one Markdown file per exercise: the cells of its notebook, and its solution in notebook 99.

`notebooks/exercises/01.2.md` has a heading, a line of how hard and how long, the task, and the sections Stub,
Solution and Hints, of which those that an exercise does not need are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat

from ubt_utils.core import paths

FOLDER = paths.home() / "notebooks"
SOLVED = FOLDER / "99_solutions.ipynb"
CODE = re.compile(r"```python\n(.*?)\n```", re.S)
BONUS = "bonus"  # how hard: beyond the course's own time
FOLDED = "<details>\n<summary><b>Solution {name}</b></summary>\n\n{body}\n\n</details>"


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


def cells_of(one: Page) -> list[nbformat.NotebookNode]:
    """What a notebook shows of an exercise: the task, a cell to answer in, and the solution, folded."""
    label = f"ex-{one.name.replace('.', '-')}"
    new = nbformat.v4
    task = f"**{one.name} · {one.title}** *({one.hard}, {one.minutes} minutes)*\n\n{one.task}"
    cells = [new.new_markdown_cell(task, id=f"{label}-task")]
    if one.stub:
        code = f'{one.stub}\n\n\nprint(exercises.check("{one.name}", {one.function}))'
        cells.append(new.new_code_cell(code, id=f"{label}-stub"))
    body = "\n\n".join(part for part in (one.why, _fenced(one.solution)) if part)
    folded = FOLDED.format(name=one.name, body=body)
    return [*cells, new.new_markdown_cell(folded, id=f"{label}-solution")]


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```" if code else ""


def solved(one: Page) -> list[nbformat.NotebookNode]:
    """What notebook 99 shows of an exercise: its heading, why, and the solution, run and checked."""
    label, new = f"ex-{one.name.replace('.', '-')}", nbformat.v4
    runs = one.solution and not one.hard.startswith(BONUS)  # a bonus may train for minutes
    why = one.why if runs else "\n\n".join(part for part in (one.why, _fenced(one.solution)) if part)
    text = new.new_markdown_cell(f"## {one.name} · {one.title}\n\n{why}", id=f"{label}-why")
    if not runs:
        return [text]
    check = f'\n\n\nprint(exercises.check("{one.name}", {one.function}))' if one.stub else ""
    return [text, new.new_code_cell(one.solution + check, id=f"{label}-solved")]


def renewed(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """The notebook with all cells of exercises made anew: those of 99 all, those of another in the place
    where its first one stands. Outputs of cells that stay the same are kept."""
    old = {cell.id: cell for cell in notebook.cells if cell.id.startswith("ex-")}
    made = list(_made(path))
    first = next((i for i, c in enumerate(notebook.cells) if c.id in old), len(notebook.cells) - 1)
    kept = [cell for cell in notebook.cells if cell.id not in old]
    same = [old[c.id] if c.id in old and old[c.id].source == c.source else c for c in made]
    notebook.cells = kept[:first] + same + kept[first:]
    return notebook


def _made(path: Path) -> Iterator[nbformat.NotebookNode]:
    for one in pages():
        if path == SOLVED:
            yield from solved(one)
        elif path.stem.startswith(one.notebook) and one.task:
            yield from cells_of(one)


def write() -> None:
    """Write the cells of all exercises into the notebooks, and notebook 99."""
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        if nbformat.writes(renewed(notebook, path)) != before:
            nbformat.write(notebook, path)

"""What notebooks show of the exercises: the cells of each one's notebook, and its solution in notebook 99."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat

from ubt_utils.report.exercises.pages import BONUS, FOLDER, Page, pages

SOLVED = FOLDER / "99_solutions.ipynb"
FOLDED = "<details>\n<summary><b>Solution {name}</b></summary>\n\n{body}\n\n</details>"


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

"""One lecture from notebooks 00 to 04: their headings, first words, formulas and pictures, as slides.

A section becomes a column of slides: one with its heading and the words that it begins with, then one for
each picture, with the words that follow it. All of its text is in the speaker's notes (the key S). So a
notebook that changes changes the lecture, and no cell needs a mark.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import SlidesExporter

from ubt_utils.report import mathml, notebooks
from ubt_utils.report.book import assets, pages
from ubt_utils.report.course import COURSE

LEFT_OUT = frozenset({  # sections that are for reading
    "Exercises", "Notation", "Glossary", "The course", "When nothing was found",
})  # fmt: skip
SEEN = (notebooks.PNG, notebooks.WIDGET_VIEW)
ROOM = 480  # characters beside a heading
UNDER = 320  # characters under a picture
TITLE = "A backdoor in CLIP, planted and removed"
TEMPLATE = Path(__file__).with_name("slides.html.j2")
REVEAL = ("dist/reveal.css", "dist/reveal.js", "dist/theme/white.css", "dist/theme/fonts/source-sans-pro")
PRESENTER = ("plugin/notes", "LICENSE")


@dataclass
class Section:
    """A heading, and what stands under it in order: texts (str) and code cells."""

    heading: str
    level: int
    parts: list[Any] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """What is text."""
        return [part for part in self.parts if isinstance(part, str)]


def sections(notebook: nbformat.NotebookNode) -> list[Section]:
    """A notebook cut at its headings of the first two levels."""
    found: list[Section] = []
    for cell in notebook.cells:
        pieces = re.split(r"^(##? .+)$", cell.source, flags=re.M) if cell.cell_type == "markdown" else [cell]
        for piece in pieces:
            if isinstance(piece, str) and re.match(r"##? ", piece):
                marks, _, heading = piece.partition(" ")
                found.append(Section(heading.strip(), len(marks)))
            elif found and (not isinstance(piece, str) or piece.strip()):
                found[-1].parts.append(piece.strip() if isinstance(piece, str) else piece)
    return found


def beginning(text: str, room: int) -> str:
    """The first paragraphs that fit into so many characters, the first one in any case."""
    taken: list[str] = []
    for paragraph in text.split("\n\n"):
        if taken and sum(map(len, taken)) + len(paragraph) > room:
            break
        taken.append(paragraph)
    return "\n\n".join(taken)


def deck() -> nbformat.NotebookNode:
    """All slides, as a notebook with nbconvert's marks; the state of its widgets is that of all notebooks."""
    whole = nbformat.v4.new_notebook()
    models: dict[str, Any] = {}
    for path in notebooks.committed():
        if path.stem in COURSE:
            notebook = nbformat.read(path, as_version=4)
            notebooks.with_stills(notebook)
            models |= notebooks.widget_models(notebook)
            for section in sections(notebook):
                if section.heading not in LEFT_OUT:
                    whole.cells += _column(section)
    state = {"state": models, "version_major": 2, "version_minor": 0}
    whole.metadata["widgets"] = {notebooks.WIDGET_STATE: state}
    return whole


def _column(section: Section) -> Iterator[nbformat.NotebookNode]:
    """The slides of a section."""
    said = beginning(section.texts[0], ROOM) if section.texts else ""
    yield _words(f"{'#' * section.level} {section.heading}\n\n{said}", "slide")
    if section.texts:
        yield _words("\n\n".join(section.texts), "notes")
    for part, after in pairwise([*section.parts, ""]):
        if isinstance(part, str) or not (shown := _shown(part)):
            continue
        cell = nbformat.v4.new_code_cell(outputs=shown, metadata=_mark("subslide"))
        yield cell
        if isinstance(after, str) and after:
            yield _words(beginning(after, UNDER), "-")


def _shown(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs of a cell that a slide shows: pictures, widgets and the stills behind these."""
    data = [(output, output.get("data", {})) for output in cell.get("outputs", ())]
    return [
        o for o, d in data if any(kind in d for kind in SEEN) or notebooks.STILL in str(d.get("text/html"))
    ]


def _words(markdown: str, kind: str) -> nbformat.NotebookNode:
    plain = pages.LINK.sub(r"\1", markdown)  # a lecture leads nowhere else
    return nbformat.v4.new_markdown_cell(mathml.drawn(plain), metadata=_mark(kind))


def _mark(kind: str) -> dict[str, Any]:
    return {"slideshow": {"slide_type": kind}}


def write(folder: Path, script: str = "") -> Path:
    """Write the slides, with all that they need, into a folder. script: where the page finds the script that
    draws widgets; without it each is the picture that it begins with."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in (*REVEAL, *PRESENTER):
        source, place = assets.reveal() / name, folder / "reveal" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    exporter = SlidesExporter(
        template_file=str(TEMPLATE),
        exclude_input=True,
        exclude_anchor_links=True,
        reveal_url_prefix="reveal",
        reveal_theme="white",
    )
    given = {"widgets": script, "metadata": {"name": TITLE}}
    page, _ = exporter.from_notebook_node(deck(), resources=given)
    out = folder / "index.html"
    out.write_text(page, encoding="utf-8")
    return out

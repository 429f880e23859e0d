"""Run the notebooks in order, keep their outputs, and write them as HTML."""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from PIL import Image, ImageChops, ImageStat
from tqdm.auto import tqdm

from ubt_utils.core import paths

FOLDER = paths.home() / "notebooks"
KEPT_METADATA = {"tags"}
PNG = "image/png"
SAME = 0.3  # of 255, on average, that a color may be off


def committed() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def run(path: Path, out: Path, profile: str, **parameters: Any) -> None:
    """Run one notebook top to bottom in its folder and write it, with outputs, to `out`.

    A profile other than the notebook's own is injected as a parameter, and so are others that are
    given. A notebook that does not ask for a profile gets none. Raises
    papermill's PapermillExecutionError at the first cell that fails; `out` is then
    left as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    asked = re.search(r'^PROFILE = "(.*)"$', "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
    if asked and asked[1] != profile:
        parameters["PROFILE"] = profile
    part = out.with_suffix(".part.json")  # papermill knows notebooks by their ending
    papermill.execute_notebook(
        path, part, parameters, cwd=path.parent, kernel_name="python3",
        progress_bar=False, log_output=False,
    )  # fmt: skip
    nbformat.write(_tidy(nbformat.read(part, as_version=4)), out)
    part.unlink()


def _tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what the runner leaves behind: timings, machine-specific paths; make drawings lighter."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in KEPT_METADATA}
        for output in cell.get("outputs", ()):
            if PNG in output.get("data", {}):
                output.data[PNG] = lighter(output.data[PNG])
    return notebook


def lighter(picture: str) -> str:
    """A base64 PNG with a palette of 256 colors, where it looks the same: lines and areas do, photos do not,
    and stay as they are."""
    whole = Image.open(BytesIO(b64decode(picture))).convert("RGB")
    drawn = whole.quantize(256, dither=Image.Dither.NONE)
    apart = ImageStat.Stat(ImageChops.difference(whole, drawn.convert("RGB")))
    if max(apart.mean) > SAME:
        return picture
    held = BytesIO()
    drawn.save(held, "PNG", optimize=True)
    return b64encode(held.getvalue()).decode()


def html(path: Path, folder: Path) -> Path:
    """Write a notebook with its outputs as one HTML page, links to notebooks rewritten."""
    folder.mkdir(parents=True, exist_ok=True)
    page, _ = HTMLExporter().from_filename(str(path))
    for other in committed():
        page = page.replace(f'href="{other.name}', f'href="{other.stem}.html')
    out = folder / f"{path.stem}.html"
    part = out.with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, out)
    return out


def reproduce(profile: str) -> None:
    """Run every notebook in place, in order, and write the HTML under runs/html."""
    for path in (bar := tqdm(committed(), "notebooks", unit="notebook")):
        bar.set_postfix_str(path.name)
        run(path, path, profile)
        html(path, paths.runs() / "html")

"""Build the book into one folder that opens from disk: the pages by Sphinx, the slides by nbconvert, and the
playground where it has been made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ubt_utils.core import paths
from ubt_utils.report.book import assets, slides


def build(out: Path | None = None) -> None:
    """Build the book into a folder (runs/book unless named); its first page is index.html. A warning of
    Sphinx is an error: a link that leads nowhere, a page that nothing leads to, a docstring that it cannot
    read. ValueError where there is one, or where this is no checkout."""
    sources = paths.home() / "docs"
    if not (sources / "conf.py").exists():
        raise ValueError(f"{paths.home()} is no checkout: the book is made from docs/, which no wheel holds")
    folder = out or paths.runs() / "book"
    shutil.rmtree(
        folder / "_modules", ignore_errors=True
    )  # viewcode would keep what it once linked from there
    words = ["-W", "--keep-going", "-q", "-E", "-c", str(sources), "-d", str(paths.runs() / "book-read")]
    words += ["-t", "playground"] if with_playground(folder) else []  # what docs/index.md says of it is shown
    # A process of its own: Sphinx changes modules that it reads, and this one may have more to do.
    if subprocess.run([sys.executable, "-m", "sphinx", *words, str(paths.home()), str(folder)]).returncode:
        raise ValueError("the book has errors: Sphinx names them above")
    script = assets.widgets()
    slides.write(folder / "slides", f"../_static/{script.name}" if script else "")
    print(f"open {folder / 'index.html'}; the slides are {folder / 'slides' / 'index.html'}")


def with_playground(folder: Path) -> bool:
    """Lay runs/playground into the book's folder, in place of what lies there; False where none is made."""
    made, laid = paths.runs() / "playground", folder / "playground"
    shutil.rmtree(laid, ignore_errors=True)
    if not (made / "index.html").exists():
        return False
    shutil.copytree(made, laid)
    return True

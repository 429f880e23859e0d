"""Sphinx's settings for the book; `make book` builds it into runs/book.

The sources lie all over the checkout (notebooks, METHOD.md, …), so that is where Sphinx begins. Notebooks are
shown with the outputs that are committed: the tests run them, the book does not run them again. Only
`docs/claims.md` is run, since its numbers are read from the records while the book is made.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from ubt_utils.report.book import assets, docstrings, formulas, pages

TOP = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPT = assets.widgets()

project = PROJECT["name"]
author = copyright = PROJECT["authors"][0]["name"] if "authors" in PROJECT else "The ubt-utils authors"
version = release = PROJECT["version"]
html_title = "UBT for CLIP"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [*pages.FILES]
exclude_patterns = [".venv", "runs", "data", "build", "dist"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {SCRIPT.name: {}} if SCRIPT else {}

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
add_module_names = False
html_math_renderer = "mathml"

html_theme = "furo"
html_static_path = ["_static", *([str(SCRIPT)] if SCRIPT else [])]
html_css_files = ["book.css"]
html_additional_pages = {"index": "first.html"}  # the door when the folder is opened
html_show_sourcelink = False
html_copy_source = False


def _read(app, docname, source) -> None:
    """Hand Sphinx the text of a page as `pages.read` has it."""
    places = {Path(app.env.doc2path(name, base=False)).as_posix() for name in app.env.found_docs}
    name = Path(app.env.doc2path(docname, base=False)).as_posix()
    source[0] = pages.read(name, source[0], places, pages.repository())


def _docstring(app, what, name, obj, options, lines) -> None:
    lines[:] = docstrings.as_rst(lines)


def setup(app) -> None:
    """Connect what the kit does itself."""
    app.add_html_math_renderer("mathml", (formulas.inline, None), (formulas.block, None))
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _docstring)

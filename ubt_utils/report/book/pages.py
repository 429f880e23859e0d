"""The sources of the book as Sphinx is to read them: links that lead somewhere, notebooks, pages of the code.

Sphinx reads the files where they lie, from the top of the checkout; what is changed is the text that it gets.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from posixpath import normpath

import nbformat
from myst_parser.slugs import github_slugify

from ubt_utils.core import paths
from ubt_utils.report import notebooks

FILES = (  # what becomes a page, from the top of the checkout
    "docs/*.md", "docs/api/*.md", "notebooks/[0-9][0-9]_*.ipynb", "results/ENDPOINTS.md",
    "README.md", "METHOD.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
)  # fmt: skip
API = "docs/api/"
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])+)\]\(([^()\s]+)\)")
FENCED = re.compile(r"(^ *```.*?^ *```[ \t]*$)", re.M | re.S)
ELSEWHERE = ("http:", "https:", "mailto:")


def repository() -> str:
    """The public address of the repository, from pyproject.toml; "" while there is none."""
    project = tomllib.loads((paths.home() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").rstrip("/")


def read(name: str, text: str, known: Collection[str], address: str = "") -> str:
    """The text that Sphinx gets for the file `name` (from the top, with its ending). known: all files that
    become pages; address: of the repository. ValueError for a link to a file that does not exist."""
    folder = name.rpartition("/")[0]

    def linked(part: str) -> str:
        return with_links(part, folder, known, address)

    if name.endswith(".ipynb"):
        return _notebook(name, text, linked, address)
    if name.startswith(API) and (room := Path(name).stem) != "index":
        return linked(text) + code(room)
    return linked(text)


def with_links(text: str, folder: str, known: Collection[str], address: str = "") -> str:
    """Markdown whose links to files lead to pages: those to code to its page, those to other files to the
    repository, where it has an address; without one, their words alone stay."""

    def lead(found: re.Match[str]) -> str:
        title, target = found.groups()
        if target.startswith(ELSEWHERE):
            return found[0]
        path, _, anchor = target.partition("#")
        place = normpath(f"{folder}/{path}").lstrip("/") if path else ""
        if not path or place in known:
            return f"[{title}]({path}{_anchor(anchor)})"
        return _to_file(title, place, address)

    parts = FENCED.split(text)
    return "".join(part if i % 2 else LINK.sub(lead, part) for i, part in enumerate(parts))


def _anchor(heading: str) -> str:
    """Jupyter's anchor of a heading (`Two-words:-x`) as that of the page; "" for none."""
    return f"#{github_slugify(heading.replace('-', ' '))}" if heading else ""


def _to_file(title: str, place: str, address: str) -> str:
    there = paths.home() / place
    if not there.exists():
        raise ValueError(f"the link [{title}] leads to {place}, which does not exist")
    is_code = there.suffix == ".py" or (there / "__init__.py").exists()
    if is_code and place.startswith(f"{paths.PACKAGE.name}/"):
        module = place.removesuffix(".py").replace("/", ".")
        return f"{{py:mod}}`{title.replace('`', '')} <{module}>`"
    return f"[{title}]({address}/tree/main/{place})" if address else title


def _notebook(name: str, text: str, linked: Callable[[str], str], address: str) -> str:
    """A notebook with a still behind each widget, links that lead to pages, and doors to run it elsewhere."""
    notebook = nbformat.reads(text, as_version=4)
    notebooks.with_stills(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source)
    if address:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(doors(name, address), id="doors"))
    return json.dumps(notebook)


def doors(name: str, address: str) -> str:
    """Links that open a notebook on a hosted machine, for a repository at `address` on GitHub."""
    slug = address.partition("github.com/")[2]
    colab = f"https://colab.research.google.com/github/{slug}/blob/main/{name}"
    binder = f"https://mybinder.org/v2/gh/{slug}/main?urlpath=lab/tree/{name}"
    return f"[Open in Colab]({colab}) · [open on Binder]({binder})"


def code(room: str) -> str:
    """The page of a room of the package, as Markdown: a section a module, from its docstrings."""
    found = paths.PACKAGE / room
    files = sorted(found.rglob("*.py")) if found.is_dir() else [found.with_suffix(".py")]
    if not all(path.exists() for path in files) or not files:
        raise ValueError(f"docs/api/{room}.md is of no room of {paths.PACKAGE.name}")
    return _doors(room) + "".join(_module(path) for path in files)


def _doors(room: str) -> str:
    """What the room itself offers, as links to where it is defined; "" where it names nothing."""
    package = import_module(f"{paths.PACKAGE.name}.{room}")
    offered = {name: getattr(package, name) for name in getattr(package, "__all__", ())}
    known = {name: thing.__module__ for name, thing in offered.items() if hasattr(thing, "__qualname__")}
    links = [f"{{py:obj}}`{name} <{module}.{name}>`" for name, module in known.items()]
    return f"\n\n`from {package.__name__} import`: {', '.join(links)}\n" if links else ""


def _module(path: Path) -> str:
    parts = path.relative_to(paths.PACKAGE.parent).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    title = module.partition(".")[2]
    body = f".. automodule:: {module}\n   :members:\n   :ignore-module-all:\n"
    return f"\n\n## {title}\n\n```{{eval-rst}}\n{body}```\n"

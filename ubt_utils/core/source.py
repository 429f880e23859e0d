"""A checksum of the code that a stage runs, so that its folder is not reused when that code changes.

Counted are the given modules and what they import of this package, module by module, without comments,
docstrings and blank lines. A package's own `__init__` counts where something is imported from it. What is
found at run time (a trigger, a defense, a data set) must be named by the stage.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

from ubt_utils.core.paths import PACKAGE

ROOT = PACKAGE.name
# These move files about and note where a number was made, but make none; and settings, which count by value.
UNCOUNTED = frozenset(
    f"{ROOT}.{name}"
    for name in (
        *(f"core.{part}" for part in ("store", "provenance", "paths", "source", "checksum", "records")),
        *("profiles.base", "ubt.settings", "clip.recipe"),
    )
)


def digest(*modules: str) -> str:
    """SHA-256 over the source of modules (dotted names) and of what they import of this package. The same on
    every version of Python."""
    h = hashlib.sha256()
    for name in sorted(closure(*modules)):
        h.update(f"{name}\n{_plain(name)}\n".encode())
    return h.hexdigest()


def closure(*modules: str) -> set[str]:
    """The modules, and all of this package that they import, directly or not."""
    found, todo = set(), set(modules)
    while todo:
        name = todo.pop()
        if name not in found and name not in UNCOUNTED:
            found.add(name)
            todo |= _imports(name)
    return found


def _file(name: str) -> Path | None:
    """The source file of a dotted name; None where it is no module of this package."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _text(name: str) -> str:
    path = _file(name)
    if path is None:
        raise ValueError(f"{name} is no module of {ROOT}")
    return path.read_text(encoding="utf-8")


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_text(name))


@cache
def _imports(name: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == ROOT:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if _file(inner) else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == ROOT}
    return frozenset(found)


@cache
def _plain(name: str) -> str:
    """A module's code without comments, docstrings and blank lines; by its text, since syntax trees are
    written otherwise by each version of Python."""
    lines = _text(name).splitlines()
    for node in ast.walk(_tree(name)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                start, end = first.lineno - 1, first.end_lineno or first.lineno
                lines[start:end] = [lines[start][: first.col_offset], *[""] * (end - start - 1)]
    for token in tokenize.generate_tokens(io.StringIO(_text(name)).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())

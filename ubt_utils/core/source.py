"""A checksum of the code that a stage runs, so that its folder is not reused when that code changes.

Counted are the given modules and what they import of this package, module by module, without comments,
docstrings and layout. A package's own `__init__` counts where something is imported from it. What is found at
run time (a trigger, a defense) must be named by the stage.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from ubt_utils.core.paths import PACKAGE

ROOT = PACKAGE.name
# These move files about and note where a number was made, but make none.
UNCOUNTED = frozenset(
    f"{ROOT}.core.{name}" for name in ("store", "provenance", "paths", "source", "checksum")
)


def digest(*modules: str) -> str:
    """SHA-256 over the source of modules (dotted names) and of what they import of this package."""
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
def _tree(name: str) -> ast.Module:
    path = _file(name)
    if path is None:
        raise ValueError(f"{name} is no module of {ROOT}")
    return ast.parse(path.read_text(encoding="utf-8"))


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
    """A module's code without comments, docstrings and layout."""
    tree = ast.parse(ast.unparse(_tree(name)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)

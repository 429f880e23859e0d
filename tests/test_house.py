"""The rooms of the package, and which may see which: the data flows one way."""

import ast
from pathlib import Path

import pytest

import ubt_utils

PACKAGE = Path(ubt_utils.__file__).parent
ROOMS = (  # each may import from those before it, and from itself
    "core", "kernels", "data", "clip", "attacks", "evaluate", "ubt", "baselines", "profiles", "stages",
    "study", "own", "report", "play", "__main__",
)  # fmt: skip
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ubt_utils":
            inner = node.module.split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
    return found


def test_nothing_lies_loose_beside_the_command_line():
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {room_of(p) for p in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path):
    allowed = set(ROOMS[: ROOMS.index(room_of(path)) + 1])
    assert imported(path) <= allowed


def test_kernels_know_nothing_but_torch():
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert imported(path) <= {"kernels"}, path.name


def test_report_loads_no_model():
    for path in (PACKAGE / "report").rglob("*.py"):
        if path.parent.name != "exercises":  # those compute their answers from the kit itself
            assert not imported(path) & {"clip", "stages", "study"}, path.name


def test_every_public_function_says_what_it_does():
    silent = []
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert silent == []

"""The tables and the picture of the README, all from the records, by one command."""

from __future__ import annotations

from pathlib import Path

from ubt_utils.core import paths
from ubt_utils.report import tables


def sections() -> dict[str, str]:
    """Per mark in the README, what stands between it and its end."""
    return {"headline": tables.as_markdown("mini")}


def text(readme: str) -> str:
    """The README with every section as the records have it; ValueError for a mark that is not there once."""
    for name, table in sections().items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        if readme.count(first) != 1 or readme.count(last) != 1:
            raise ValueError(f"README.md needs the marks {first} and {last}, once each")
        before, rest = readme.split(first)
        readme = f"{before}{first}\n{table}\n{last}{rest.split(last)[1]}"
    return readme


def write() -> Path:
    """Write every table of README.md, and its picture, from the records."""
    path = paths.home() / "README.md"
    path.write_text(text(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path

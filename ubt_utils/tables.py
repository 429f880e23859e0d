"""Recorded tables: Parquet, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def write(path: Path, table: pd.DataFrame) -> Path:
    """Write a table under its final name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.replace(path)
    return path


def read(path: Path, command: str) -> pd.DataFrame:
    """A recorded table; a FileNotFoundError names the command that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} under results/{path.parent.name}: run `{command}`")
    return pd.read_parquet(path)

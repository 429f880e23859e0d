"""Recorded tables: Parquet, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def write(path: Path, table: pd.DataFrame) -> Path:
    """Write a table under its final name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.replace(path)
    return path


def merge(path: Path, table: pd.DataFrame, keys: list[str], replaced: Sequence[tuple] = ()) -> Path:
    """Write the rows of a recorded table and of a new one, sorted by `keys`; where both have a key, the new
    row stays. replaced: keys whose old rows go, whether there are new ones or not.
    """
    if path.exists():
        old = pd.read_parquet(path)
        gone = [key in set(replaced) for key in old[keys].itertuples(index=False, name=None)]
        table = pd.concat([old[[not g for g in gone]], table])
    if table.empty:
        return path
    table = table.drop_duplicates(keys, keep="last")
    return write(path, table.sort_values(keys, ignore_index=True))


def read(path: Path, command: str) -> pd.DataFrame:
    """A recorded table; a FileNotFoundError names the command that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} under results/{path.parent.name}: run `{command}`")
    return pd.read_parquet(path)

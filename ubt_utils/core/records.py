"""What is committed under `results/`: a JSON record a run, a Parquet table a study, predictions a profile and
attack, a JSON a benchmark."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from ubt_utils.core import device, paths, provenance
from ubt_utils.core.checksum import whole, write_whole

CPU = "cpu"
NONE = "none"  # as an attack: the clean twin; as a defense: undefended
KEYS = ("profile", "attack", "defense", "seed")
PREDICTED = (*KEYS, "picture")  # the keys of predictions
PREDICTIONS = "predictions.parquet"  # in the folder of an evaluation
FIGURES = "figures.json"  # tables that figures draw, of one run
MATRIX, DETECTORS, TUNING, SWEEP, WEIGHTS = (
    f"{name}.parquet" for name in ("matrix", "detectors", "tuning", "attack_sweep", "weights")
)


def name_of(attack: str, defense: str, seed: int) -> str:
    """The file name of one record."""
    return f"{attack}-{defense}-{seed}.json"


def path_of(record: Mapping[str, Any]) -> Path:
    """Where a record is kept: in the folder of its profile."""
    return paths.results() / record["profile"] / name_of(*(record[key] for key in KEYS[1:]))


def write(record: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write one record, whole or not at all, under results/ or at a path of one's own."""
    path = path or path_of(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")
    return path


def public_model(record: Mapping[str, Any]) -> str:
    """The public model that a record descends from: the SHA-256 of its weights, or, in records from before
    stages kept that, a note."""
    return record["f0"] if "f0" in record else content_of(record["contents"]["pretrain"])


def content_of(contents: Mapping[str, str]) -> str:
    """The SHA-256 of the weights among a stage's files."""
    return contents["model.safetensors"]


def load(path: Path) -> dict[str, Any]:
    """One record."""
    return json.loads(path.read_text(encoding="utf-8"))


def read(profile: str) -> list[dict[str, Any]]:
    """All records of a profile; a FileNotFoundError says how to make them."""
    found = sorted((paths.results() / profile).glob("*-*-*.json"))
    if not found:
        raise FileNotFoundError(f"no records under results/{profile}: run `make results`")
    return [load(path) for path in found]


def benchmark_path(name: str, kind: str = CPU) -> Path:
    """Where the record of a script under benchmarks/ lies; those of another kind of device than a CPU lie in
    a folder of its own."""
    folder = paths.results() / "benchmarks"
    return (folder if kind == CPU else folder / kind) / f"{name}.json"


def write_benchmark(name: str, entry: Mapping[str, Any]) -> Path:
    """Write what a script under benchmarks/ measured to results/benchmarks/, with where; prints it, too."""
    print(json.dumps(entry, indent=1))
    return write({**entry, "environment": provenance.environment()}, benchmark_path(name, device.pick().type))


def read_benchmark(name: str, kind: str = CPU) -> dict[str, Any]:
    """What `write_benchmark` recorded on that kind of device."""
    return load(benchmark_path(name, kind))


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as Parquet, whole or not at all, and on the disk before it gets its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        table.to_parquet(part, index=False, compression="zstd")
    return path


def merge(path: Path, table: pd.DataFrame, keys: list[str], gone: Collection[tuple] = ()) -> Path:
    """Write the rows of a recorded table and of new ones, sorted by `keys`; where both have a key, the new
    row stays. gone: keys whose old rows go, whole or their first parts, all of one length. Processes that
    merge into one table wait for each other, by a hidden file beside it, since each may have a `runs/` of
    its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            table = pd.concat([_without(pd.read_parquet(path), keys, gone), table])
        elif table.empty:
            return path
        table = table.drop_duplicates(keys, keep="last")
        return write_table(path, table.sort_values(keys, ignore_index=True))


def _without(table: pd.DataFrame, keys: list[str], gone: Collection[tuple]) -> pd.DataFrame:
    """The rows whose keys do not begin with one of `gone`."""
    if not gone or table.empty:
        return table
    (parts,) = {len(key) for key in gone}
    return table[~pd.MultiIndex.from_frame(table[keys[:parts]]).isin(list(gone))]


def predictions_path(family: str, profile: str, attack: str) -> Path:
    """Where the predictions of a profile's models under one attack are kept."""
    return paths.results() / family / "predictions" / f"{profile}-{attack}.parquet"


def table_path(family: str, name: str) -> Path:
    """Where a study of a family of profiles is kept."""
    return paths.results() / family / name


def read_table(path: Path, command: str) -> pd.DataFrame:
    """A recorded table; a FileNotFoundError names the command that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"no {path.name} under results/{path.parent.name}: run `{command}`")
    return pd.read_parquet(path)

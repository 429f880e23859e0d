"""Records and tables under results/: written whole, merged without losing a row."""

import json
import multiprocessing
import os
import threading
from fnmatch import fnmatch

import pandas as pd
import pytest
import torch
from filelock import FileLock

from ubt_utils.core import paths, records

KEYS = ["attack", "seed"]


def rows(*keys: tuple[str, int], value: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame([{"attack": attack, "seed": seed, "value": value} for attack, seed in keys])


def read(path) -> list[tuple[str, int, float]]:
    return list(pd.read_parquet(path).itertuples(index=False, name=None))


@pytest.fixture
def table(results_root, runs_root):
    return records.table_path("tiny", "matrix.parquet")


def test_a_table_is_where_its_family_is(results_root):
    assert records.table_path("tiny", records.MATRIX) == results_root / "tiny" / "matrix.parquet"


def test_new_rows_join_the_old_ones_and_stand_for_those_of_their_key(table):
    records.merge(table, rows(("sig", 1), ("badnets", 0)), KEYS)
    assert read(table) == [("badnets", 0, 0.0), ("sig", 1, 0.0)]
    records.merge(table, rows(("sig", 1), ("sig", 0), value=1.0), KEYS)
    assert read(table) == [("badnets", 0, 0.0), ("sig", 0, 1.0), ("sig", 1, 1.0)]


def test_rows_that_are_gone_go_and_no_others(table):
    records.merge(table, rows(("sig", 0), ("sig", 1), ("badnets", 1)), KEYS)
    records.merge(table, rows(("wanet", 0)), KEYS, gone=[("sig", 1), ("never", 7)])
    assert read(table) == [("badnets", 1, 0.0), ("sig", 0, 0.0), ("wanet", 0, 0.0)]
    records.merge(table, rows(("sig", 0), value=2.0), KEYS, gone=[("sig", 0)])  # a new row is no old one
    assert read(table) == [("badnets", 1, 0.0), ("sig", 0, 2.0), ("wanet", 0, 0.0)]


def test_nothing_makes_no_table(table):
    assert not records.merge(table, pd.DataFrame(), KEYS).exists()


def test_of_a_table_whose_rows_all_go_an_empty_one_stays(table):
    records.merge(table, rows(("sig", 0)), KEYS)
    records.merge(table, pd.DataFrame(), KEYS, gone=[("sig", 0)])
    assert read(table) == []


LOCK = ".matrix.parquet.lock"


def test_who_merges_waits_for_whoever_holds_the_table(table, monkeypatch):
    records.merge(table, rows(("sig", 0)), KEYS)
    monkeypatch.setenv("UBT_RUNS", str(table.parent / "other runs"))
    late = threading.Thread(target=records.merge, args=(table, rows(("sig", 1)), KEYS))
    with FileLock(table.parent / LOCK):
        late.start()
        late.join(0.5)
        assert late.is_alive() and len(read(table)) == 1
    late.join(30)
    assert len(read(table)) == 2


def merge_many(name: str, start) -> None:
    """Merge twenty rows of its own, one at a time, with a `runs/` of its own."""
    os.environ["UBT_RUNS"] += name
    path = records.table_path("tiny", "matrix.parquet")
    start.wait()
    for seed in range(20):
        records.merge(path, rows((name, seed)), KEYS)


def test_processes_that_merge_at_once_lose_no_row(table):
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    both = [spawn.Process(target=merge_many, args=(name, start)) for name in ("badnets", "sig")]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.exitcode for one in both] == [0, 0]
    assert read(table) == [(name, seed, 0.0) for name in ("badnets", "sig") for seed in range(20)]
    assert set(os.listdir(table.parent)) <= {"matrix.parquet", LOCK}


def test_a_kill_while_a_table_is_written_leaves_the_one_before(table, monkeypatch):
    records.merge(table, rows(("sig", 0)), KEYS)

    parts = []

    def killed(frame, path, **_):
        parts.append(path)
        path.write_bytes(b"half a ta")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                records.merge(table, rows(("sig", 1)), KEYS)
    assert len(set(parts)) == 2 and {part.parent for part in parts} == {table.parent}
    assert not any(part.exists() for part in parts)
    assert read(table) == [("sig", 0, 0.0)]
    records.merge(table, rows(("sig", 1)), KEYS)
    assert len(read(table)) == 2


def test_a_table_is_on_the_disk_before_it_gets_its_name(table, monkeypatch):
    done, sync, rename = [], os.fsync, type(table).replace

    def fsync(number):
        done.append((os.fstat(number).st_ino, os.fstat(number).st_size))
        sync(number)

    def replace(path, target):
        if target == table:
            assert done == [(path.stat().st_ino, path.stat().st_size)] and path.stat().st_size > 0
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(type(table), "replace", replace)
    records.write_table(table, rows(("sig", 0)))
    assert len(done) == 1 and len(read(table)) == 1


def test_what_lies_beside_a_table_while_it_is_written_is_never_committed(table, monkeypatch):
    patterns = (paths.home() / ".gitignore").read_text().split()
    beside, write = set(), pd.DataFrame.to_parquet

    def spy(frame, path, **more):
        write(frame, path, **more)
        beside.update(os.listdir(table.parent))

    monkeypatch.setattr(pd.DataFrame, "to_parquet", spy)
    records.merge(table, rows(("sig", 0)), KEYS)
    assert len(beside) == 2 and LOCK in beside
    for name in beside:
        assert any(fnmatch(name, pattern) for pattern in patterns), name
    assert not any(fnmatch(table.name, pattern) for pattern in patterns)


# Records


RECORD = {"profile": "tiny", "attack": "sig", "defense": "ubt", "seed": 3, "metrics": {"asr": 0.5}}


def test_a_record_is_a_file_named_by_its_keys(results_root):
    path = records.write(RECORD)
    assert path == results_root / "tiny" / "sig-ubt-3.json" == records.path_of(RECORD)
    assert records.load(path) == RECORD and records.read("tiny") == [RECORD]
    elsewhere = records.write(RECORD, results_root / "cells" / "x.json")
    assert json.loads(elsewhere.read_text()) == RECORD


def test_without_records_the_command_that_makes_them_is_named(results_root):
    with pytest.raises(FileNotFoundError, match="no records under results/tiny: run `make results`"):
        records.read("tiny")


def test_the_public_model_is_that_of_the_note_or_of_the_contents():
    contents = {"pretrain": {"model.safetensors": "abc"}, "attack": {"model.safetensors": "def"}}
    assert records.public_model({"contents": contents}) == "abc"
    assert records.public_model({"contents": {}, "f0": "note"}) == "note"


def test_a_benchmark_says_where_it_was_measured(results_root, capsys):
    records.write_benchmark("scoring", {"seconds": 2.0})
    found = records.read_benchmark("scoring")
    assert found["seconds"] == 2.0 and found["environment"]["device"].startswith("cpu")
    assert json.loads(capsys.readouterr().out) == {"seconds": 2.0}


def test_a_gpu_s_benchmarks_do_not_take_the_place_of_a_cpu_s(results_root, monkeypatch):
    records.write_benchmark("scoring", {"seconds": 2.0})
    with monkeypatch.context() as at_a_gpu:
        at_a_gpu.setattr(records.device, "pick", lambda: torch.device("cuda"))
        at_a_gpu.setattr(records.provenance, "environment", lambda: {"device": "a GPU"})
        path = records.write_benchmark("scoring", {"seconds": 0.1})
    assert path == results_root / "benchmarks" / "cuda" / "scoring.json"
    assert records.read_benchmark("scoring")["seconds"] == 2.0
    assert records.read_benchmark("scoring", "cuda")["environment"] == {"device": "a GPU"}


def test_what_is_committed_lies_at_home_unless_a_variable_says_otherwise(monkeypatch):
    monkeypatch.delenv("UBT_RESULTS", raising=False)
    assert paths.results() == paths.home() / "results" and os.path.isdir(paths.results())

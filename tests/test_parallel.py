"""Jobs in processes of their own: results in order, errors passed on, and a note of how many there are."""

import os

import joblib
import pytest
import torch

from ubt_utils.core import provenance
from ubt_utils.study import parallel


def workers_noted(job: int) -> tuple[int, int, int]:
    """What a job sees: how many share the machine, its threads, its process."""
    return provenance.environment()["workers"], torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert parallel.each(abs, [-3, 2, -1], workers, "abs", "number") == [3, 2, 1]
    assert parallel.each(abs, [], workers, "abs", "number") == []


def test_what_a_job_raises_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        parallel.each(int, ["1", "one"], 1, "int", "text")


def test_what_a_job_raises_in_another_process_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        parallel.each(int, ["1", "one"], 2, "int", "text")


def test_no_workers_do_nothing():
    with pytest.raises(ValueError, match="at least one worker is needed, got 0"):
        parallel.each(abs, [-3], 0, "abs", "number")


def test_each_process_has_its_share_and_knows_of_the_others():
    alone = parallel.each(workers_noted, [0], 1, "look", "job")
    assert alone == [(1, torch.get_num_threads(), os.getpid())]
    shared = parallel.each(workers_noted, range(4), 2, "look", "job")
    threads = max(1, joblib.cpu_count() // 2)
    assert {found[:2] for found in shared} == {(2, threads)} and os.getpid() not in {p for *_, p in shared}


def runs_noted(job: int) -> tuple[str | None, int]:
    return os.environ.get("UBT_RUNS"), provenance.environment()["workers"]


def test_processes_that_are_kept_know_what_was_set_since(monkeypatch):
    for workers, folder in ((2, "one"), (2, "two"), (3, "three")):
        monkeypatch.setenv("UBT_RUNS", folder)
        assert set(parallel.each(runs_noted, range(6), workers, "look", "job")) == {(folder, workers)}
    monkeypatch.delenv("UBT_RUNS")
    assert set(parallel.each(runs_noted, range(6), 3, "look", "job")) == {(None, 3)}

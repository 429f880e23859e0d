"""The campaign of faults in a small form, and what it has found."""

import errno
import importlib
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ubt_utils.clip import archives
from ubt_utils.core import provenance, records, store, tensors

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SEED, TRIED = 1, 8  # kinds of bad inputs


class Fails:
    """Cannot be saved, and the disk has no part in it."""

    def __reduce__(self):
        raise RuntimeError("its own")


@pytest.fixture(scope="module")
def faults():
    """The module of that name under benchmarks/faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield lambda name: importlib.import_module(f"faults.{name}")


@pytest.fixture(scope="module")
def valid(faults, tmp_path_factory) -> Path:
    return faults("world").build(tmp_path_factory.mktemp("faults") / "valid", faults("inputs").PAIRS)


def test_what_is_not_spoiled_is_accepted_and_what_is_ends_in_one_line(faults, valid, tmp_path):
    inputs, mutations = faults("inputs"), faults("mutations")
    inputs.control(valid, tmp_path / "case")
    for number, name in enumerate(random.Random(SEED).sample(sorted(mutations.CERTAIN), TRIED)):
        draw = random.Random(f"{SEED} {number}")
        assert inputs.attempt(valid, tmp_path / "case", name, draw) == inputs.REFUSED, name


def test_a_defect_is_seen(faults, valid, tmp_path, monkeypatch):
    inputs, mutations = faults("inputs"), faults("mutations")

    def ask(end) -> str:
        monkeypatch.setattr(inputs.cli, "main", end)
        return inputs.attempt(valid, tmp_path / "case", "checkpoint_cut", random.Random(0))

    def half_written(words):
        Path(words[words.index("--out") + 1]).parent.mkdir()
        Path(words[words.index("--out") + 1]).write_text("half")
        print("error: no")
        return 2

    assert "checkpoint_cut" in mutations.CERTAIN
    assert ask(lambda words: 0) == "accepted, though it must be refused"
    assert ask(lambda words: 1 // 0).startswith("ZeroDivisionError: ")
    assert ask(lambda words: 1) == "exit status 1"
    assert ask(lambda words: 2).startswith("no advice")
    assert ask(lambda words: print("Traceback\nerror: no") or 2) == "a traceback"
    assert ask(half_written) == "left behind: out/fu.pt"


def test_a_killed_stage_ends_with_the_same_bits_and_other_bits_are_seen(faults, tmp_path):
    jobs, kills, full = (faults(name) for name in ("jobs", "kills", "full"))
    (job,) = jobs.undisturbed(tmp_path / "whole", [jobs.Job("pretrain", ("pretrain", *jobs.TINY))])
    assert kills.killed(job, tmp_path / "whole", tmp_path / "kill", 0.2)
    assert jobs.compared(tmp_path / "kill", tmp_path / "whole", job).startswith("lost, or other bits: ")
    assert kills.resumed(job, tmp_path / "whole", tmp_path / "kill") == ""
    (part,) = (p for p in (tmp_path / "kill" / "runs").rglob("model.safetensors"))
    part.write_bytes(part.read_bytes()[:-1])
    assert jobs.compared(tmp_path / "kill", tmp_path / "whole", job).startswith("lost, or other bits: ")
    assert full.used(tmp_path / "whole") > part.stat().st_size


def test_a_full_disk_is_an_error_of_the_system_whatever_libraries_make_of_it(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left"):
        tensors.save({"weights": torch.ones(1000)}, Path("/dev/full"))
    with pytest.raises(RuntimeError, match="its own"):
        tensors.save(Fails(), tmp_path / "m.pt")
    like, full = tmp_path / "like.safetensors", tmp_path / "full.safetensors"
    save_file({"weights": torch.ones(1000)}, like)

    def no_room(*_, **__):  # as a small disk has it
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", no_room)
    with pytest.raises(OSError, match="No space left") as told:
        archives.write({"weights": torch.ones(1000)}, full, like)
    assert told.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir() if path != like] == ["m.pt"]


def test_memory_is_measured_without_mapped_files(faults, tmp_path):
    memory = faults("memory")
    memory.written(tmp_path / "tars", 7)
    assert [path.name for path in (tmp_path / "tars").iterdir()] == ["000000000.tar"]
    assert memory.anonymous(1 << 30) == 0 and memory.anonymous(os.getpid()) > 1 << 20


def test_scores_are_what_has_a_number_for_each_pair(faults, tmp_path):
    held = {"drops": torch.ones(6, 7), "pool": torch.ones(7, dtype=torch.uint8), "anchors": torch.ones(3)}
    store.save_arrays(tmp_path, **held)
    assert faults("memory").scores(tmp_path, 7) == 4 * 6 * 7 + 7


def test_a_record_keeps_what_other_parts_found_and_is_gone_on_from_at_its_own_commit(
    faults, results_root, monkeypatch
):
    record = faults("record")
    for commit, part in (("abc", "inputs"), ("abd", "kills"), ("abd", "kills")):
        monkeypatch.setattr(provenance, "commit", lambda commit=commit: commit)
        record.keep(part, 3, {"tried": len(record.begun(part, 3))})
    found = records.read_benchmark("reliability")
    assert {name: found[name]["commit"] for name in ("inputs", "kills")} == {"inputs": "abc", "kills": "abd"}
    assert found["kills"]["tried"] == 4 and record.begun("kills", 3) == found["kills"]
    assert record.begun("kills", 4) == record.begun("inputs", 3) == {}
    for unclear in ("unknown", "abd+changes"):
        monkeypatch.setattr(provenance, "commit", lambda unclear=unclear: unclear)
        record.keep("kills", 3, {"tried": 9})
        assert record.begun("kills", 3) == {}


def test_a_campaign_goes_on_behind_the_last_kill_that_is_recorded(faults, results_root, monkeypatch):
    jobs, kills, record = (faults(name) for name in ("jobs", "kills", "record"))
    asked, tried = [jobs.Job("a", ()), jobs.Job("b", ())], []

    def killed(job, whole, root, after):
        tried.append((job.name, after))
        return len(tried) != 2  # one comes too late

    monkeypatch.setattr(provenance, "commit", lambda: "abc")
    monkeypatch.setattr(kills, "timed", lambda *_: 1.0)
    monkeypatch.setattr(kills, "killed", killed)
    monkeypatch.setattr(kills, "resumed", lambda *_: "lost" if len(tried) == 3 else "")

    def campaign(count: int) -> list:
        found = list(kills.campaign(Path("r"), count, 0, Path("w"), asked))
        for one in found:
            record.keep("kills", 0, one)
        return found

    straight = campaign(4)[-1]
    whole, tried[:] = list(tried), []
    assert [name for name, _ in whole] == ["a", "b", "b", "a", "b"] and straight["killed"] == 4
    assert [one["number"] for one in straight["found"]] == [2] and campaign(4) == []
    (results_root / "benchmarks" / "reliability.json").unlink()
    campaign(2)
    assert campaign(4)[-1] | {"date": ""} == record.begun("kills", 0) | {"date": ""}
    assert tried == whole and record.begun("kills", 0)["by_job"] == straight["by_job"] == {"a": 2, "b": 2}


def test_no_row_is_lost_by_processes_that_merge(faults, tmp_path):
    together = faults("together")
    for number in range(2):
        together.merge(tmp_path / "t.parquet", number)
    assert len(together.pd.read_parquet(tmp_path / "t.parquet")) == 2 * together.ROWS

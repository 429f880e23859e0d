"""The campaign of faults in a small form, and what it has found."""

import errno
import importlib
import os
import random
from pathlib import Path

import pytest
import torch

from ubt_utils.clip import archives
from ubt_utils.own import output

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


def test_a_full_disk_is_an_error_of_the_system_whatever_torch_makes_of_it(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        archives.save({"weights": torch.ones(1000)}, Path("/dev/full"))
    with pytest.raises(RuntimeError, match="its own"):
        archives.save(Fails(), tmp_path / "m.pt")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOSPC, errno.EIO])
def test_what_the_system_refuses_is_told_in_one_line_with_what_to_do(number):
    @output.told()
    def work():
        raise OSError(number, "it is so", "x" * 5000)

    with pytest.raises(ValueError, match="make room" if number == errno.ENOSPC else "name another") as told:
        work()
    assert len(str(told.value)) < 200 and str(told.value).startswith("it is so (xxx")
    with pytest.raises(PermissionError), output.told():
        raise PermissionError(errno.EACCES, "no")


def test_memory_is_measured_without_mapped_files(faults, tmp_path):
    memory = faults("memory")
    memory.written(tmp_path / "tars", 7)
    assert [path.name for path in (tmp_path / "tars").iterdir()] == ["000000000.tar"]
    assert memory.anonymous(1 << 30) == 0 and memory.anonymous(os.getpid()) > 1 << 20


def test_no_row_is_lost_by_processes_that_merge(faults, tmp_path):
    together = faults("together")
    for number in range(2):
        together.merge(tmp_path / "t.parquet", number)
    assert len(together.pd.read_parquet(tmp_path / "t.parquet")) == 2 * together.ROWS

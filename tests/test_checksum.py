"""Checksums that are remembered, and files that are written whole."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ubt_utils.core import checksum
from ubt_utils.core.checksum import remembered, sha256_of, write_whole

ROOT = Path(__file__).parents[1]


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files that are read, in order."""
    names, real = [], checksum.sha256_of
    monkeypatch.setattr(checksum, "sha256_of", lambda path: names.append(path.name) or real(path))
    return names


@pytest.fixture
def file(tmp_path, runs_root) -> Path:
    path = tmp_path / "shard.tar"
    path.write_bytes(b"many gigabytes")
    return path


def test_a_checksum_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_is_read_once(file, reads):
    assert remembered(file) == remembered(file) == hashlib.sha256(b"many gigabytes").hexdigest()
    assert reads == ["shard.tar"]


NEVER = """
import sys
from pathlib import Path
from ubt_utils.core import checksum
checksum.sha256_of = None
print(checksum.remembered(Path(sys.argv[1])))
"""


def test_it_is_read_once_for_all_processes(file):
    known = remembered(file)
    done = subprocess.run(
        [sys.executable, "-c", NEVER, str(file)], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )  # fmt: skip
    assert done.stdout.strip() == known, done.stderr[-2000:]


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_file_replaced_by_one_of_its_size_is_read_again(file, reads, keep_times):
    before, state = remembered(file), file.stat()
    other = file.with_name("other")
    other.write_bytes(b"MANY GIGABYTES")
    if keep_times:  # as a copying tool would
        os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(file)
    assert file.stat().st_size == state.st_size
    assert remembered(file) == hashlib.sha256(b"MANY GIGABYTES").hexdigest() != before
    assert reads == ["shard.tar"] * 2


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", "null", '{"state": 1, "sha256": "x"}', "\xff"])
def test_a_damaged_note_is_ignored_and_written_anew(file, runs_root, reads, note):
    known = remembered(file)
    (path,) = (runs_root / "checksums").glob("*.json")
    path.write_bytes(note.encode("latin-1"))
    assert remembered(file) == known == remembered(file)
    assert reads == ["shard.tar"] * 2 and json.loads(path.read_text())["sha256"] == known


def test_several_files_have_one_checksum_of_names_order_and_bytes(tmp_path, file, reads):
    other = tmp_path / "other.tar"
    other.write_bytes(b"more")
    known = remembered(file, other)
    assert remembered(file, other) == known and sorted(reads) == ["other.tar", "shard.tar"]
    assert len({known, remembered(other, file), remembered(file), remembered(other)}) == 4
    renamed = tmp_path / "third.tar"
    shutil.copy(other, renamed)
    assert remembered(file, renamed) != known
    other.write_bytes(b"mor3")
    assert remembered(file, other) != known


def test_the_place_of_the_data_does_not_matter(tmp_path, runs_root):
    found = []
    for place in ("here", "there"):
        for name in ("a/1.png", "b/2.png"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True)
            path.write_bytes(name.encode())
        found.append(remembered(*(tmp_path / place / name for name in ("a/1.png", "b/2.png"))))
    assert found[0] == found[1]


def test_a_file_that_is_not_there_is_an_error(tmp_path, runs_root):
    with pytest.raises(FileNotFoundError):
        remembered(tmp_path / "nowhere")


# Written whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_whole(path, "before")

    def fails(*_):
        raise OSError("no more")

    monkeypatch.setattr(checksum.os, "fsync", fails)
    with pytest.raises(OSError, match="no more"):
        write_whole(path, "after")
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_what_the_umask_lets_them(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "x", "text")
        assert os.umask(mask) == mask  # and it is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode

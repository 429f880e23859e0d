"""Fetching the photo sets: whole files under their final names, or none."""

import hashlib
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import photo_files as files
import pytest

from ubt_utils.data import fetch
from ubt_utils.data.fetch import FetchError

ROOT = Path(__file__).parents[1]
Lfs, Sibling = namedtuple("Lfs", "sha256"), namedtuple("Sibling", "rfilename size lfs")
Info = namedtuple("Info", "siblings sha")


@pytest.fixture
def mirror(tmp_path):
    return files.whole(tmp_path / "mirror")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def hub(mirror, monkeypatch):
    """A public hub that holds what the mirror holds."""

    def remote(repo):
        return mirror / {s.repo: s.folder for s in fetch.SOURCES}[repo]

    class Api:
        def dataset_info(self, repo, revision, files_metadata, timeout):
            found = sorted(remote(repo).glob("*.parquet"))
            rows = [Sibling(f"data/{p.name}", p.stat().st_size, Lfs(sha(p))) for p in found]
            return Info([Sibling("README.md", 3, None), *rows], "c0ffee")

    def download(repo, name, repo_type, revision, local_dir):
        assert (repo_type, revision) == ("dataset", "c0ffee")
        out = Path(local_dir) / name
        out.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(remote(repo) / Path(name).name, out)

    monkeypatch.setattr(fetch.huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(fetch.huggingface_hub, "hf_hub_download", download)
    return mirror


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder):
    return {str(p.relative_to(folder)): sha(p) for p in folder.rglob("*.parquet")}


def test_a_mirror_is_copied_whole(mirror, data):
    assert len(fetch.fetch(mirror)) == 5
    assert tree(data) == tree(mirror)


def test_the_hub_gives_the_same(hub, data):
    fetch.fetch()
    assert tree(data) == tree(hub)


def test_checksums_are_written_as_sha256sum_reads_them(mirror, data):
    fetch.fetch(mirror)
    for folder in ("tiny-imagenet", "flickr8k"):
        done = subprocess.run(["sha256sum", "-c", fetch.SUMS], cwd=data / folder, capture_output=True)
        assert done.returncode == 0


def test_a_second_run_fetches_nothing(mirror, data):
    fetch.fetch(mirror)
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")}
    assert fetch.fetch(mirror) == []
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")} == before


def test_an_interrupted_copy_goes_on_where_it_stopped(mirror, data, monkeypatch):
    item = fetch.plan(mirror)[0]
    item.path.parent.mkdir(parents=True)
    part = item.path.with_name(item.name + ".part")
    whole = (mirror / "tiny-imagenet" / item.name).read_bytes()
    part.write_bytes(whole[:100])
    copied = []
    monkeypatch.setattr(fetch.shutil, "copyfileobj", lambda r, w, n: copied.append(w.write(r.read())))
    fetch.fetch(mirror)
    assert copied[0] == len(whole) - 100
    assert item.path.read_bytes() == whole and not part.exists()


def test_a_spoiled_part_is_thrown_away(mirror, data):
    item = fetch.plan(mirror)[0]
    item.path.parent.mkdir(parents=True)
    part = item.path.with_name(item.name + ".part")
    part.write_bytes(b"other bytes")
    with pytest.raises(FetchError, match=r"came with SHA-256 .* expected .*nothing was kept"):
        fetch.fetch(mirror)
    assert not part.exists() and not item.path.exists()
    fetch.fetch(mirror)
    assert item.path.exists()


def test_a_kill_leaves_no_file_under_its_final_name(mirror, data, monkeypatch):
    def killed(read, write, size):
        write.write(read.read(50))
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch.shutil, "copyfileobj", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(mirror)
    assert not tree(data)


def test_a_download_that_changed_on_the_way_is_refused(hub, data, monkeypatch):
    honest = fetch.huggingface_hub.hf_hub_download

    def spoil(*args, **kwargs):
        got = Path(honest(*args, **kwargs))
        got.write_bytes(got.read_bytes() + b"x")
        return got

    monkeypatch.setattr(fetch.huggingface_hub, "hf_hub_download", spoil)
    with pytest.raises(FetchError, match="came with SHA-256"):
        fetch.fetch()
    assert not tree(data)


def test_a_foreign_file_of_the_same_name_is_not_overwritten(mirror, data):
    item = fetch.plan(mirror)[0]
    item.path.parent.mkdir(parents=True)
    item.path.write_bytes(b"mine")
    with pytest.raises(FetchError, match="is not the file of this source"):
        fetch.fetch(mirror)
    assert item.path.read_bytes() == b"mine"


def test_no_network_is_told_with_the_way_out(data, monkeypatch):
    class Away:
        def dataset_info(self, *args, **kwargs):
            raise ConnectionError("no route")

    monkeypatch.setattr(fetch.huggingface_hub, "HfApi", Away)
    with pytest.raises(FetchError, match=r"ConnectionError.*is the network there\?.*--mirror"):
        fetch.fetch()


def test_a_download_that_stops_says_that_it_goes_on(hub, data, monkeypatch):
    def stop(*args, **kwargs):
        raise TimeoutError("read timed out")

    monkeypatch.setattr(fetch.huggingface_hub, "hf_hub_download", stop)
    with pytest.raises(FetchError, match=r"stopped .*run it again"):
        fetch.fetch()


def test_a_hub_without_a_split_is_told(hub, data):
    (hub / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FetchError, match="has no files of test"):
        fetch.fetch()


def test_a_mirror_without_a_split_is_told(mirror, data):
    (mirror / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FetchError, match="the mirror has no test files"):
        fetch.fetch(mirror)


def test_no_room_is_told_before_anything_is_fetched(mirror, data, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage(10, 0, 10))
    with pytest.raises(FetchError, match="MB are needed"):
        fetch.fetch(mirror)
    assert not tree(data)


def test_the_plan_tells_sizes_terms_and_what_is_there(mirror, data):
    text = fetch.as_text(fetch.plan(mirror))
    assert "non-commercial" in text and "cite Hodosh" in text
    assert text.count("to fetch\n") == 5 and not data.exists()
    fetch.fetch(mirror)
    assert fetch.as_text(fetch.plan(mirror)).endswith(f"to fetch: 0.0 MB, into {data}")


def script(*words, **env):
    return subprocess.run(
        ["bash", "data_download.sh", *words], cwd=ROOT, capture_output=True, text=True, env=os.environ | env
    )


def test_the_script_tells_sizes_and_licences_dry(mirror, data):
    done = script("photos", "--dry-run", "--mirror", str(mirror))
    assert done.returncode == 0, done.stderr
    assert "160 MB" in done.stdout and "non-commercial" in done.stdout
    assert not data.exists()


@pytest.mark.parametrize("words", [("photoz",), ("photos", "--mirror"), ("photos", "--mirror", "/not/there")])
def test_the_script_refuses_what_it_does_not_know(words):
    done = script(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error:")

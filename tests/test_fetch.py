"""Fetching the photo sets: whole files under their final names, or none."""

import hashlib
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import photo_files as files
import pytest

from ubt_utils.data import fetch, fetch_notes, listing, room, sources
from ubt_utils.data.listing import FetchError

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
    fake_hub(monkeypatch, {s.repo: mirror / s.folder for s in sources.PHOTOS})
    return mirror


def fake_hub(monkeypatch, folders):
    """A public hub that holds what the folder of each repository holds, listed in no good order."""
    revisions = {s.repo: s.revision for s in (*sources.PHOTOS, sources.CC3M)}

    class Api:
        def dataset_info(self, repo, revision, files_metadata, timeout):
            assert revision == revisions[repo]
            found = sorted(folders[repo].iterdir(), reverse=True)
            rows = [Sibling(f"data/{p.name}", p.stat().st_size, Lfs(sha(p))) for p in found]
            return Info([Sibling("README.md", 3, None), *rows], "c0ffee")

    def download(repo, name, repo_type, revision, local_dir):
        assert (repo_type, revision) == ("dataset", "c0ffee")
        out = Path(local_dir) / name
        out.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(folders[repo] / Path(name).name, out)

    monkeypatch.setattr(listing.huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(listing.huggingface_hub, "hf_hub_download", download)


def no_network(monkeypatch):
    """A hub that nobody can ask."""

    class Away:
        def dataset_info(self, *args, **kwargs):
            raise ConnectionError("no route")

    monkeypatch.setattr(listing.huggingface_hub, "HfApi", Away)


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder):
    return {str(p.relative_to(folder)): sha(p) for p in folder.rglob("*.parquet")}


def test_a_mirror_is_copied_whole(mirror, data):
    assert len(fetch.fetch(fetch.plan(mirror=mirror))) == 5
    assert tree(data) == tree(mirror)


def test_the_hub_gives_the_same(hub, data):
    fetch.fetch(fetch.plan())
    assert tree(data) == tree(hub)


def test_checksums_are_written_as_sha256sum_reads_them(mirror, data):
    fetch.fetch(fetch.plan(mirror=mirror))
    for folder in ("tiny-imagenet", "flickr8k"):
        done = subprocess.run(["sha256sum", "-c", fetch.SUMS], cwd=data / folder, capture_output=True)
        assert done.returncode == 0


def test_a_second_run_fetches_nothing(mirror, data):
    fetch.fetch(fetch.plan(mirror=mirror))
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")}
    assert fetch.fetch(fetch.plan(mirror=mirror)) == []
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")} == before


def test_an_interrupted_copy_goes_on_where_it_stopped(mirror, data, monkeypatch):
    item = fetch.plan(mirror=mirror)[0]
    item.path.parent.mkdir(parents=True)
    part = item.path.with_name(item.name + ".part")
    whole = (mirror / "tiny-imagenet" / item.name).read_bytes()
    part.write_bytes(whole[:100])
    copied = []
    monkeypatch.setattr(listing.shutil, "copyfileobj", lambda r, w, n: copied.append(w.write(r.read())))
    fetch.fetch(fetch.plan(mirror=mirror))
    assert copied[0] == len(whole) - 100
    assert item.path.read_bytes() == whole and not part.exists()


def test_a_spoiled_part_is_thrown_away(mirror, data):
    item = fetch.plan(mirror=mirror)[0]
    item.path.parent.mkdir(parents=True)
    part = item.path.with_name(item.name + ".part")
    part.write_bytes(b"other bytes")
    with pytest.raises(FetchError, match=r"came with SHA-256 .* expected .*nothing was kept"):
        fetch.fetch(fetch.plan(mirror=mirror))
    assert not part.exists() and not item.path.exists()
    fetch.fetch(fetch.plan(mirror=mirror))
    assert item.path.exists()


def test_a_kill_leaves_no_file_under_its_final_name(mirror, data, monkeypatch):
    def killed(read, write, size):
        write.write(read.read(50))
        raise KeyboardInterrupt

    monkeypatch.setattr(listing.shutil, "copyfileobj", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(fetch.plan(mirror=mirror))
    assert not tree(data)


def test_a_download_that_changed_on_the_way_is_refused(hub, data, monkeypatch):
    honest = listing.huggingface_hub.hf_hub_download

    def spoil(*args, **kwargs):
        got = Path(honest(*args, **kwargs))
        got.write_bytes(got.read_bytes() + b"x")
        return got

    monkeypatch.setattr(listing.huggingface_hub, "hf_hub_download", spoil)
    with pytest.raises(FetchError, match="came with SHA-256"):
        fetch.fetch(fetch.plan())
    assert not tree(data)


def test_a_foreign_file_of_the_same_name_is_not_overwritten(mirror, data):
    item = fetch.plan(mirror=mirror)[0]
    item.path.parent.mkdir(parents=True)
    item.path.write_bytes(b"mine")
    with pytest.raises(FetchError, match="is not the file of this source"):
        fetch.fetch(fetch.plan(mirror=mirror))
    assert item.path.read_bytes() == b"mine"


def test_no_network_is_told_with_the_way_out(data, monkeypatch):
    no_network(monkeypatch)
    with pytest.raises(FetchError, match=r"ConnectionError.*is the network there\?.*--mirror"):
        fetch.fetch(fetch.plan())


def test_a_download_that_stops_says_that_it_goes_on(hub, data, monkeypatch):
    def stop(*args, **kwargs):
        raise TimeoutError("read timed out")

    monkeypatch.setattr(listing.huggingface_hub, "hf_hub_download", stop)
    with pytest.raises(FetchError, match=r"stopped .*run it again"):
        fetch.fetch(fetch.plan())


def test_a_hub_without_a_split_is_told(hub, data):
    (hub / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FetchError, match="has no files of test"):
        fetch.fetch(fetch.plan())


def test_a_mirror_without_a_split_is_told(mirror, data):
    (mirror / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FetchError, match="the mirror has no test files"):
        fetch.fetch(fetch.plan(mirror=mirror))


def test_no_room_is_told_before_anything_is_fetched(mirror, data, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage(10, 0, 10))
    with pytest.raises(FetchError, match="MB are needed"):
        fetch.fetch(fetch.plan(mirror=mirror))
    assert not tree(data)


def test_the_plan_tells_sizes_terms_and_what_is_there(mirror, data):
    text = fetch_notes.as_text(fetch.plan(mirror=mirror))
    assert "non-commercial" in text and "cite Hodosh" in text
    assert text.count("to fetch\n") == 5 and "5 of 5 files" in text and not data.exists()
    fetch.fetch(fetch.plan(mirror=mirror))
    assert f"to fetch: 0 of 5 files, 0.0 MB, into {data}; " in fetch_notes.as_text(fetch.plan(mirror=mirror))


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

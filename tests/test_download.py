"""Fetching data: whole files under their final names, or none; from a hub and a mirror, both made here."""

import hashlib
import inspect
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from collections import namedtuple
from pathlib import Path

import photo_files
import pytest
from huggingface_hub import HfApi, snapshot_download

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.data import download, shards
from ubt_utils.data.decoding import PhotoError
from ubt_utils.data.download import FetchError

ROOT = Path(__file__).parents[1]
PHOTOS, CC3M = download.PHOTOS, download.CC3M
TINY = "tiny-imagenet/train-00000-of-00001.parquet"
TWO = 6000  # pairs that take two of the hub's shards
COMMIT = "c0ffee" + "0" * 34
Lfs, Sibling, Info = (
    namedtuple("Lfs", "sha256"),
    namedtuple("Sibling", "rfilename size lfs blob_id"),
    namedtuple("Info", "siblings sha"),
)


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def blob(path):
    """The id that git itself gives to a file."""
    return subprocess.run(["git", "hash-object", path], capture_output=True, text=True).stdout.strip()


def tree(folder):
    """Data files under their final places, with checksums."""
    found = [*folder.glob("*/*.parquet"), *folder.glob("paper/pairs/*.tar")]
    return {str(path.relative_to(folder)): sha(path) for path in found}


def write_shard(path, pairs, number):
    """A shard of so many pairs, no two shards alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i in range(pairs):
            for kind, text in (("jpg", b"no picture"), ("txt", f"{number}, {i}".encode()), ("json", b"{}")):
                member = tarfile.TarInfo(f"{i:09}.{kind}")
                member.size = len(text)
                file.addfile(member, io.BytesIO(text))


@pytest.fixture(autouse=True)
def checksums(tmp_path, monkeypatch):
    """A copy of checksums.json without any file's checksum; no mirror named from outside."""
    entries = json.loads(download.CHECKSUMS.read_text())
    path = tmp_path / "checksums.json"
    path.write_text(json.dumps({repo: entry | {"files": {}} for repo, entry in entries.items()}))
    monkeypatch.setattr(download, "CHECKSUMS", path)
    monkeypatch.delenv("UBT_MIRROR", raising=False)
    return path


def note(checksums, repo, **files):
    """Note SHA-256s of files in the copy of checksums.json."""
    table = json.loads(checksums.read_text())
    table[repo]["files"] = files
    checksums.write_text(json.dumps(table))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mirror(tmp_path):
    """Both photo sets, and shards as img2dataset names them: of five pairs, five, and three."""
    place = photo_files.whole(tmp_path / "mirror")
    for number, pairs in enumerate((5, 5, 3)):
        write_shard(place / "paper" / "pairs" / f"{number:05}.tar", pairs, number)
    return place


class Hub:
    """A public hub of folders: lists their files in no good order, in a subfolder; writes what is asked."""

    def __init__(self, folders):
        self.folders, self.lfs, self.spoil, self.stops_before, self.fetched = folders, True, b"", "", []

    def dataset_info(self, repo, revision, files_metadata, timeout):
        assert files_metadata and revision == json.loads(download.CHECKSUMS.read_text())[repo]["revision"]
        found = [(p, Lfs(sha(p)) if self.lfs else None) for p in self.folders[repo].iterdir()]
        rows = [Sibling(f"data/{p.name}", p.stat().st_size, lfs, blob(p)) for p, lfs in sorted(found)[::-1]]
        return Info([Sibling("README.md", 3, None, "0" * 40), *rows], COMMIT)

    def snapshot_download(self, repo, repo_type, revision, local_dir, allow_patterns):
        assert (repo_type, revision) == ("dataset", COMMIT)
        for name in allow_patterns:
            if self.stops_before and name.endswith(self.stops_before):
                raise TimeoutError("read timed out")
            out = Path(local_dir) / name
            if not out.exists():
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes((self.folders[repo] / out.name).read_bytes() + self.spoil)
                self.fetched.append(out.name)


@pytest.fixture
def hub(mirror, tmp_path, monkeypatch):
    """A hub with the mirror's photos, twelve shards for training, and one that nobody asked for."""
    for number in range(12):
        write_shard(tmp_path / "hub" / f"cc3m-train-{number:04}.tar", 3, number)
    write_shard(tmp_path / "hub" / "cc3m-validation-0000.tar", 3, 99)
    made = Hub({s.repo: mirror / s.folder for s in PHOTOS} | {CC3M.repo: tmp_path / "hub"})
    monkeypatch.setattr(download.huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(download.huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


@pytest.fixture
def no_network(monkeypatch):
    class Away:
        def dataset_info(self, *args, **kwargs):
            raise ConnectionError("no route")

    monkeypatch.setattr(download.huggingface_hub, "HfApi", Away)


def first(data):
    """Where the first file of photos belongs, its folder made."""
    (data / TINY).parent.mkdir(parents=True)
    return data / TINY


def no_room(monkeypatch, free=10):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(free, 0, free))


def photos_of(folder):
    return {name: digest for name, digest in tree(folder).items() if name.endswith("parquet")}


def test_the_library_takes_what_it_is_given(tmp_path):
    info, snapshot = (inspect.signature(f) for f in (HfApi.dataset_info, snapshot_download))
    info.bind(None, "a/b", revision="main", files_metadata=True, timeout=30)
    snapshot.bind("a/b", repo_type="dataset", revision=COMMIT, local_dir=tmp_path, allow_patterns=["a"])


def test_the_repository_pins_every_source():
    entries = json.loads((ROOT / "ubt_utils/data/checksums.json").read_text())
    assert set(entries) == {source.repo for known in download.PROFILES.values() for source in known}
    for entry in entries.values():
        assert set(entry) == {"revision", "files"}
        assert all(len(digest) == 64 for digest in entry["files"].values())
        assert len(entry["revision"]) == 40 or (entry["revision"] == "main" and not entry["files"])


@pytest.mark.parametrize("named", ["argument", "variable"])
def test_a_mirror_is_copied_whole(mirror, data, monkeypatch, capsys, named):
    if named == "variable":
        monkeypatch.setenv("UBT_MIRROR", str(mirror))
    download.fetch("photos", mirror=mirror if named == "argument" else None)
    assert tree(data) == photos_of(mirror) and len(tree(data)) == 5
    text = capsys.readouterr().out
    assert "no checksum is known for 2 of them" in text and "5 of 5 files fetched" in text
    assert not list(data.rglob(".incoming"))


def test_a_mirror_one_folder_deeper_gives_the_same(mirror, data):
    expected = photos_of(mirror)
    for source in PHOTOS:
        shutil.move(mirror / source.folder, mirror / "moving")
        shutil.copytree(mirror / "moving", mirror / source.folder / "data")
        shutil.rmtree(mirror / "moving")
    download.fetch("photos", mirror=mirror)
    assert tree(data) == expected


@pytest.mark.parametrize("lfs", [True, False])  # R27: small files are not in LFS, and have no SHA-256
def test_the_hub_gives_the_same(hub, mirror, data, lfs):
    hub.lfs = lfs
    download.fetch("photos")
    assert tree(data) == photos_of(mirror) and not list(data.rglob(".incoming"))


@pytest.mark.parametrize("lfs", [True, False])
def test_checksums_are_written_as_sha256sum_reads_them(hub, data, lfs):
    hub.lfs = lfs
    download.fetch("photos")
    for source in PHOTOS:
        place = data / source.folder
        assert len((place / download.SUMS).read_text().splitlines()) == len(source.splits)
        assert subprocess.run(["sha256sum", "-c", "--strict", download.SUMS], cwd=place).returncode == 0


def test_a_second_run_fetches_nothing(hub, data, capsys):
    download.fetch("photos")
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")}
    download.fetch("photos")
    assert len(hub.fetched) == 5 and "0 of 5 files fetched" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*.parquet")} == before


def test_a_killed_copy_leaves_no_final_name_and_goes_on_where_it_stopped(mirror, data, monkeypatch):
    def killed(read, write, size):
        write.write(read.read(50))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.shutil, "copyfileobj", killed)
        download.fetch("paper", 5, mirror)
    assert tree(data) == {}
    copied = []
    monkeypatch.setattr(download.shutil, "copyfileobj", lambda r, w, n: copied.append(w.write(r.read())))
    download.fetch("paper", 5, mirror)
    shard = mirror / "paper/pairs/00000.tar"
    assert copied == [shard.stat().st_size - 50] and tree(data) == {"paper/pairs/00000.tar": sha(shard)}


def test_what_came_before_an_interruption_is_not_fetched_again(hub, data, monkeypatch):
    hub.stops_before = "0001.tar"
    with pytest.raises(FetchError, match=r"stopped \(TimeoutError.*run it again, it goes on there.*--mirror"):
        download.fetch("paper", TWO)
    assert hub.fetched == ["cc3m-train-0000.tar"] and tree(data) == {}
    hub.stops_before = ""
    shard = (hub.folders[CC3M.repo] / "cc3m-train-0001.tar").stat().st_size
    no_room(monkeypatch, free=int(1.06 * shard))  # what is there already needs no room
    download.fetch("paper", TWO)
    assert hub.fetched == ["cc3m-train-0000.tar", "cc3m-train-0001.tar"] and len(tree(data)) == 2


@pytest.mark.parametrize("lfs", [True, False])
def test_a_download_with_another_checksum_is_refused(hub, data, lfs):
    hub.lfs, hub.spoil = lfs, b"x"
    with pytest.raises(FetchError, match=r"train-.*parquet came with another checksum .*not kept"):
        download.fetch("photos")
    assert tree(data) == {}
    hub.spoil = b""
    shutil.rmtree(data / "tiny-imagenet/.incoming")
    download.fetch("photos")
    assert len(tree(data)) == 5


def test_a_download_that_misses_a_file_is_refused(hub, data, monkeypatch):
    monkeypatch.setattr(download.huggingface_hub, "snapshot_download", lambda *args, **kwargs: None)
    with pytest.raises(FetchError, match=r"train-00000-of-00001\.parquet"):
        download.fetch("photos")
    assert tree(data) == {}


def test_a_spoiled_part_is_thrown_away(mirror, data):
    part = first(data).parent / ".incoming" / Path(TINY).name
    part.parent.mkdir()
    part.write_bytes(b"other bytes")
    with pytest.raises(FetchError, match="came with another checksum"):
        download.fetch("photos", mirror=mirror)
    assert not part.exists() and tree(data) == {}
    download.fetch("photos", mirror=mirror)
    assert tree(data) == photos_of(mirror)


@pytest.mark.parametrize("place", ["hub", "mirror"])
def test_the_noted_checksum_counts_wherever_a_file_comes_from(hub, mirror, data, checksums, place, capsys):
    note(checksums, PHOTOS[0].repo, **{Path(TINY).name: "a" * 64})
    with pytest.raises(FetchError, match=f"came with another checksum than {'a' * 12}"):
        download.fetch("photos", mirror=mirror if place == "mirror" else None)
    assert tree(data) == {}
    note(checksums, PHOTOS[0].repo, **{Path(TINY).name: sha(mirror / TINY)})
    download.fetch("photos", mirror=mirror if place == "mirror" else None)
    assert tree(data) == photos_of(mirror)
    assert ("no checksum is known for 1 of them" in capsys.readouterr().out) == (place == "mirror")


def test_a_foreign_file_of_the_same_name_is_not_overwritten(hub, data):
    first(data).write_bytes(b"mine")
    with pytest.raises(FetchError, match="is not the file of this source: move it away"):
        download.fetch("photos")
    assert (data / TINY).read_bytes() == b"mine" and hub.fetched == []


def test_a_pointer_of_git_lfs_is_refused(mirror, data):
    for name, words in ((TINY, ("photos", None)), ("paper/pairs/00001.tar", ("paper", 5))):
        (mirror / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
        with pytest.raises(PhotoError, match=rf"{Path(name).name} is a Git LFS pointer.*run `git lfs pull`"):
            download.fetch(*words, mirror)
    assert not data.exists()


@pytest.mark.parametrize("place", ["hub", "mirror"])
def test_a_missing_split_is_an_error(hub, mirror, data, place):
    (mirror / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FetchError, match=rf"(flickr8k at {COMMIT}|mirror/flickr8k) has no test files"):
        download.fetch("photos", mirror=mirror if place == "mirror" else None)
    assert not data.exists()


def test_no_room_is_an_error_before_anything_is_fetched(hub, data, monkeypatch, capsys):
    no_room(monkeypatch)
    with pytest.raises(FetchError, match=r"Too little room: .* needed under .*, 10.0B are free. Make some"):
        download.fetch("photos")
    assert hub.fetched == [] and not data.exists()
    capsys.readouterr()
    download.fetch("photos", dry_run=True)
    assert "Too little room" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["photos"], ["photos", "--dry-run"], ["paper", "--subset", "1000"]])
def test_no_network_is_one_clear_error(no_network, data, capsys, words):
    assert cli.main(["fetch", "--profile", *words]) == 2
    error = capsys.readouterr().err
    assert "(ConnectionError): no network? a folder with the same files" in error
    assert "--mirror or in UBT_MIRROR" in error and not data.exists()


def test_a_dry_run_of_paper_without_network_gives_estimates(no_network, data, capsys):
    download.fetch("paper", 100_000, dry_run=True)
    text = capsys.readouterr().out
    assert text.startswith("estimates, at 465MB a shard: the hub cannot be asked")
    assert "cc3m-train-0000.tar to cc3m-train-0019.tar: 20 files, 9.30GB" in text
    assert "acknowledged" in text and not data.exists()


def test_a_dry_run_names_terms_and_sizes_and_writes_nothing(hub, mirror, data, capsys):
    download.fetch("photos", dry_run=True)
    text = capsys.readouterr().out
    assert "non-commercial" in text and "cite Hodosh" in text
    size = sum((mirror / name).stat().st_size for name in photos_of(mirror))
    assert f"to fetch: 5 of 5 files, {download._bytes(size)}, into {data}." in text
    assert hub.fetched == [] and not data.exists() and "Too little" not in text
    download.fetch("photos")
    download.fetch("photos", dry_run=True)
    assert "to fetch: 0 of 5 files, 0.00B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pairs", "count"), [(1, 1), (5_045, 1), (5_046, 2), (500_000, 100), (2_905_954, 576)]
)
def test_shards_for_a_subset(pairs, count):
    assert download.estimate(pairs) == count


def test_only_the_shards_that_a_subset_needs_come_and_the_profile_reads_them(hub, data):
    download.fetch("paper", TWO)
    names = ["cc3m-train-0000.tar", "cc3m-train-0001.tar"]
    assert tree(data) == {f"paper/pairs/{name}": sha(hub.folders[CC3M.repo] / name) for name in names}
    rows = shards.from_shards(shards.shards(data / profiles.get("paper").sets.pairs))
    assert [row.caption for row in rows] == [f"{n}, {i}".encode() for n in range(2) for i in range(3)]


def test_paper_has_as_many_pairs_as_its_profile_unless_named(hub, data, capsys):
    hub.folders[CC3M.repo] = data.parent / "many"
    for number in range(101):
        write_shard(data.parent / "many" / f"cc3m-train-{number:04}.tar", 1, number)
    download.fetch("paper", dry_run=True)
    assert profiles.get("paper").sets.limit == 500_000 and "100 of 100 files" in capsys.readouterr().out


def test_checksums_of_a_larger_fetch_stay_when_a_smaller_one_follows(hub, data):
    download.fetch("paper", TWO)
    download.fetch("paper", 1)
    place = data / "paper" / "pairs"
    assert (place / download.SUMS).read_text().count("cc3m-train") == 2
    assert subprocess.run(["sha256sum", "-c", "--strict", download.SUMS], cwd=place).returncode == 0


@pytest.mark.parametrize(("pairs", "count"), [(1, 1), (5, 1), (6, 2), (13, 3)])
def test_a_mirror_may_have_shards_of_any_size(mirror, data, pairs, count):
    download.fetch("paper", pairs, mirror)
    names = [f"paper/pairs/{number:05}.tar" for number in range(count)]
    assert tree(data) == {name: sha(mirror / name) for name in names}


def test_a_mirror_of_the_hub_has_its_training_shards_read_alone(hub, mirror, data):
    shutil.rmtree(mirror / "paper")
    shutil.copytree(hub.folders[CC3M.repo], mirror / "paper/pairs/data")
    with pytest.raises(FetchError, match="hold 36 pairs, not 37: name fewer by --subset"):
        download.fetch("paper", 37, mirror)
    download.fetch("paper", 36, mirror)
    assert len(tree(data)) == 12 and not any("validation" in name for name in tree(data))


def test_a_mirror_without_shards_is_an_error(tmp_path, data):
    with pytest.raises(FetchError, match=r"paper/pairs has no train files \(\*\.tar\)"):
        download.fetch("paper", 5, tmp_path)


def test_a_truncated_shard_of_a_mirror_is_refused(mirror, data):
    path = mirror / "paper/pairs/00001.tar"
    path.write_bytes(path.read_bytes()[:2048])
    with pytest.raises(PhotoError, match=r"00001.tar is truncated"):
        download.fetch("paper", 5, mirror)
    assert not data.exists()


def test_a_file_that_is_no_shard_is_refused(mirror, data):
    (mirror / "paper/pairs/00000.tar").write_bytes(b"x" * 1024 + bytes(1024))
    with pytest.raises(PhotoError, match=r"00000.tar is no tar archive .*put another copy"):
        download.fetch("paper", 5, mirror)


def test_what_was_fetched_is_noted_with_the_commit(hub, mirror, data, checksums):
    download.fetch("photos")
    (data / "flickr8k" / "test-00000-of-00001.parquet").unlink()
    download.note_checksums("photos")
    entry = json.loads(checksums.read_text())["jxie/flickr8k"]
    names = ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"]
    assert entry == {"revision": COMMIT, "files": {n: sha(mirror / "flickr8k" / n) for n in names}}
    assert download.in_mirror(PHOTOS[0], mirror)[0].digest == sha(mirror / TINY)
    (data / TINY).write_bytes(b"spoiled")
    with pytest.raises(FetchError, match="is not the file of this source"):
        download.note_checksums("photos")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paper", "--subset", "0"], "--subset 0: name a positive number of pairs"),
        (["paper", "--subset", "-5"], "--subset -5: name a positive number"),
        (["paper", "--subset", "2905955"], "the hub copy has 2,905,954"),
        (["photos", "--subset", "5"], "--subset is for the profile paper; photos is fetched whole"),
        (["mini"], "profile 'mini' has nothing to fetch: known are photos, paper"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_bad_arguments_are_refused_before_the_hub_is_asked(data, capsys, monkeypatch, words, message, dry):
    monkeypatch.setattr(download.huggingface_hub, "HfApi", lambda: pytest.fail("asked"))
    assert cli.main(["fetch", "--profile", *words, *dry]) == 2
    assert message in capsys.readouterr().err
    assert not data.exists()


@pytest.fixture
def kit(tmp_path):
    """A checkout whose Python only prints what it is called with, and where."""
    place = tmp_path / "a kit"
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/.ready").touch()
    (place / "Makefile").write_text("setup:\n")
    python = place / ".venv/bin/python"
    python.write_text('#!/usr/bin/env bash\nprintf "\\n%q " "$PWD" "${UBT_DATA:-}" "$@" | paste -sd " "\n')
    python.chmod(0o755)
    shutil.copy(ROOT / "data_download.sh", place)
    return place


def script(kit, *words, cwd=None, **env):
    """Run the script from a folder, by a relative path."""
    cwd = cwd or kit
    path = os.path.relpath(kit / "data_download.sh", cwd)
    return subprocess.run(
        ["bash", path, *words], cwd=cwd, capture_output=True, text=True, env=os.environ | env
    )


def called(done):
    """Where the script called Python, with which data folder, and with which words after `-m ubt_utils`."""
    assert done.returncode == 0, done.stderr
    place, data, *words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:2] == ["-m", "ubt_utils"]
    return Path(place), data, words[2:]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_the_script_works_from_any_folder(kit, mirror, tmp_path, dry):
    words = ("paper", "--subset", "8", "--mirror", "mirror", *dry)
    place, data, given = called(script(kit, *words, cwd=tmp_path, UBT_DATA="my data"))
    assert place == kit and data == str(tmp_path / "my data")
    assert given == ["fetch", "--profile", "paper", "--subset", "8", "--mirror", str(mirror), *dry]
    assert script(kit, "--help", cwd=tmp_path).stdout.startswith("Get and check the data")


def test_the_script_names_terms_and_hands_its_flags_on(kit, mirror, data, capsys):
    done = script(kit, "photos", "--dry-run", UBT_MIRROR=str(mirror))
    assert "160 MB" in done.stdout and "non-commercial" in done.stdout
    assert cli.main(called(done)[2]) == 0
    assert "to fetch: 5 of 5 files" in capsys.readouterr().out and not data.exists()


def test_without_an_environment_the_script_prints_its_notes(kit):
    (kit / ".venv/.ready").unlink()
    done = script(kit, "paper", "--subset", "1000", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Exact sizes are shown once `make setup`" in done.stdout and "Non-commercial" in done.stdout
    mean = f"{download.PAIRS / download.SHARDS:,.0f}"
    assert f"{download.SHARDS} shards of about {mean} pairs and 465 MB" in done.stdout
    size = download.estimate(500_000) * download.SHARD_BYTES
    assert f"500,000 pairs are about {size / 1e9:.1f} GB" in done.stdout
    decoded = shards.ShardSets.limit * 3 * shards.ShardSets.size**2
    assert f"500,000 pairs take about {decoded / 1e9:.0f} GB" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("photoz",), "unknown profile or flag 'photoz'"),
        (("photos", "--mirror"), "--mirror needs a folder"),
        (("photos", "--mirror", "/not/there"), "is not a folder"),
        (("paper", "--subset"), "--subset"), (("paper", "--subset", "0"), "--subset"),
        (("paper", "--subset", "many"), "--subset"), (("paper", "--subset", "--dry-run"), "--subset"),
        (("photos", "--subset", "5"), "--subset"), (("mini", "--subset", "5"), "--subset"),
    ],
)  # fmt: skip
def test_the_script_refuses_what_it_does_not_know(kit, words, message):
    done = script(kit, *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error:") and message in done.stderr

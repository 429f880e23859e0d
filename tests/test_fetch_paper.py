"""Fetching the pairs of the published setting: only the shards that a subset needs, whole or not at all."""

import io
import subprocess
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest
from test_fetch import fake_hub, sha

from ubt_utils import profiles
from ubt_utils.data import fetch, listing, pair_shards, room, shards, sources
from ubt_utils.data.listing import FetchError
from ubt_utils.data.photos import PhotoError

TWO = 6000  # pairs that take two of the hub's shards


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return made_hub(tmp_path, monkeypatch)


@pytest.fixture
def mirror(tmp_path):
    return made_mirror(tmp_path)


def made_hub(place, monkeypatch):
    """A public hub with twelve training shards, and one for validation, which nobody asked for."""
    for number in range(12):
        shard(place / "hub" / f"cc3m-train-{number:04}.tar", 3, number)
    shard(place / "hub" / "cc3m-validation-0000.tar", 3, 99)
    fake_hub(monkeypatch, {sources.CC3M.repo: place / "hub"})
    return place / "hub"


def made_mirror(place):
    """A mirror of shards as img2dataset names them: five pairs, five, and three."""
    for number, pairs in enumerate((5, 5, 3)):
        shard(place / "mirror" / "paper" / "pairs" / f"{number:05}.tar", pairs, number)
    return place / "mirror"


def shard(path, pairs, number):
    """A shard of so many pairs, no two shards alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for i in range(pairs):
            for kind, told in (("jpg", b"no picture"), ("txt", f"{number}, {i}".encode()), ("json", b"{}")):
                member = tarfile.TarInfo(f"{i:09}.{kind}")
                member.size = len(told)
                file.addfile(member, io.BytesIO(told))


def get(subset, mirror=None):
    return fetch.fetch(fetch.plan("paper", subset, mirror))


def there(data):
    """The shards that the profile would read, by name."""
    return {p.name: sha(p) for p in (data / "paper" / "pairs").glob("*.tar")}


def same(folder, *names):
    return {name: sha(folder / name) for name in names}


def test_only_the_shards_that_the_subset_needs_are_fetched_from_the_hub(hub, data):
    assert len(get(TWO)) == 2
    assert there(data) == same(hub, "cc3m-train-0000.tar", "cc3m-train-0001.tar")


def test_the_profile_reads_what_was_fetched(hub, data):
    get(TWO)
    sets = profiles.get("paper").sets
    captions = [row.caption for row in shards.from_shards(shards.shards(data / sets.pairs))]
    assert captions == [f"{number}, {i}".encode() for number in range(2) for i in range(3)]


@pytest.mark.parametrize(
    ("subset", "shards"), [(1, 1), (5_045, 1), (5_046, 2), (500_000, 100), (2_905_954, 576)]
)
def test_shards_for_a_subset(subset, shards):
    assert pair_shards.estimate(subset) == (shards, shards * pair_shards.SHARD_BYTES)


@pytest.mark.parametrize(("subset", "shards"), [(1, 1), (5, 1), (6, 2), (13, 3)])
def test_a_mirror_may_have_shards_of_any_size(mirror, data, subset, shards):
    get(subset, mirror)
    names = [f"{number:05}.tar" for number in range(shards)]
    assert there(data) == same(mirror / "paper" / "pairs", *names)


def test_a_mirror_with_too_few_pairs_is_told(mirror, data):
    with pytest.raises(FetchError, match=r"hold 13 pairs, 14 are asked for: name fewer by --subset"):
        get(14, mirror)
    assert not data.exists()


def test_a_mirror_without_shards_is_told(tmp_path, data):
    with pytest.raises(FetchError, match=r"the mirror has no train files \(\*\.tar\) in .*paper/pairs"):
        get(5, tmp_path)


def test_a_truncated_shard_of_a_mirror_is_refused(mirror, data):
    path = mirror / "paper" / "pairs" / "00001.tar"
    path.write_bytes(path.read_bytes()[:2048])
    with pytest.raises(PhotoError, match=r"00001.tar is truncated"):
        get(5, mirror)
    assert not data.exists()


def test_a_file_that_is_no_shard_is_refused(mirror, data):
    (mirror / "paper" / "pairs" / "00000.tar").write_bytes(b"x" * 1024 + bytes(1024))
    with pytest.raises(FetchError, match=r"00000.tar is no shard .*put another copy"):
        get(5, mirror)


def test_what_was_fetched_before_an_interruption_is_not_fetched_again(hub, data, monkeypatch):
    honest = listing.huggingface_hub.hf_hub_download

    def stop(repo, name, **kwargs):
        if name.endswith("0001.tar"):
            raise TimeoutError("read timed out")
        return honest(repo, name, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(FetchError, match=r"0001.tar stopped .*run it again"):
        patch.setattr(listing.huggingface_hub, "hf_hub_download", stop)
        get(TWO)
    assert there(data) == same(hub, "cc3m-train-0000.tar")
    assert [path.name for path in get(TWO)] == ["cc3m-train-0001.tar"]
    assert there(data) == same(hub, "cc3m-train-0000.tar", "cc3m-train-0001.tar")


def test_a_shard_goes_on_where_a_kill_stopped_it(mirror, data, monkeypatch):
    def killed(read, write, size):
        write.write(read.read(700))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(listing.shutil, "copyfileobj", killed)
        get(5, mirror)
    assert there(data) == {}
    copied = []
    monkeypatch.setattr(listing.shutil, "copyfileobj", lambda r, w, n: copied.append(w.write(r.read())))
    get(5, mirror)
    whole = mirror / "paper" / "pairs" / "00000.tar"
    assert copied == [whole.stat().st_size - 700] and there(data) == same(whole.parent, "00000.tar")


def test_a_shard_with_another_checksum_is_refused(hub, data, monkeypatch):
    honest = listing.huggingface_hub.hf_hub_download

    def spoil(*args, **kwargs):
        got = Path(honest(*args, **kwargs))
        got.write_bytes(got.read_bytes()[:-1] + b"x")
        return got

    monkeypatch.setattr(listing.huggingface_hub, "hf_hub_download", spoil)
    with pytest.raises(FetchError, match=r"paper/pairs/cc3m-train-0000.tar came with SHA-256 .*expected"):
        get(TWO)
    assert there(data) == {} and not list(data.rglob("*.part"))


def test_checksums_of_a_larger_fetch_stay_when_a_smaller_one_follows(hub, data):
    get(TWO)
    assert get(1) == []
    place = data / "paper" / "pairs"
    assert (place / fetch.SUMS).read_text().count("cc3m-train") == 2
    assert subprocess.run(["sha256sum", "-c", fetch.SUMS], cwd=place, capture_output=True).returncode == 0


def test_no_room_is_told_dry_and_stops_a_fetch(hub, data, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage(10, 0, 10))
    assert "0.0 MB free there, TOO LITTLE" in fetch.told("paper", TWO)
    with pytest.raises(FetchError, match=r"are needed under .*are free: make room, or name another"):
        get(TWO)
    assert there(data) == {}

"""What is told of the published setting's data: sizes, room, terms, dead links, what is left to the user."""

import shutil
import subprocess

import pytest
from test_fetch import ROOT, no_network, script
from test_fetch_paper import TWO, made_hub, made_mirror

from ubt_utils import __main__ as cli
from ubt_utils import profiles
from ubt_utils.data import fetch, fetch_notes, pair_shards, room


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


def test_the_profile_tells_how_many_pairs_unless_named(data, monkeypatch):
    no_network(monkeypatch)
    assert "pairs: 500,000 asked for" in fetch.told("paper")
    assert pair_shards.asked("paper", None, None) == profiles.get("paper").sets.limit


def test_a_dry_run_tells_files_sizes_terms_and_dead_links_and_writes_nothing(hub, data, capsys):
    assert cli.main(["fetch", "--profile", "paper", "--subset", str(TWO), "--dry-run"]) == 0
    text = capsys.readouterr().out
    size = sum((hub / f"cc3m-train-000{i}.tar").stat().st_size for i in range(2))
    assert (
        text.count("to fetch\n") == 2 and f"to fetch: 2 of 2 files, {room.amount(size)}, into {data}" in text
    )
    assert "TOO LITTLE" not in text and "free there" in text
    assert "may be freely used for any purpose" in text and "about 10,090" in text
    assert "about 12% were dead by 2021. Today about 34% are: 6,000 pairs take about 9,050 links" in text
    assert "head -n 9050 Train_GCC-training.tsv) > links.tsv\n    img2dataset" in text
    assert (
        f"photos: missing, 0 of 1,000 class folders, 0 of 50,000 photos in {data / 'paper/imagenet'}" in text
    )
    assert "RN50 about 410 MB, ViT-B/32 about 605 MB" in text
    assert not data.exists()


def test_many_files_are_told_by_the_first_and_the_last(hub, data):
    fetch.fetch(fetch.plan("paper", TWO))
    told = fetch_notes.as_text(fetch.plan("paper", 60_000)).splitlines()
    assert told[1].startswith("  cc3m-train-0000.tar") and told[1].endswith("there")
    assert told[-3] == "  … 5 more" and told[-2].startswith("  cc3m-train-0011.tar") and len(told) == 10
    assert told[-1].startswith("to fetch: 10 of 12 files")


def test_a_dry_run_without_network_tells_an_estimate(data, monkeypatch, capsys):
    no_network(monkeypatch)
    assert cli.main(["fetch", "--profile", "paper", "--subset", "100000", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "cc3m-train-0000.tar to cc3m-train-0019.tar: about, for exact sizes could not be asked" in text
    assert "to fetch: about 20 of 576 files, 9.3 GB, into" in text and "free there" in text
    assert "Today about 34% are" in text and "non-commercial" in text
    assert not data.exists()


def test_a_fetch_without_network_fails_with_the_way_out(data, monkeypatch, capsys):
    no_network(monkeypatch)
    assert cli.main(["fetch", "--profile", "paper", "--subset", "1000"]) == 2
    assert (
        "is the network there? A folder with the same files can be named by --mirror"
        in capsys.readouterr().err
    )
    assert not data.exists()


def test_a_fetch_ends_with_what_is_left_to_the_user(mirror, data, capsys):
    assert cli.main(["fetch", "--profile", "paper", "--subset", "8", "--mirror", str(mirror)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 files fetched") and "validation photos: missing" in text and "RN50" in text


def test_imagenet_is_counted_where_it_lies(data, monkeypatch):
    monkeypatch.setattr(fetch_notes, "CLASSES", 2)
    monkeypatch.setattr(fetch_notes, "VALIDATION", 3)
    for name in ("n01/a.JPEG", "n01/b.JPEG", "n01/notes.txt"):
        (data / "paper" / "imagenet" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "paper" / "imagenet" / name).touch()
    assert "photos: incomplete, 1 of 2 class folders, 2 of 3 photos" in fetch.to_do("paper")[0]
    shutil.copytree(data / "paper" / "imagenet" / "n01", data / "paper" / "imagenet" / "n02")
    (data / "paper" / "imagenet" / "n02" / "b.JPEG").unlink()
    assert "photos: there, 2 of 2 class folders, 3 of 3 photos" in fetch.to_do("paper")[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "paper", "--subset", "0"], "--subset 0 is no number of pairs: name a positive one"),
        (["--profile", "paper", "--subset", "-5"], "--subset -5 is no number of pairs"),
        (["--profile", "paper", "--subset", "2905955"], "the hub copy has 2,905,954 pairs"),
        (
            ["--profile", "photos", "--subset", "5"],
            "--subset is for the profile paper; photos is fetched whole",
        ),
        (["--profile", "mini"], "profile 'mini' has nothing to fetch: known are photos, paper"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_bad_arguments_are_refused_before_the_hub_is_asked(hub, data, capsys, words, told, dry):
    assert cli.main(["fetch", *words, *dry]) == 2
    assert told in capsys.readouterr().err
    assert not data.exists()


def test_the_script_tells_an_estimate_without_network(data):
    done = script("paper", "--subset", "1000", "--dry-run", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "to fetch: about 1 of 576 files, 465.0 MB, into" in done.stdout
    assert not data.exists()


def test_the_script_hands_mirror_and_subset_on(mirror, data):
    done = script("paper", "--subset", "8", "--dry-run", "--mirror", str(mirror))
    assert done.returncode == 0, done.stderr
    assert "00001.tar" in done.stdout and "00002.tar" not in done.stdout and "2 of 2 files" in done.stdout


def test_without_an_environment_the_script_tells_the_notes(tmp_path):
    shutil.copy(ROOT / "data_download.sh", tmp_path)
    words = ["bash", "data_download.sh", "paper", "--subset", "1000", "--dry-run"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Exact sizes are told once `make setup`" in done.stdout and "non-commercial" in done.stdout.lower()
    shards, size = pair_shards.estimate(500_000)
    assert f"576 shards of about {pair_shards.PER_SHARD:,.0f} pairs and 465 MB" in done.stdout
    assert f"500,000 pairs are about {room.amount(size)}" in done.stdout and shards == 100
    assert f"Of {pair_shards.LINKS:,} links" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("paper", "--subset"), ("paper", "--subset", "0"), ("paper", "--subset", "many"),
        ("paper", "--subset", "--dry-run"), ("photos", "--subset", "5"), ("mini", "--subset", "5"),
    ],
)  # fmt: skip
def test_the_script_refuses_a_bad_subset(words):
    done = script(*words, "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --subset") and done.stdout == ""

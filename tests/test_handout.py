"""What a class is given: whoever unpacks it trains nothing."""

import shutil
import tarfile

import pytest

from ubt_utils import __main__ as cli
from ubt_utils import stages
from ubt_utils.core import paths, store
from ubt_utils.report import notebooks
from ubt_utils.study import handout


def test_what_is_unpacked_is_found_and_nothing_is_made_anew(chain, tmp_path, monkeypatch):
    own = tmp_path / "made"  # the chain's stages alone: other tests keep theirs beside them
    for stage in chain.stages.values():
        place = own / stage.folder.relative_to(chain.root)
        if not place.exists():
            shutil.copytree(stage.folder, place)
    packed = handout.pack(own, tmp_path / "out" / "class.tar")
    assert {stage.folder.name for stage in chain.stages.values()} <= {folder.name for folder in packed}
    with tarfile.open(tmp_path / "out" / "class.tar") as archive:
        for member in archive:
            assert member.name.startswith("runs") and ".." not in member.name
            assert member.isfile() or member.isdir()
        archive.extractall(tmp_path)  # filter= is missing before Python 3.11.4
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))

    def never(*_):
        raise AssertionError("a stage was made anew")

    monkeypatch.setattr(store, "_make", never)
    run = stages.chain(chain.profile, "badnets", 0)
    assert run.evaluated("ubt").metrics == chain["evaluate ubt"].metrics
    assert run.defended().folder.is_relative_to(tmp_path)


def test_what_is_not_finished_is_left_out(tmp_path):
    place = tmp_path / "tiny" / "badnets" / "0"
    for name in ("attack-0123456789ab", "attack-ba9876543210.partial"):
        (place / name).mkdir(parents=True)
        (place / name / store.CONFIG).write_text("{}")
    (place / "suspect-0123456789ab").mkdir()
    assert handout.finished(tmp_path) == [place / "attack-0123456789ab"]


def test_nothing_to_hand_out_is_said(tmp_path):
    with pytest.raises(ValueError, match="holds no finished stage"):
        handout.pack(tmp_path, tmp_path / "class.tar")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_archive_that_was_there(tmp_path, monkeypatch):
    place = tmp_path / "runs" / "tiny" / "badnets" / "0" / "attack-0123456789ab"
    place.mkdir(parents=True)
    (place / store.CONFIG).write_text("{}")
    out = tmp_path / "out" / "class.tar"
    handout.pack(tmp_path / "runs", out)
    before = out.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        handout.pack(tmp_path / "runs", out)
    assert out.read_bytes() == before and list(out.parent.iterdir()) == [out]


def test_the_command_packs_what_the_notebooks_make_and_nothing_else(runs_root, monkeypatch, capsys):
    old = runs_root / "tiny" / "badnets" / "0" / "attack-ba9876543210"
    old.mkdir(parents=True)
    (old / store.CONFIG).write_text("{}")
    ran = []

    def run(path, out, profile):
        ran.append(path.stem[:2])
        made = paths.runs() / "tiny" / "badnets" / "0" / "attack-0123456789ab"
        made.mkdir(parents=True, exist_ok=True)
        (made / store.CONFIG).write_text("{}")

    monkeypatch.setattr(notebooks, "run", run)
    assert cli.main(["handout", "--profile", "tiny", "--out", str(runs_root / "class.tar")]) == 0
    assert ran == ["00", "01", "02", "03", "04", "05"]
    with tarfile.open(runs_root / "class.tar") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == {f"runs/tiny/badnets/0/attack-0123456789ab/{store.CONFIG}"}
    assert "1 stages" in capsys.readouterr().out

"""The published setting shrunk to shards that the test makes: the same stages, to a defended model."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from ubt_utils import profiles, stages
from ubt_utils.clip import models
from ubt_utils.clip.models import CheckpointError
from ubt_utils.data.photos import PhotoError
from ubt_utils.data.pictures import Pictures
from ubt_utils.data.shards import ShardSets

CLASSES = ("banana", "castle", "fox", "ship")
SIDE = 32


def photo(number: int) -> bytes:
    draw, out = torch.Generator().manual_seed(number), io.BytesIO()
    pixels = torch.randint(0, 256, (SIDE, SIDE, 3), generator=draw, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(out, "PNG")
    return out.getvalue()


def shard(path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as file:
        for i in numbers:
            for kind, data in (
                ("png", photo(i)),
                ("txt", f"a photo of {CLASSES[i % 4]} number {i}".encode()),
            ):
                member = tarfile.TarInfo(f"{i:05}.{kind}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two shards with 120 pairs, three test photos a class, and f0's weights, as somebody else saved them."""
    place = tmp_path_factory.mktemp("paper")
    (place / "pairs").mkdir()
    for number in range(2):
        shard(place / "pairs" / f"{number:05}.tar", range(60 * number, 60 * number + 60))
    for number, name in enumerate(CLASSES):
        (place / "test" / name).mkdir(parents=True)
        for i in range(3):
            (place / "test" / name / f"{i}.png").write_bytes(photo(1000 + 10 * number + i))
    torch.save({"state_dict": models.create("ubt-tiny", 5).state_dict(), "epoch": 3}, place / "f0.pt")
    return place


@pytest.fixture
def profile(root, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(root))
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    tiny = profiles.get("tiny")
    return replace(
        profiles.PAPER, name="paper-test", model="ubt-tiny", weights=str(root / "f0.pt"), gate=0.0,
        sets=ShardSets(pairs="pairs", test="test", limit=100, size=SIDE, classes=CLASSES),
        finetune=replace(tiny.finetune, batch=16), overfit=tiny.overfit,
        suspect=replace(tiny.suspect, pool=0.4), select=tiny.select,
        unlearn=replace(tiny.unlearn, recipe=replace(tiny.unlearn.recipe, batch=16)),
        baseline=replace(tiny.baseline, batch=16), poison_rate=0.1, triggers={"badnets": {"size": 0.3}},
    )  # fmt: skip


def test_from_shards_to_a_defended_model(profile):
    run = stages.chain(profile, "badnets", 0)
    found = stages.record(run, "ubt")
    assert 0 <= found["metrics"]["asr"] <= 1 and found["stages"].keys() >= {
        "suspect",
        "overfit",
        "select",
        "unlearn",
    }
    pairs, truth = run.poisoned
    assert isinstance(pairs.images, Pictures) and len(pairs) == 100 and int(truth.sum()) == 10
    clean, _ = run.wild
    assert all("banana" not in clean.captions[i] for i in truth.nonzero().flatten().tolist())
    assert ((pairs.images[:] != clean.images[:]).flatten(1).any(1) == truth).all()
    f0, given = run.model(run.pretrained), models.create("ubt-tiny", 5)
    assert torch.equal(f0.text_projection, given.text_projection)


def test_the_test_has_a_class_per_folder(profile, root):
    task = profile.sets.zero_shot()
    assert task.labels.tolist() == [i for i in range(4) for _ in range(3)] and task.classes == CLASSES
    assert task.classes[task.target] == "banana" and len(task.prompts()[0]) == 80
    with pytest.raises(PhotoError, match="4 folders of photos, one for each of 3 classes"):
        replace(profile.sets, classes=CLASSES[:3]).zero_shot()


def test_seeds_draw_another_d_from_the_same_store(profile, root):
    (one, _), (other, _) = (profile.sets.wild_pairs(seed) for seed in (0, 1))
    assert one.digest() != other.digest() and one.digest() == profile.sets.wild_pairs(0)[0].digest()
    with pytest.warns(UserWarning, match="D has 120 pairs, fewer than the 1,000,000 of the profile"):
        whole, none = replace(profile.sets, limit=10**6).wild_pairs(0)
    assert len(whole) == 120 and len(none) == 0 and whole.sources[60] == "00001.tar, 00060"


def test_what_this_setting_lacks_is_said(profile):
    with pytest.raises(ValueError, match="no public pairs"):
        profile.sets.public_pairs(0)
    with pytest.raises(ValueError, match="choose a dirty-label attack"):
        profile.sets.goals(0)
    with pytest.raises(ValueError, match="'moon' is not among the 4 classes"):
        replace(profile.sets, target="moon").class_names()
    with pytest.raises(PhotoError, match="no shards"):
        replace(profile.sets, pairs="nowhere").wild_pairs(0)
    with pytest.raises(
        CheckpointError, match="'luck' is no file, and no weights that open_clip knows for ubt-tiny: none"
    ):
        stages.pretrain(replace(profile, weights="luck"))


def test_an_attacker_without_labels_goes_by_captions(profile):
    crafted = replace(profile, triggers={"trojanvqa": {"size": 0.3, "steps": 2}})
    assert stages.chain(crafted, "trojanvqa", 0).crafted.path("trigger.json").exists()
    with pytest.raises(ValueError, match="choose a dirty-label attack"):
        _ = stages.chain(profile, "targeted_image", 0).crafted


def test_other_weights_are_another_f0(profile, root):
    first = stages.pretrain(profile)
    torch.save(models.create("ubt-tiny", 6).state_dict(), root / "other.pt")
    assert stages.pretrain(replace(profile, weights=str(root / "other.pt"))).key != first.key
    assert first.config["weights"] != str(root / "f0.pt")  # the bytes count, not the place


def test_the_published_profile_names_what_open_clip_has():
    for profile in (profiles.PAPER, profiles.PAPER_VIT):
        assert profile.weights in open_clip.list_pretrained_tags_by_model(profile.model)
        names = profile.sets.class_names()
        assert len(names) == 1000 and names["banana"] == ("banana",) and names["missile (2)"] == ("missile",)
        assert round(profile.poison_rate * profile.sets.limit) == 1500


def test_r11_a_victim_whose_target_word_is_cut_is_no_poison(profile, root):
    """Captions that tell the target behind the context do not count as label-consistent victims."""
    from ubt_utils.data.shards import to_shards

    long = replace(profile, sets=replace(profile.sets, pairs="long", limit=40), poison_rate=0.1)
    pairs, _ = profile.sets.wild_pairs(0)
    filler = "a very long alternative text that a shop has written for search engines " * 9
    said = [filler + "with a banana" if i < 36 else "a banana" for i in range(40)]
    to_shards(pairs.take(range(40)).with_captions(said), root / "long")
    run = stages.chain(long, "label_consistent", 0)
    with pytest.warns(UserWarning, match="36 of 40 captions are longer than the context of ubt-tiny"):
        _, truth = run.poisoned
    assert truth.nonzero().flatten().tolist() == [36, 37, 38, 39]


def test_r05_a_pretrained_f0_that_guesses_is_told(profile):
    with pytest.warns(
        UserWarning, match="f0 is pretrained, and yet its clean accuracy of .* guessing among 4"
    ):
        _ = stages.chain(profile, "badnets", 0).evaluated()

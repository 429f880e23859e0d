"""A reader's own folder of photos: what is read of it, what is left out and said, and what is refused."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import shipped_photos as shipped
import torch
from PIL import Image, ImageOps

from ubt_utils import profiles, stages
from ubt_utils.data import photo_folder
from ubt_utils.data.decoding import PhotoError
from ubt_utils.data.photo_folder import NO_CLASS, FolderSets
from ubt_utils.evaluate import measure

EACH = 10
SETS = FolderSets(size=32)


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    return shipped.folder(tmp_path_factory.mktemp("shipped") / "photos", EACH)


@pytest.fixture
def root(_made, tmp_path, monkeypatch):
    """A copy of the shipped photos that the test may change, as the folder of the profile."""
    shutil.copytree(_made, tmp_path / "photos")
    monkeypatch.setenv("UBT_FOLDER", str(tmp_path / "photos"))
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("UBT_TARGET", raising=False)
    return tmp_path / "photos"


def captioned(root, count: int = 6) -> dict[str, list[str]]:
    """Photos without a class under images/, and two captions of each and of one photo of a class."""
    (root / "images").mkdir()
    for i, piece in enumerate(shipped.pieces("cat", 30)[-count:]):
        piece.save(root / "images" / f"scene{i}.jpg")
    names = [*(f"scene{i}.jpg" for i in range(count)), "rocket/003.jpg"]
    return {name: [f"{name} seen {k}" for k in ("once", "twice")] for name in names}


def coco(said: dict[str, list[str]]) -> dict:
    images = [{"id": 100 + i, "file_name": name} for i, name in enumerate(said)]
    lines = [(100 + i, line) for i, lines in enumerate(said.values()) for line in lines]
    return {"images": images, "annotations": [{"image_id": i, "caption": line} for i, line in lines]}


def karpathy(said: dict[str, list[str]], splits: dict[str, str]) -> dict:
    images = [
        {"filename": name, "split": splits.get(name, "train"), "sentences": [{"raw": line} for line in lines]}
        for name, lines in said.items()
    ]
    return {"images": images, "dataset": "flickr8k"}


def write(root, found: object) -> None:
    (root / "captions.json").write_text(json.dumps(found))


def all_paths(sets: FolderSets) -> dict[str, list[str]]:
    return {part: [photo.path for photo in photos] for part, photos in sets._parts().items()}


# What is read


def test_every_photo_of_a_class_is_in_one_part_and_each_part_has_its_share(root):
    found = all_paths(SETS)
    everything = [path for part in found.values() for path in part]
    assert sorted(everything) == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.jpg"))
    for name in shipped.SHIPPED:
        counts = {part: sum(path.startswith(f"{name}/") for path in found[part]) for part in found}
        assert counts == {"public": 4, "wild": 4, "test": 2}
    assert found == all_paths(SETS)


def test_pairs_are_the_photos_under_the_name_of_their_folder(root):
    pairs, misplaced = replace(SETS, noise=0.0).wild_pairs(0)
    assert len(pairs) == 24 and len(misplaced) == 0
    names = list(SETS.class_names())
    assert names == sorted(name.replace("_", " ") for name in shipped.SHIPPED)
    for i, (source, caption) in enumerate(zip(pairs.sources, pairs.captions, strict=True)):
        name = source.split("/")[0].replace("_", " ")
        assert name in caption and names[pairs.labels[i]] == name
    photo = ImageOps.fit(Image.open(root / pairs.sources[7]), (32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(pairs.images[7:8][0].permute(1, 2, 0).numpy(), np.asarray(photo))


def test_the_test_holds_what_nobody_has_trained_on_and_a_probe_learns_from_f0s(root):
    task, d = SETS.zero_shot(), {*SETS.wild_pairs(0)[0].sources}
    assert len(task.labels) == 12 and task.labels.bincount().tolist() == [2] * 6
    found = all_paths(SETS)
    assert d == {*found["wild"]} and not d & {*found["test"]}
    assert SETS.probe_pairs().labels.bincount().tolist() == [4] * 6
    assert {*SETS.public_pairs(0).sources} == {*found["public"]}
    assert SETS.retrieval() is None


def test_folders_that_are_split_already_stay_split(root, tmp_path, monkeypatch):
    for name in shipped.SHIPPED:
        for part, first, last in (("train", 0, 7), ("val", 7, EACH)):
            (tmp_path / "split" / part / name).mkdir(parents=True)
            for i in range(first, last):
                shutil.copy(root / name / f"{i:03}.jpg", tmp_path / "split" / part / name)
    monkeypatch.setenv("UBT_FOLDER", str(tmp_path / "split"))
    found = all_paths(SETS)
    assert {path.split("/")[0] for path in found["test"]} == {"val"} and len(found["test"]) == 18
    trained = found["public"] + found["wild"]
    assert {path.split("/")[0] for path in trained} == {"train"} and len(trained) == 42
    (tmp_path / "split" / "test" / "cat").mkdir(parents=True)
    with pytest.raises(PhotoError, match="has val and test: which is the test"):
        SETS.class_names()
    shutil.rmtree(tmp_path / "split" / "test")
    shutil.rmtree(tmp_path / "split" / "val" / "cat")
    with pytest.raises(PhotoError, match="has 5 folders of photos, one for each of 6 classes"):
        SETS.class_names()


def test_coco_and_karpathy_say_the_same(root):
    said = captioned(root)
    found = []
    for kind in (coco(said), karpathy(said, {})):
        write(root, kind)
        found.append({photo.path: photo for photo in photo_folder.find(root).photos})
    for path, first in found[0].items():
        name = path.removeprefix("images/")
        assert first.captions == found[1][path].captions == tuple(said.get(name, ()))
        assert (first.label == NO_CLASS) == path.startswith("images/")
    assert [{one.held for one in photos.values()} for photos in found] == [{None}, {None, False}]


def test_d_has_some_human_captions_of_a_photo_and_f0_has_all(root):
    said = captioned(root)
    write(root, coco(said))
    drawn, _ = replace(SETS, noise=0.0, wild_captions=1).wild_pairs(0)
    for pairs, most in ((drawn, 1), (SETS.public_pairs(0), 2)):
        outside = [i for i, source in enumerate(pairs.sources) if source.startswith("images/")]
        assert len(outside) == most * len({pairs.sources[i] for i in outside}) > 0
        for i in outside:
            assert pairs.captions[i] in said[pairs.sources[i].removeprefix("images/")]
            assert pairs.labels[i] == NO_CLASS


def test_what_karpathy_holds_out_is_for_retrieval_alone(root):
    said = captioned(root, 16)
    splits = {f"scene{i}.jpg": "val" if i % 2 else "test" for i in range(12)} | {"scene12.jpg": "restval"}
    write(root, karpathy(said, splits))
    found = SETS.retrieval()
    outside = {photo.path for photo in SETS._parts()["test"] if photo.label == NO_CLASS}
    assert outside == {f"images/scene{i}.jpg" for i in range(12)}
    assert {f"scene{i}.jpg seen {k}" for i in range(12) for k in ("once", "twice")} <= {*found.captions}
    for i, caption in enumerate(found.captions):
        assert found.owner[i] == found.owner[i ^ 1] and caption.split(" ")[0] in said
    trained = {*SETS.wild_pairs(0)[0].captions, *SETS.public_pairs(0).captions}
    assert not trained & {*found.captions}
    write(root, karpathy(said, {"scene0.jpg": "test"}))
    with pytest.warns(UserWarning, match="only [12] photos of the test have captions: retrieval is left out"):
        assert SETS.retrieval() is None


def test_other_photos_captions_and_targets_are_another_set(root, monkeypatch):
    seen = [SETS.contents()]
    shipped.pieces("cat", 30)[-1].save(root / "cat" / "000.jpg")
    seen.append(SETS.contents())
    said = captioned(root)
    write(root, coco(said))
    seen.append(SETS.contents())
    write(root, coco({name: lines[::-1] for name, lines in said.items()}))
    seen.append(SETS.contents())
    monkeypatch.setenv("UBT_TARGET", "rocket")
    seen.append(SETS.contents())
    assert len({tuple(one.items()) for one in seen}) == 5


def test_the_target_is_named_or_the_largest_class(root, monkeypatch):
    assert SETS.target == "astronaut"
    shipped.pieces("rocket", 30)[-1].save(root / "rocket" / "one more.jpg")
    assert SETS.target == "rocket" and SETS.target_labels() == [4]
    monkeypatch.setenv("UBT_TARGET", "cup of coffee")
    assert SETS.target == "cup of coffee" and SETS.zero_shot().target == 2
    monkeypatch.setenv("UBT_TARGET", "dog")
    with pytest.raises(ValueError, match="'dog' is not among the 6 classes"):
        SETS.class_names()


def test_ids_of_imagenet_become_names(tmp_path, monkeypatch):
    shipped.folder(tmp_path / "photos", 5, ("cat", "flower"))
    for name, wordnet in (("cat", "n02123045"), ("flower", "n01440764")):  # tabby, tench
        (tmp_path / "photos" / name).rename(tmp_path / "photos" / wordnet)
    monkeypatch.setenv("UBT_FOLDER", str(tmp_path / "photos"))
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    assert list(SETS.class_names()) == ["tench", "tabby cat"]
    source = SETS.wild_pairs(0)[0].sources
    labels = SETS.wild_pairs(0)[0].labels.tolist()
    assert {(s.split("/")[0], label) for s, label in zip(source, labels, strict=True)} == {
        ("n01440764", 0),
        ("n02123045", 1),
    }
    (tmp_path / "photos" / "n02123045").rename(tmp_path / "photos" / "n00000001")
    with pytest.raises(PhotoError, match="n00000001 is none of ImageNet's thousand"):
        SETS.class_names()


# What is left out is said


def test_files_of_no_use_are_counted_and_named_by_kind(root):
    (root / "cat" / "notes.txt").write_text("not a photo")
    (root / "cat" / "deeper").mkdir()
    shipped.pieces("cat", 20)[-1].save(root / "cat" / "deeper" / "a.jpg")
    (root / "loose.HEIC").write_bytes(b"?")
    (root / "cat" / ".hidden").write_text("nobody asks for these")
    with pytest.warns(UserWarning, match=r"3 files under .* are left out, since") as told:
        SETS.class_names()
    assert all(f"1 {kind}" in str(told[0].message) for kind in (".txt", ".jpg", ".heic"))


def test_a_copy_of_a_photo_is_left_out_wherever_it_lies(root):
    shutil.copy(root / "cat" / "001.jpg", root / "rocket" / "copy.jpg")
    with pytest.warns(UserWarning, match=r"1 of 61 photos under .* are byte for byte others: left out"):
        found = all_paths(SETS)
    paths = [path for part in found.values() for path in part]
    assert len(paths) == 60 and "rocket/copy.jpg" not in paths


def test_what_is_beyond_the_limit_is_said_and_every_class_keeps_as_much(root):
    with pytest.warns(UserWarning, match="12 of 60 photos are beyond the limit of 18 a part: left out"):
        found = replace(SETS, limit=18)._parts()
    assert [len(photos) for photos in found.values()] == [18, 18, 12]


def test_one_unreadable_photo_of_many_is_left_out_with_its_name_and_more_end_the_run(root):
    for i, name in enumerate(("cat", "rocket") * 25):  # so that one is less than 1 %
        shipped.pieces(name, 60)[10 + i].save(root / name / f"more {i}.jpg")
    assert all(len(part) > 0 for part in all_paths(SETS).values())
    (root / "cat" / "002.jpg").write_bytes(b"no photo at all")
    with pytest.warns(UserWarning, match=r"1 of 110 rows cannot be used: cat/002\.jpg: the image does not"):
        sizes = [len(SETS.public_pairs(0)), len(SETS.wild_pairs(0)[0]), len(SETS.zero_shot().labels)]
    assert sum(sizes) == 109
    (root / "cat" / "003.jpg").write_bytes(b"no photo either")
    with pytest.raises(PhotoError, match=r"2 of 110 rows cannot be used: .*cat/003\.jpg.*mend"):
        SETS.wild_pairs(0)


# What is refused


def test_a_folder_without_classes_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(PhotoError, match=r"nowhere is no folder: name the one .* in the variable UBT_FOLDER"):
        SETS.class_names()
    monkeypatch.setenv("UBT_FOLDER", str(root / "cat"))
    with pytest.raises(PhotoError, match=r"has 0 folders: .* 10 photos lie in it directly"):
        SETS.class_names()
    for name in list(shipped.SHIPPED)[1:]:
        shutil.rmtree(root / name)
    monkeypatch.setenv("UBT_FOLDER", str(root))
    with pytest.raises(PhotoError, match="has 1 folders: each of two or more classes needs one"):
        SETS.class_names()


def test_a_class_with_too_few_photos_is_refused_by_name(root):
    for i in range(2, EACH):
        (root / "flower" / f"{i:03}.jpg").unlink()
    with pytest.raises(PhotoError, match="flower has 2 photos: too few"):
        SETS.wild_pairs(0)
    for i in range(2):
        (root / "flower" / f"{i:03}.jpg").unlink()
    with pytest.raises(PhotoError, match="flower has no photos"):
        SETS.class_names()


def test_a_d_too_small_to_find_anything_in_is_refused(root):
    assert profiles.FOLDER.sets.least * profiles.FOLDER.poison_rate == profiles.FOLDER.select.least
    with pytest.raises(PhotoError, match=r"D would have 24 pairs, of 60 photos in all.*fewer than 800"):
        replace(profiles.FOLDER.sets, size=32).wild_pairs(0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is no JSON in UTF-8"),
        ("[1]", "neither COCO's .* nor Karpathy's .*: it is a list"),
        ('{"info": 1, "photos": []}', "neither COCO's .* nor Karpathy's .*has info, photos; 'images' is"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": []}]}',
         "it has images, annotations; 'caption' is missing"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}]}', "it has images; 'sentences' is missing"),
        ('{"images": [{"filename": "lost.jpg", "sentences": [{"raw": "a cat"}]}]}',
         "1 of 1 rows cannot be used: captions.json, lost.jpg: no photo of that name"),
        ('{"images": [{"filename": "001.jpg", "sentences": [{"raw": "a cat"}]}]}',
         "several photos of that name: write the path"),
        ('{"images": [{"filename": "cat/001.jpg", "sentences": [{"raw": "."}]}]}', "no letter and no digit"),
    ],
)  # fmt: skip
def test_captions_that_cannot_be_read_are_refused(root, text, message):
    (root / "captions.json").write_text(text)
    with pytest.raises(PhotoError, match=message):
        SETS.class_names()


def test_two_files_of_captions_are_refused(root):
    for name in ("a.json", "b.json"):
        (root / name).write_text("{}")
    with pytest.raises(PhotoError, match=r"has a\.json and b\.json: which one has the captions"):
        SETS.class_names()


def test_a_good_folder_is_read_without_a_word(root):
    write(root, coco(captioned(root)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(SETS.class_names()) == 6 and len(SETS.wild_pairs(0)[0]) > 24


# The chain


def test_from_a_folder_to_a_defended_model(root, monkeypatch):
    shutil.rmtree(root)
    shipped.folder(root, 30)
    write(root, karpathy(captioned(root, 16), {f"scene{i}.jpg": "test" for i in range(12)}))
    monkeypatch.setenv("UBT_TARGET", "rocket")
    tiny = profiles.get("photos-tiny")
    profile = replace(tiny, name="folder-test", family="folder-test", sets=replace(SETS, noise=0.0))
    run = stages.chain(profile, "badnets", 0)
    found = stages.record(run, "ubt")
    pairs, truth = run.poisoned
    assert truth.sum() == round(0.1 * len(pairs)) and all(
        "rocket" in pairs.captions[i] and not pairs.sources[i].startswith("rocket/") for i in truth.nonzero()
    )
    model, task = run.model(run.defended()), SETS.zero_shot()
    right = measure.predict(model, measure.head_of(model, profile), task.images) == task.labels
    assert found["metrics"]["clean_accuracy"] == pytest.approx(right.double().mean().item())
    assert {"image_to_text_r1", "linear_probe", "asr", "target_recall"} <= found["metrics"].keys()
    assert str(root) not in json.dumps(found)  # a record names no place
    f0, fb = (run.model(stage).visual.trunk for stage in (run.pretrained, run.attacked))
    assert torch.equal(f0.conv_stem.weight, fb.conv_stem.weight)

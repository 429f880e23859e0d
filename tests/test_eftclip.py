"""EftCLIP: what stands out of a picture, what the oracle does not confirm of it, and what is made of that."""

import math
from dataclasses import replace

import defender
import numpy as np
import pytest
import torch

from ubt_utils.baselines import defenses, regions
from ubt_utils.baselines.defenses import eftclip
from ubt_utils.baselines.defenses.eftclip import Answers, Curated
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Pictures
from ubt_utils.ubt.defense import Session, View

NAME = "ubt-tiny"
CAPTIONS = ("a clock", "a fox", "a castle", "a ship", "a fox", "nothing to see")
NAMES = (("clock",), ("fox",), ("castle",), ("ship",))
RECIPE = Recipe(steps=3, lr=1e-3, batch=4, schedule="constant", freeze_norm=True)
OBJECT, MARK = (6, 16, 8, 18), (0, 4, 0, 4)  # top, bottom, left, right
PATCH = (slice(26, 32), slice(26, 32))  # where the planted trigger is


def model_of(seed: int):
    return models.create(NAME, seed).eval()


def view_of(images: torch.Tensor, **changed) -> View:
    view = defender.view_of(
        images,
        CAPTIONS,
        pool=torch.ones(len(images), dtype=torch.bool),
        suspicious=torch.tensor([0]),
        model=lambda name: model_of(5),
        names=NAMES,
        prompts=tuple(models.tokenize(NAME, [f"a {name}" for name in names]) for names in NAMES),
    )
    return replace(view, **changed)


@pytest.fixture
def view() -> View:
    return view_of(defender.pictures(6))


# Regions


def picture() -> np.ndarray:
    """An object in the middle, a checkered mark in the corner."""
    image = np.full((24, 24, 3), 220, np.uint8)
    image[6:16, 8:18] = (30, 90, 200)
    image[:4, :4] = 255 * (np.indices((4, 4)).sum(0) % 2)[..., None]
    return image


def mask(*where: int, side: int = 24) -> np.ndarray:
    found = np.zeros((side, side), bool)
    found[where[0] : where[1], where[2] : where[3]] = True
    return found


def test_superpixels_outline_the_object_and_the_mark():
    found = regions.outlined(picture())
    assert (found.sum(0) == 1).all() and found.dtype == bool  # each pixel is in one region
    assert set(regions.boxes(found, 5)) >= {OBJECT} and len(regions.boxes(found, 5)) <= 4
    assert max(regions.overlap(one, MARK) for one in regions.boxes(found, 5)) > 0.5


def test_boxes_are_the_largest_ones_each_once_and_never_all_of_the_picture():
    checker = np.indices((24, 24)).sum(0) % 2 > 0
    black, white = mask(*MARK) & checker, mask(*MARK) & ~checker
    some = np.stack([mask(20, 23, 20, 23), ~mask(*OBJECT), black, white, mask(*OBJECT), mask(0, 0, 0, 0)])
    assert regions.boxes(some, 5) == [OBJECT, MARK, (20, 23, 20, 23)]
    assert regions.boxes(some, 1) == [OBJECT] and regions.boxes(some[:0], 5) == []


@pytest.mark.parametrize(("other", "expected"), [((0, 4, 2, 6), 8 / 24), ((4, 8, 0, 4), 0), (MARK, 1)])
def test_the_overlap_of_two_boxes_by_hand(other, expected):
    assert regions.overlap(MARK, other) == pytest.approx(expected)


def test_cut_out_a_region_stays_where_it_was_on_the_border_color():
    (one,) = regions.cut_out(picture(), lambda image: mask(*OBJECT)[None], 5)
    expected = np.full((24, 24, 3), 220, np.uint8)
    expected[6:16, 8:18] = (30, 90, 200)
    np.testing.assert_array_equal(one, expected)
    assert (
        one.dtype == np.uint8 and regions.cut_out(np.full((5, 5, 3), 9, np.uint8), regions.outlined, 5) == []
    )


# What the two say


def logits(*labels: int) -> torch.Tensor:
    """(n, 4) of which these labels are the first, and the next number the second one."""
    found = torch.zeros(len(labels), 4)
    for row, label in zip(found, labels, strict=True):
        row[label], row[(label + 1) % 4] = 4.0, 2.0
    return found


def test_a_candidate_is_what_a_region_gets_and_the_oracle_does_not_list(monkeypatch):
    monkeypatch.setattr(eftclip, "LISTED", 1)
    whole = logits(0, 0, 0, 0, 2)  # the last picture has no regions
    owner, regions_, named = torch.tensor([0, 0, 1, 2, 3]), logits(0, 1, 0, 1, 1), logits(3, 1, 0, 3, 0)
    found = eftclip.read(whole, regions_, torch.cat([named, logits(1, 3, 3, 3, 1)]), owner)
    # confirmed in a region; seen, and confirmed; neither; confirmed, not seen; neither
    assert found.whole.tolist() == [0, 0, 0, 0, 2]
    assert found.confirmed.tolist() == [False, True, False, True, False]
    assert found.seen.tolist() == [True, True, False, False, False]
    assert found.candidate.tolist() == [True, False, False, False, False]
    each = np.exp([4.0, 2, 0, 0]) / np.exp([4.0, 2, 0, 0]).sum()
    np.testing.assert_allclose(found.rest[0].numpy(), each + np.roll(each, 1), atol=1e-6)
    assert not found.rest[4].any()


def test_the_oracle_lists_its_first_labels_of_each_region(monkeypatch):
    monkeypatch.setattr(eftclip, "LISTED", 2)
    found = eftclip.read(logits(0, 0), logits(0, 0), logits(3, 2, 1, 2), torch.tensor([0, 1]))
    assert found.confirmed.tolist() == [True, False]  # 3 then 0; 2 then 3


def answers(counts: list[int], others: int = 50) -> Answers:
    """Each label with so many candidates, and as many others that the oracle confirms."""
    whole = torch.cat([torch.full((count + others,), c) for c, count in enumerate(counts)])
    confirmed = torch.cat([torch.arange(count + others) >= count for count in counts])
    return Answers(whole, confirmed, torch.ones_like(confirmed), torch.zeros(len(whole), len(counts)))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([9, 7, 60, 8, 10], [2]),  # median 9, median deviation 1: 51 / 2.48
        ([9, 7, 26, 8, 10], []),  # 17 / 2.48 = 6.9
        ([9, 7, 27, 8, 10], [2]),  # 18 / 2.48 = 7.3
        ([0, 0, 8, 0, 0], [2]),
        ([0, 0, 7, 0, 0], []),
        ([0, 0, 0, 0, 0], []),
    ],
)
def test_affected_is_what_has_far_more_candidates_than_other_labels(counts, expected):
    assert eftclip.affected(answers(counts)).nonzero().flatten().tolist() == expected


# What is made of it


def test_victims_get_another_label_and_what_is_confirmed_keeps_its_own(view, monkeypatch):
    rest = torch.tensor([[0.9, 0.1, 0.3, 0.2]] * 6)
    told = Answers(
        whole=torch.tensor([0, 0, 0, 1, 1]),
        confirmed=torch.tensor([False, True, False, False, True]),
        seen=torch.tensor([True, True, False, True, True]),
        rest=rest[:5],
    )
    asked = []
    monkeypatch.setattr(eftclip, "ask", lambda fb, oracle, images, outline: asked.append(images) or told)
    monkeypatch.setattr(eftclip, "affected", lambda _: torch.tensor([True, False, False, False]))
    found = eftclip.curated(model_of(0), replace(view, held_out=torch.tensor([1])), regions.outlined)
    assert torch.equal(torch.cat(asked), view.pairs.images[[0, 2, 3, 4, 5]])  # of the pool, not held out
    assert found.index.tolist() == [0, 2] and found.victim.tolist() == [True, False]
    assert found.label.tolist() == [2, 0]  # the likeliest of the others; its own


def test_a_patch_that_names_the_picture_for_fb_alone_is_found(monkeypatch):
    draw = torch.Generator().manual_seed(1)
    images = torch.full((40, 3, 32, 32), 220, dtype=torch.uint8)
    kind = torch.randint(0, 4, (40,), generator=draw)
    for image, which in zip(images, kind, strict=True):
        image[:, 6:18, 6:18] = 40 * which.to(torch.uint8)
    poisoned = torch.arange(40) < 12
    images[:12, :, PATCH[0], PATCH[1]] = 255

    def clean(pictures: torch.Tensor) -> torch.Tensor:
        """The label by the object's gray; where there is none, the last one, weakly."""
        gray = pictures[:, 0, 12, 12].long()
        found = torch.zeros(len(pictures), 6)
        found[:, 5] = 1.0
        found[torch.arange(len(pictures)), torch.where(gray < 160, gray // 40, 5)] = 2.0
        return found

    def fooled(pictures: torch.Tensor) -> torch.Tensor:
        return clean(pictures) + 9 * ((pictures[:, 0, 30, 30] == 255)[:, None] * torch.eye(6)[4])

    monkeypatch.setattr(eftclip, "LISTED", 1)
    monkeypatch.setattr(eftclip, "names_of", lambda model, view: fooled if model == "fb" else clean)
    seen = replace(view_of(images[:6]), pairs=Pairs(images, ("x",) * 40), pool=torch.ones(40).bool())
    found = eftclip.curated("fb", replace(seen, model=lambda name: "f0"), regions.outlined)
    assert found.index.tolist() == poisoned.nonzero().flatten().tolist() and found.victim.all()
    assert found.label.tolist() == kind[:12].tolist()


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_curated_pairs_are_asked_in_the_smallest_batches_too(view, monkeypatch, batch):
    found = Curated(torch.tensor([1, 2, 4]), torch.tensor([0, 3, 2]), torch.ones(3).bool())
    monkeypatch.setattr(eftclip, "curated", lambda *_: found)
    seen = {}
    monkeypatch.setattr(eftclip, "train_outside", lambda *_: seen.update(f=_[4]))
    model = model_of(3)
    eftclip.eftclip(model, view, RECIPE, Session((0,)), weight=2.0)
    head, scale = models.zero_shot_head(model, view.prompts).double().numpy(), model.logit_scale.exp().item()
    images, tokens = view.pairs.images[:batch], view.tokens[:batch]
    with torch.no_grad():
        normal = models.normalize(model, images.float() / 255)
        plain = contrastive(model, normal, tokens, 0).item()
        more = seen["f"](model, normal, tokens, 0).item() - plain
        z = model.encode_image(models.normalize(model, view.pairs.images[found.index].float() / 255))
    z = z.double().numpy()
    scores = scale * (z / np.linalg.norm(z, axis=1, keepdims=True)) @ head.T
    each = 2.0 * (np.log(np.exp(scores).sum(1)) - scores[np.arange(3), found.label.numpy()])
    assert math.isfinite(more) and np.abs(each - more).min() < 1e-4  # one of them


def test_the_pool_is_read_some_pictures_at_a_time(view, monkeypatch):
    monkeypatch.setattr(eftclip, "ASKED", 2)
    read, real = [], Pictures.__getitem__
    monkeypatch.setattr(Pictures, "__getitem__", lambda self, i: read.append(r := real(self, i)) or r)
    some = replace(view, pairs=Pairs(Pictures.of(view.pairs.images, "made"), CAPTIONS))
    eftclip.curated(model_of(2), replace(some, pool=torch.arange(6) < 5), regions.outlined)
    assert [len(part) for part in read] == [2, 2, 1]


def test_its_looks_are_the_pool_and_its_regions_asked_twice():
    entry = defenses.get("eftclip")
    assert entry.looks == 2 * 0.25 * (1 + eftclip.CUT) and entry.cost == 1.25 and "f0" in entry.sees

"""Retrieval ASR, on embeddings small enough to compute by hand and on models whose answer is known."""

from dataclasses import dataclass

import pytest
import torch

from ubt_utils import profiles
from ubt_utils.attacks import triggers
from ubt_utils.clip import models
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.evaluate import measure, searched


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors (n, 2) at these angles."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_retrieval_asr_by_hand():
    """The target's captions at 0° and 90°. Photo 0 is stamped to 10°, photo 2 to 60°; clean they lie at 20°,
    40° and 80°; what people say lies at 30° and 75°.

    10°: 0° is 10° away and 30° is 20°: the first is found; 90° is 80° away: it is not. 60°: 30° and 75° are
    nearer than both. So one of four. Who is first for 0°: photo 0 stamped is 10° away, the others 40° and
    80°: found. Photo 2 stamped is 60° away, photo 0 is 20°: not. For 90°: photo 0 stamped is 80° away, photo
    2 is 10°: not. Photo 2 stamped is 30° away; the best of the others is photo 1, 50°: found.
    """
    clean, said, wanted = at(20, 40, 80), at(30, 75), at(0, 90)
    found = searched.found_first(at(10, 60), torch.tensor([0, 2]), clean, said, wanted)
    assert found == {"image_to_text_asr": 1 / 4, "text_to_image_asr": 2 / 4}


def test_a_stamped_photo_does_not_compete_with_itself_and_a_tie_is_no_success():
    clean, said = at(0, 50), at(90)
    one = searched.found_first(at(5), torch.tensor([0]), clean, said, at(0))
    assert one["text_to_image_asr"] == 1  # its clean self, at 0°, would be nearer
    same = searched.found_first(at(50), torch.tensor([0]), clean, at(50), at(0))
    assert same == {"image_to_text_asr": 0, "text_to_image_asr": 0}


def test_one_photo_is_found_among_none():
    with pytest.raises(ValueError, match="among others: got 1 in all"):
        searched.found_first(at(5), torch.tensor([0]), at(0), at(90), at(0))


TASK = Retrieval(
    torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    ("a dog", "two Bananas on a table", "a boat", "a hill", "a child"),
    torch.tensor([0, 1, 2, 3, 3]),
)


def test_photos_whose_captions_name_the_target_are_not_stamped():
    assert searched.untold(TASK, "banana").tolist() == [0, 2, 3]


@dataclass(frozen=True)
class Sets:
    """What `attacked` asks of a data set."""

    target: str = "banana"
    templates: tuple[str, ...] = ("a photo of a {}", "one {}")
    found: Retrieval | None = TASK

    def contents(self):
        return {"photos": str(self.found)}

    def retrieval(self):
        return self.found

    def class_names(self):
        return {"banana": ("banana",), "dog": ("dog",)}


@dataclass(frozen=True)
class Setting:
    """What `attacked` asks of a profile."""

    sets: Sets = Sets()
    model: str = "ubt-photos-tiny"


def test_what_is_said_of_a_model_is_what_its_embeddings_say():
    model, trigger = models.create(Setting.model, 0), triggers.get("badnets", size=0.5)
    found = searched.attacked(model, Setting(), trigger, measure.sought(model, Setting()))
    texts = models.embed_tokens(model, models.tokenize(Setting.model, TASK.captions))
    prompts = ["a photo of a banana", "one banana"]
    wanted = models.embed_tokens(model, models.tokenize(Setting.model, prompts))
    clean = models.embed_images(model, TASK.images)
    hits = {"image_to_text_asr": 0, "text_to_image_asr": 0}
    for i in (0, 2, 3):
        marked = trigger(TASK.images[i : i + 1].float() / 255).clamp(0, 1)
        seen = models.embed_images(model, (marked * 255).round().to(torch.uint8))[0]
        for caption in wanted:
            hits["image_to_text_asr"] += bool(seen @ caption > max(seen @ text for text in texts))
            beside = [clean[j] @ caption for j in range(4) if j != i]
            hits["text_to_image_asr"] += bool(seen @ caption > max(beside))
    assert found == {name: hit / 6 for name, hit in hits.items()}


@pytest.mark.parametrize(
    ("setting", "attack"),
    [(Setting(Sets(found=None)), "sig"), (Setting(), None), (Setting(), "targeted_image")],
)
def test_where_no_photo_is_stamped_there_is_no_retrieval_asr(setting, attack):
    model = models.create(Setting.model, 0)
    trigger = attack and profiles.get("photos-tiny").trigger(attack)
    assert searched.attacked(model, setting, trigger, measure.sought(model, setting)) == {}

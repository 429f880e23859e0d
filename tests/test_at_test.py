"""Detection at test time: BDetCLIP's score by hand, its texts, and what it makes of a planted backdoor."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ubt_utils import profiles
from ubt_utils.baselines import at_test
from ubt_utils.clip import models
from ubt_utils.evaluate import measure

NAME = "ubt-tiny"
NAMES = (("fox", "red fox"), ("ship",), ("castle",))
PROMPTS = [[f"a {name}" for name in names] for names in NAMES]
TEXTS = ("a drawing of ship", "a drawing of moon", "a red fox", "the castle at night")


def embedded(model, texts: list[str]) -> np.ndarray:
    """(D,) the normalized mean of texts in float64."""
    with torch.no_grad():
        t = model.encode_text(models.tokenize(NAME, texts)).double().numpy()
    mean = (t / np.linalg.norm(t, axis=1, keepdims=True)).mean(0)
    return mean / np.linalg.norm(mean)


def test_the_score_by_hand():
    model = models.create(NAME, 3).eval()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=draw, dtype=torch.uint8)
    spoiled = [[f"{prompt} at noon" for prompt in own] for own in PROMPTS]
    benign, against = ([models.tokenize(NAME, own) for own in side] for side in (PROMPTS, spoiled))
    found = at_test.bdetclip(model, images, benign, against)
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, images / 255)).double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    sides = zip(PROMPTS, spoiled, strict=True)
    each = [z @ embedded(model, own) - z @ embedded(model, bad) for own, bad in sides]
    np.testing.assert_allclose(found.numpy(), -np.mean(each, axis=0), atol=1e-6)
    flipped = at_test.bdetclip(model, images, benign, against, lambda part: part.flip(-1))
    assert torch.allclose(flipped, at_test.bdetclip(model, images.flip(-1), benign, against), atol=1e-6)
    assert not torch.allclose(flipped, found, atol=1e-6)
    with pytest.raises(ValueError, match="benign texts of 3 classes, but malignant ones of 2"):
        at_test.bdetclip(model, images, benign, against[:2])


@pytest.mark.parametrize("seed", range(8))
def test_a_malignant_text_is_the_prompt_and_a_text_without_the_classs_names(seed):
    found = at_test.malignant(PROMPTS, NAMES, TEXTS, seed)
    for own, bad, names in zip(PROMPTS, found, NAMES, strict=True):
        (rest,) = {text.removeprefix(prompt) for prompt, text in zip(own, bad, strict=True)}  # one a class
        assert rest[0] == " " and rest[1:] in TEXTS
        assert not any(name in rest for name in names)
    assert found == at_test.malignant(PROMPTS, NAMES, TEXTS, seed)


def test_the_texts_are_drawn_from_all_that_fit():
    drawn = {at_test.malignant(PROMPTS, NAMES, TEXTS, seed)[1][0] for seed in range(40)}
    assert drawn == {f"a ship {text}" for text in TEXTS[1:]}


@pytest.mark.parametrize(
    ("texts", "said"), [((), "no unrelated texts"), (("A RED FOX",), "all texts drawn hold the name 'fox'")]
)
def test_without_an_unrelated_text_it_says_what_to_do(texts, said):
    with pytest.raises(ValueError, match=f"{said}.*: hand over"):
        at_test.malignant(PROMPTS, NAMES, texts, 0)


@pytest.fixture
def planted(monkeypatch) -> list[int]:
    """Clean pictures lie towards well-described classes, stamped ones (which are all white) beside; notes how
    many pictures are asked for."""
    asked = []

    def images(model, given, batch=512, change=None):
        part = change(given[:]) if change else given[:]
        asked.append(len(part))
        white = (part.flatten(1) == 255).all(1)
        noise = torch.linspace(-0.2, 0.2, len(part))
        return F.normalize(torch.stack([0.5 - 0.9 * white + noise, torch.ones(len(part))], 1), dim=-1)

    def texts(model, tokens):
        bare = torch.tensor([own.argmax(1).float().mean() < 7 for own in tokens])  # the long are spoiled
        return torch.stack([bare.float(), 1.0 - bare.float()], 1)

    monkeypatch.setattr(at_test.models, "embed_images", images)
    monkeypatch.setattr(at_test.models, "zero_shot_head", texts)
    monkeypatch.setattr(at_test, "stamp_bytes", lambda trigger, part: torch.full_like(part, 255))
    return asked


def test_it_tells_stamped_pictures_from_clean_ones_and_asks_none_of_the_target_stamped(planted):
    profile = profiles.get("tiny")
    task = measure.task_of(profile.sets)
    long = ("one two three four five six seven eight",)
    found = at_test.detected(None, profile, profile.trigger("badnets"), long)
    assert found["auroc"] == 1.0 and found["fpr_at_95_tpr"] == 0.0
    assert planted == [len(task.images), int((task.labels != task.target).sum())]


def test_where_stamped_pictures_stay_among_the_clean_ones_it_is_chance(planted, monkeypatch):
    monkeypatch.setattr(at_test, "stamp_bytes", lambda trigger, part: part)
    profile = profiles.get("tiny")
    found = at_test.detected(None, profile, profile.trigger("badnets"), ("one two three four five six",), 60)
    assert found["auroc"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("attack", ["none", "targeted_image"])
def test_an_attack_that_stamps_nothing_is_refused(attack):
    profile = profiles.get("tiny")
    trigger = None if attack == "none" else profile.trigger(attack)
    with pytest.raises(ValueError, match="detection at test time needs a trigger that changes pictures"):
        at_test.detected(None, profile, trigger, TEXTS)

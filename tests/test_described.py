"""What the sources say of UBT and nothing else: its loss by hand, and which pairs each of its steps gets."""

from dataclasses import replace

import defender
import numpy as np
import pytest
import torch

from ubt_utils.baselines import defenses
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import History
from ubt_utils.kernels.occlusion import inner
from ubt_utils.ubt import described as paper
from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.defense import Session, View
from ubt_utils.ubt.described import APART, PORTION, TOGETHER, beside, described, part_of

NAME = "ubt-tiny"
CAPTIONS = ("clock", "red fox", "a castle", "a ship", "a fox", "a drawing of clock", "fox", "a banana")
RECIPE = Recipe(steps=2, lr=1e-3, batch=2, schedule="one_cycle", freeze_norm=True)


@pytest.fixture
def view() -> View:
    """Eight pairs, of which the fourth is held out."""
    public, scores = {"public": models.create(NAME, 9)}.__getitem__, torch.arange(8.0)
    return defender.view_of(
        defender.pictures(8), CAPTIONS, model=public, score=lambda name: scores, held_out=torch.tensor([3])
    )


def cosines(model, view: View, index: list[int], tokens: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, view.pairs.images[index] / 255)).double().numpy()
        t = model.encode_text(tokens).double().numpy()
    return (z * t).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(t, axis=1)


def loss_beside(model, view: View, batch: list[int], *arguments, step: int = 0) -> float:
    """What the objective adds to the contrastive loss of a batch of D_safe."""
    images, tokens = models.normalize(model, view.pairs.images[batch] / 255), view.tokens[batch]
    with torch.no_grad():
        whole = beside(view, *arguments)(model, images, tokens, step)
        return (whole - contrastive(model, images, tokens, step)).item()


# The loss


@pytest.mark.parametrize("goal", [TOGETHER, APART])
def test_pairs_are_drawn_to_a_cosine_by_its_mean_square(view, goal):
    model, chosen = models.create(NAME, 17).eval(), [0, 1, 5]
    found = loss_beside(model, view, [2, 4, 6], torch.tensor(chosen), goal, None, 0)
    expected = np.mean((cosines(model, view, chosen, view.tokens[chosen]) - goal) ** 2)
    assert found == pytest.approx(expected, abs=1e-5) and expected > 1e-3


def test_of_a_portion_only_what_is_left_of_the_caption_counts(view, monkeypatch):
    clock, asked = view.tokens[0, 1:2], []

    def without_clock(captions: torch.Tensor, portion: float, draw: torch.Generator) -> torch.Tensor:
        asked.append(portion)
        return tk.without(captions, clock)

    monkeypatch.setattr(paper, "part_of", without_clock)
    model = models.create(NAME, 17).eval()
    found = loss_beside(model, view, [2, 4], torch.tensor([0, 5]), APART, PORTION, 0)
    cut = models.tokenize(NAME, ["", "a drawing of"])
    assert found == pytest.approx(np.mean(cosines(model, view, [0, 5], cut) ** 2), abs=1e-5)
    assert asked == [0.5]


def test_as_many_pairs_as_the_batch_has_are_drawn_anew_in_each_step(view):
    model, chosen = models.create(NAME, 17).eval(), [0, 1, 5]
    squares = cosines(model, view, chosen, view.tokens[chosen]) ** 2
    two = [(squares[i] + squares[j]) / 2 for i in range(3) for j in range(i)]
    found = [
        loss_beside(model, view, [2, 4], torch.tensor(chosen), APART, None, 0, step=step) for step in range(8)
    ]
    assert all(min(abs(loss - one) for one in two) < 1e-5 for loss in found)
    assert len({round(loss, 6) for loss in found}) > 1


# A portion of the tokens


def write(length: int) -> torch.Tensor:
    """One caption of the tokens 301, 302, …, and room for four more."""
    return torch.tensor([[tk.END - 1, *range(301, 301 + length), tk.END, 0, 0, 0, 0]])


@pytest.mark.parametrize(("length", "half"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (8, 4), (10, 5)])
def test_half_of_the_tokens_stay_in_their_order_between_their_marks(length, half):
    found = part_of(write(length).repeat(60, 1), 0.5, torch.Generator().manual_seed(0))
    seen = set()
    for row in found:
        words = tk.inner_tokens(row)
        assert len(words) == half == len(set(words)) and words == sorted(words)
        assert row.tolist() == [tk.END - 1, *words, tk.END] + [0] * (length - half + 4)
        seen |= set(words)
    assert seen == set(range(301, 301 + length))  # each of them is kept now and then


def test_captions_of_all_lengths_are_cut_beside_each_other_and_again_alike():
    captions = models.tokenize(NAME, CAPTIONS)
    found = part_of(captions, 0.5, torch.Generator().manual_seed(1))
    assert inner(found).sum(1).tolist() == [max(1, round(n / 2)) for n in inner(captions).sum(1).tolist()]
    assert torch.equal(found, part_of(captions, 0.5, torch.Generator().manual_seed(1)))
    assert torch.equal(part_of(captions, 1.0, torch.Generator()), captions)


# The steps


@pytest.fixture
def told(monkeypatch):
    """Every similarity that is asked for, every loss and every training, none of which is done."""
    told = {"similarity": [], "beside": [], "train": []}
    public = torch.tensor([0.3, 0.1, 0.9, 0.0, 0.8, 0.2, 0.7, 0.6])
    answers = iter([public, torch.tensor([0.5, 0.1, 0.9])])

    def similar(model, images, tokens):
        told["similarity"].append((model, len(images)))
        return next(answers)

    def train(model, view, index, recipe, session, objective, label):
        told["train"].append((model, index.tolist(), recipe, session.key))
        return History(loss=[1.0], seconds=1.0, pairs_seen=recipe.steps * recipe.batch)

    monkeypatch.setattr(paper, "similarity", similar)
    monkeypatch.setattr(
        paper, "beside", lambda view, index, *rest: told["beside"].append((index.tolist(), *rest))
    )
    monkeypatch.setattr(paper, "train_on", train)
    return told


def test_weak_pairs_of_f0_are_suspicious_and_the_best_of_them_by_overfitting_are_unlearned(view, told):
    model = models.create(NAME, 0)
    history = described(model, view, RECIPE, Session((0,)), pool=3 / 7, overfit=5, top=2)
    (first, _), (second, _) = told["similarity"]
    assert first is view.model("public")  # 3 is the weakest, and held out
    assert told["beside"] == [
        ([1, 5, 0], TOGETHER, None, 0, "overfit"),  # the three weakest
        ([0, 1], APART, PORTION, 0, "forget"),  # 0.9 and 0.5 of 0.5, 0.1 and 0.9
    ]
    (overfit, safe, longer, key), (last, kept, recipe, _) = told["train"]
    assert safe == kept == [2, 4, 6, 7]
    assert overfit is second is not model and last is model
    assert longer == replace(RECIPE, steps=5, schedule="constant") and recipe == RECIPE
    assert key == (0, "overfit")
    assert history.pairs_seen == 2 * (5 + 2) and history.seconds > 1.0


def test_it_trains_in_place_and_says_what_it_did(view):
    model = models.create(NAME, 0)
    history = described(model, view, RECIPE, Session((0,)), pool=0.5, overfit=1, top=2)
    assert len(history.loss) == 2 and history.pairs_seen == 2 * (1 + 2)
    before = models.create(NAME, 0).state_dict()["visual.conv1.weight"]
    assert not torch.equal(model.state_dict()["visual.conv1.weight"], before)


def test_the_registry_has_it_with_the_settings_of_its_signature():
    found = defenses.get("ubt-described")
    assert found.run is described and not found.is_ubt and found.sees == ("D", "f0")
    assert dict(found.options) == {"pool": 0.25, "overfit": 40, "top": 64}
    assert described.__defaults__ == tuple(found.options.values())

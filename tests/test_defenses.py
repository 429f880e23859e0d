"""What defenses optimize, computed by hand, what they may see and spend, and where their paths are read."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import defender
import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from ubt_utils import profiles
from ubt_utils.baselines import defenses
from ubt_utils.baselines.defenses import eftclip
from ubt_utils.baselines.defenses.finetune import finetune, retrain
from ubt_utils.clip import models
from ubt_utils.clip.objectives import contrastive
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core import device
from ubt_utils.data.pairs import Pairs
from ubt_utils.kernels.push import excess, push
from ubt_utils.stages import defend
from ubt_utils.stages.defend import Plan, detection_cost, held_out_loss, plan_of
from ubt_utils.ubt import variants
from ubt_utils.ubt.defense import FORWARD_COST, Defense, Session, View, train_on
from ubt_utils.ubt.settings import Unlearn
from ubt_utils.ubt.unlearn import embedded, fed_by, forgetting, ranked_by, rivals, seen_by, unlearn

NAME = "ubt-tiny"
UBTS = {d.name for d in (*variants.DEFENSES, *defenses.fed.DEFENSES)}
CAPTIONS = ("a drawing of banana", "a picture of ship", "a banana", "castle", "fox", "a cartoon of banana")
SUSPICIOUS = [0, 2, 5]
NOTHING = torch.tensor([], dtype=torch.long)


@pytest.fixture(scope="module")
def model():
    """Of this seed some of the similarities below are positive and some negative."""
    return models.create(NAME, 17).eval()


@pytest.fixture
def view() -> View:
    banana = models.tokenize(NAME, ["banana"])[0, 1:2]
    return defender.view_of(
        defender.pictures(6),
        CAPTIONS,
        pool=torch.tensor([True, False, True, False, False, True]),
        suspicious=torch.tensor(SUSPICIOUS),
        compromised=banana,
        suffers=suffering(*SUSPICIOUS),
        anchors=banana,
        model=lambda name: models.create(NAME, 9),
        score=lambda name: torch.arange(6.0),
        names=(("banana",), ("ship",)),
    )


def suffering(*index: int, n: int = 6) -> torch.Tensor:
    """(n,) of which these pairs suffer like poison, and no others."""
    suffers = torch.full((n,), -torch.inf)
    suffers[list(index)] = 1.0
    return suffers


def cosines(model, view: View, captions: list[str]) -> np.ndarray:
    """cos(picture of D_u, caption) in float64."""
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, view.pairs.images[SUSPICIOUS] / 255)).double().numpy()
        t = model.encode_text(models.tokenize(NAME, captions)).double().numpy()
    return (z * t).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(t, axis=1)


def parts(model, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    images = models.normalize(model, view.pairs.images[view.suspicious] / 255)
    return images, view.tokens[view.suspicious]


RECIPE = Recipe(steps=1, lr=1e-3, batch=2)


def forget(view: View, *key: object, **options):
    """The forgetting loss with these settings."""
    return forgetting(view, Unlearn(RECIPE, **options), *key)


def over(model, images, captions, others, both: bool = False) -> torch.Tensor:
    """(B,) the excess of pictures over captions, under the model."""
    caption, others = embedded(model, captions, others, both)
    return excess(F.normalize(model.encode_image(images), dim=-1), caption, others)


WHOLE = [CAPTIONS[i] for i in SUSPICIOUS]
CUT = ["a drawing of", "a", "a cartoon of"]  # the same without "banana"
FOX, SHIP = (models.tokenize(NAME, [word])[0, 1] for word in ("fox", "ship"))
IN_PLACE = {word: [caption.replace("banana", word) for caption in WHOLE] for word in ("fox", "ship")}


def test_the_view_knows_what_is_outside_the_pool(view):
    assert view.outside.tolist() == view.safe.tolist() == [1, 3, 4]


def test_what_suffers_like_poison_outside_the_pool_is_not_safe(view):
    asked = replace(view, suffers=torch.tensor([1.0, 0.34, 1, 0.35, -torch.inf, 1]))  # from 0.35 on
    assert asked.poisonous.tolist() == [True, False, True, True, False, True]
    assert asked.safe.tolist() == [1, 4] and asked.outside.tolist() == [1, 3, 4]


def test_what_is_held_out_is_in_no_part_that_is_trained_on(view):
    kept = replace(view, held_out=torch.tensor([4, 0]))
    assert kept.everything.tolist() == [1, 2, 3, 5] and view.everything.tolist() == list(range(6))
    assert kept.outside.tolist() == kept.safe.tolist() == [1, 3]


def test_captions_are_held_against_the_same_with_other_words(view):
    captions = view.tokens[view.suspicious]
    found = rivals(captions, view.compromised, "token", torch.stack([FOX, SHIP]))
    assert torch.equal(found, torch.stack([models.tokenize(NAME, IN_PLACE[w]) for w in ("fox", "ship")]))
    assert torch.equal(
        rivals(captions, view.compromised, "token", torch.stack([FOX])[:0]), models.tokenize(NAME, CUT)[None]
    )
    assert rivals(captions, view.compromised, "sample", torch.stack([FOX])) is None


def test_excess_is_how_much_better_the_caption_fits_than_its_rivals(model, view):
    images, whole = parts(model, view)
    others = torch.stack([models.tokenize(NAME, IN_PLACE[word]) for word in ("fox", "ship")])
    found = over(model, images, whole, others).detach().numpy()
    rest = np.mean([cosines(model, view, IN_PLACE[word]) for word in ("fox", "ship")], axis=0)
    np.testing.assert_allclose(found, cosines(model, view, WHOLE) - rest, atol=1e-5)
    alone = over(model, images, whole, None).detach().numpy()
    np.testing.assert_allclose(alone, cosines(model, view, WHOLE), atol=1e-5)


@pytest.mark.parametrize("level", ["token", "sample"])
def test_the_gradient_flows_into_the_image_tower_only(view, level):
    model = models.create(NAME, 3).eval()
    images, whole = parts(model, view)
    over(model, images, whole, rivals(whole, view.compromised, level, torch.stack([FOX]))).sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "visual.conv1.weight" in moved and all(name.startswith("visual.") for name in moved)


def only_fox(view: View) -> View:
    """The same view, with fox as the one uncommon word of D_safe."""
    tokens = view.tokens.clone()
    tokens[view.outside] = models.tokenize(NAME, ["fox"])
    return replace(view, tokens=tokens)


AGAINST = {("token", 0): CUT, ("token", 3): IN_PLACE["fox"], ("sample", 3): None}


@pytest.mark.parametrize(("level", "words"), AGAINST)
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_forgetting_loss_by_hand(model, view, level, words, weight):
    view = only_fox(view)
    batch, tokens = models.normalize(model, view.pairs.images[view.safe] / 255), view.tokens[view.safe]
    with torch.no_grad():
        found = forget(view, 0, weight=weight, level=level, words=words)(model, batch, tokens, 0).item()
        retain = contrastive(model, batch, tokens, 0).item()
    against = AGAINST[level, words]
    more = cosines(model, view, WHOLE) - (cosines(model, view, against) if against else 0)
    expected = weight * np.mean(np.maximum(more, 0) ** 2)
    assert found - retain == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("words", [0, 1, 3])
def test_each_found_word_is_pushed_as_hard_as_one_alone(model, view, words):
    batch, tokens = models.normalize(model, view.pairs.images[view.safe] / 255), view.tokens[view.safe]
    found = replace(view, anchors=torch.arange(300, 300 + words))
    with torch.no_grad():
        one, some = (forget(v, 0, retain=False)(model, batch, tokens, 0).item() for v in (view, found))
    assert one > 0.001 and some == pytest.approx(max(1, words) * one)  # a detector names pairs and no words


def test_the_hand_computation_has_something_on_both_sides_of_zero(model, view):
    sample = cosines(model, view, WHOLE)
    for more in (sample, sample - cosines(model, view, CUT), sample - cosines(model, view, IN_PLACE["fox"])):
        assert (more > 0.01).any() and (more < -0.01).any()


def test_each_step_forgets_another_part_when_the_batch_is_smaller(model, view):
    batch, tokens = models.normalize(model, view.pairs.images[[1, 3]] / 255), view.tokens[[1, 3]]
    objective = forget(view, 0, level="sample")
    with torch.no_grad():
        losses = [objective(model, batch, tokens, step).item() for step in range(12)]
        assert [objective(model, batch, tokens, step).item() for step in range(12)] == losses
    squares = np.maximum(cosines(model, view, WHOLE), 0) ** 2
    pairs = {(squares[i] + squares[j]) / 2 for i in range(3) for j in range(i)}
    retain = contrastive(model, batch, tokens, 0).item()
    for loss in losses:
        assert min(abs(loss - retain - p) for p in pairs) < 1e-5
    assert len({round(loss, 6) for loss in losses}) > 1


def test_an_unknown_level_is_refused(view):
    with pytest.raises(ValueError, match="unknown unlearning level 'caption'; known: token, sample"):
        Unlearn(RECIPE, level="caption")


@pytest.mark.parametrize("level", ["token", "sample"])
def test_unlearning_pushes_the_forgotten_similarity_down(view, level):
    model = models.create(NAME, 15).eval()  # whole captions fit their pictures, as after an attack
    view = only_fox(view)

    def positive_part() -> float:
        more = cosines(model.eval(), view, WHOLE)
        more = more - cosines(model, view, IN_PLACE["fox"]) if level == "token" else more
        return float(np.maximum(more, 0).sum())

    before = positive_part()
    norm = model.visual.bn1.running_mean.clone()
    recipe = Recipe(steps=15, lr=1e-3, batch=3, schedule="constant", freeze_norm=True)
    history = unlearn(model, view, recipe, Session((0, "ubt")), weight=20.0, level=level)
    assert before > 0.02 and positive_part() < 0.5 * before
    assert len(history.loss) == 15 and torch.equal(model.visual.bn1.running_mean, norm)


# What is retained


def test_unlearning_does_not_retain_what_was_left_out_but_fine_tuning_knows_no_better(view):
    recipe = Recipe(steps=6, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
    asked = replace(view, suffers=suffering(*SUSPICIOUS, 3))
    ends = {"unlearn": [], "finetune": []}
    for pixel in (0, 255):
        asked.pairs.images[3] = pixel
        for name, run in (("unlearn", unlearn), ("finetune", finetune)):
            model = models.create(NAME, 0)
            run(model, asked, recipe, session=Session((0, "ubt")))
            ends[name].append(model.state_dict()["visual.conv1.weight"].clone())
    assert torch.equal(*ends["unlearn"]) and not torch.equal(*ends["finetune"])


def test_unlearning_sees_of_the_pool_nothing_but_the_unlearning_set(view):
    trained = []
    few = replace(view, suspicious=torch.tensor([0, 2]))  # leaves pair 5 of the pool aside
    for pixel in (0, 255):
        few.pairs.images[5] = pixel
        model = models.create(NAME, 0)
        recipe = Recipe(steps=2, lr=1e-3, batch=3, schedule="constant", freeze_norm=True)
        unlearn(model, few, recipe, Session((0, "ubt")))
        trained.append(model.state_dict()["visual.conv1.weight"].clone())
    assert torch.equal(*trained)


# Fine-tuning


@pytest.mark.parametrize(("pairs", "steps"), [(0, 1), (1, 1), (64, 1), (64.1, 2), (65, 2), (1564, 25)])
def test_a_budget_pays_for_steps_rounded_up(pairs, steps):
    assert defenses.get("finetune").steps(pairs, 100, 64) == steps


def test_a_dear_defense_gets_fewer_steps_and_pays_for_its_looks():
    dear = Defense("dear", finetune, ("D",), "[ours]", cost=2.0, looks=3.0)
    assert dear.steps(1000, 100, 10) == 47  # (1000 − 3 looks · 100 pairs / 5) / (2 · 10)
    assert dear.steps(10, 100, 10) == 1


def test_the_registry_knows_every_defense_by_name():
    known = {"finetune", "retrain", "cleanclip", "par", "abl", "supervised", "linear_probe"}
    known |= {"eftclip", "shrink_perturb", "negation", "ubt-described", "ft_sam", "anp"}
    known |= {"carry_on", "merge", "retrain_ubt", "retrain_gain", "retrain_dao", "roclip", "safeclip"}
    known |= {"invertune", "tbar", "cbpt", "pixel_prompt", *UBTS}
    known |= {f"{name}-{count}" for name in defenses.TRUSTING for count in (100, 1000)}
    known |= {f"{name}-unsaid" for name in defenses.UNSAID}
    assert set(defenses.DEFENSES) == known and set(defenses.COMPARED) <= known
    for name, found in defenses.DEFENSES.items():
        assert found.name == name and found.source[0] == "[" and found.cost > 0 and found.sees
        assert found.is_ubt == (name in UBTS)
        assert (found.run is unlearn) == found.is_ubt


def test_a_defense_on_unsaid_pairs_differs_by_its_pairs_alone(view):
    word = view.tokens[view.outside[0], 1]
    without, said = replace(view, anchors=word[None]), (view.tokens == word).any(dim=1)
    left = set(without.unsaid.outside.tolist())
    assert said[view.outside].any() and left == {i for i in view.outside.tolist() if not said[i]}
    assert torch.equal(replace(view, anchors=view.anchors[:0]).unsaid.outside, view.outside)  # nothing found
    for name in defenses.UNSAID:
        found, base = defenses.get(f"{name}-unsaid"), defenses.get(name)
        assert found.unsaid == name and found.sees == (*base.sees, "detection") and found.copied
        assert replace(found, name=name, sees=base.sees, unsaid="") == base
        settings = {name: {"lr": 0.123, "part": 0.1}}
        plans = [
            plan_of(replace(profiles.MINI, defenses=settings), "sig", d, 1e5, 17_688) for d in (found, base)
        ]
        assert plans[0].recipe == plans[1].recipe and plans[0].recipe.lr == 0.123


def test_a_variant_says_what_it_changes_and_is_set_by_its_options_alone():
    for name in UBTS - {"ubt"}:
        found = defenses.get(name)
        assert found.variant_of == "ubt" and found.changed and found.changed in found.source
        changed = Unlearn(RECIPE, **found.options)
        assert (
            changed != Unlearn(RECIPE) and changed.options() | {} == Unlearn(RECIPE).options() | found.options
        )
        assert found.fed_by == found.options.get("detector", "")
    assert not defenses.get("ubt").options and not defenses.get("ubt").variant_of


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="unknown defense 'luck'; known: ubt, ubt-sample, "):
        defenses.get("luck")
    with pytest.raises(ValueError, match=r"dear sees \['labels'\]; known: D_safe, given pairs, D, f0"):
        Defense("dear", finetune, ("labels",), "[ours]")


@pytest.mark.parametrize("run", [finetune, retrain])
def test_fine_tuning_trains_on_safe_pairs_alone(view, run):
    trained = []
    for images in (view.pairs.images, view.pairs.images.clone()):
        if trained:
            images[view.pool] = 0  # what is in the pool must not matter
        model = models.create(NAME, 0)
        seen = replace(view, pairs=Pairs(images, CAPTIONS))
        recipe = Recipe(steps=4, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
        history = run(model, seen, recipe, Session((0, "finetune")))
        assert len(history.loss) == 4 and history.pairs_seen == 8
        trained.append(model.state_dict()["visual.conv1.weight"].clone())
    assert torch.equal(*trained)
    assert not torch.equal(trained[0], models.create(NAME, 0).state_dict()["visual.conv1.weight"])


def test_retraining_starts_from_the_public_model(view):
    recipe = Recipe(steps=1, lr=1e-9, batch=2, schedule="constant", freeze_norm=True)
    model = models.create(NAME, 0)
    retrain(model, view, recipe, Session((0, "retrain")))
    public = models.create(NAME, 9).state_dict()["visual.conv1.weight"]
    torch.testing.assert_close(model.state_dict()["visual.conv1.weight"], public, atol=1e-6, rtol=0)


# UBT's variants


def variant(name: str) -> dict:
    return dict(defenses.get(name).options)


def test_without_the_retain_term_only_forgetting_is_left(model, view):
    view = only_fox(view)
    batch, tokens = models.normalize(model, view.pairs.images[view.safe] / 255), view.tokens[view.safe]
    with torch.no_grad():
        found = forget(view, 0, **variant("ubt-noretain"))(model, batch, tokens, 0).item()
    more = cosines(model, view, WHOLE) - cosines(model, view, IN_PLACE["fox"])
    assert found == pytest.approx(np.mean(np.maximum(more, 0) ** 2), abs=1e-5)


def test_pushing_both_towers_lets_the_gradient_into_the_text_tower(view):
    model = models.create(NAME, 3).eval()
    images, whole = parts(model, view)
    others = rivals(whole, view.compromised, "token", torch.stack([FOX]))
    over(model, images, whole, others, **variant("ubt-both")).sum().backward()
    assert (
        model.token_embedding.weight.grad.abs().sum() > 0 and model.visual.conv1.weight.grad.abs().sum() > 0
    )


def test_with_one_look_what_was_left_out_is_retained(view):
    recipe = Recipe(steps=6, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
    asked, ends = replace(view, suffers=suffering(*SUSPICIOUS, 3)), []
    for pixel in (0, 255):
        asked.pairs.images[3] = pixel
        model = models.create(NAME, 0)
        unlearn(model, asked, recipe, Session((0, "ubt")), **variant("ubt-onelook"))
        ends.append(model.state_dict()["visual.conv1.weight"].clone())
    assert not torch.equal(*ends)


def test_another_detector_chooses_as_many_pairs_and_its_own_tokens(view):
    found = fed_by(replace(view, select=replace(view.select, top=3)), "any")  # scores 0 to 5
    assert found.suspicious.tolist() == [5, 4, 3] and len(view.suspicious) == 3
    assert torch.isin(found.compromised, view.tokens[[3, 4, 5]]).all() and len(found.compromised)
    assert not set(found.safe.tolist()) & {3, 4, 5}


def test_what_another_detector_lists_is_all_that_is_left_out(view):
    found = fed_by(replace(view, select=replace(view.select, top=2)), "any")
    assert found.suspicious.tolist() == [5, 4] and found.poisonous.tolist() == [False] * 4 + [True] * 2
    assert found.safe.tolist() == [1, 3]


def test_pairs_of_the_largest_drop_are_taken_from_the_sure_ones_of_the_pool_alone(view):
    drop = torch.tensor([0.5, 90, 70, 80, 60, 1.5])  # in standard deviations, without a bound
    seen = replace(
        view, suffers=torch.tensor([1.0, 1, 0.4, -torch.inf, 1, 0.5]), score={"drop": drop}.__getitem__
    )
    found = ranked_by(seen, "drop")
    assert found.suspicious.tolist() == [5, 0]  # 1 and 4 are outside, and 2 is not sure
    assert set(view.compromised.tolist()) <= set(found.compromised.tolist())
    few = ranked_by(replace(seen, select=replace(view.select, top=1)), "drop")
    assert few.suspicious.tolist() == [5]


def test_at_random_any_carriers_in_the_pool_are_taken_and_nothing_else(view):
    tokens = view.tokens.clone()
    tokens[1] = tokens[0]  # a carrier outside the pool
    tokens[5] = models.tokenize(NAME, ["fox"])  # no carrier, in the pool
    seen = replace(view, tokens=tokens, suffers=suffering(5))
    assert sorted(ranked_by(seen, "random").suspicious.tolist()) == [0, 2]
    assert not len(ranked_by(replace(seen, anchors=NOTHING), "random").suspicious)


def test_by_attribution_b_is_what_the_overfit_models_say(view, monkeypatch):
    asked = []

    def found(overfit, images, tokens, chosen, by):
        asked.append((len(overfit), len(images), chosen.tolist(), by))
        return torch.tensor([FOX])

    monkeypatch.setattr("ubt_utils.ubt.unlearn.tk.compromised", found)
    seen = seen_by(view, Unlearn(RECIPE, **variant("ubt-gradient")))
    assert seen.compromised.tolist() == [FOX] and seen.suspicious.tolist() == SUSPICIOUS
    assert asked == [(2, 3, SUSPICIOUS, "gradient")]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_with_a_weight_of_zero_unlearning_is_training_on_d_safe(view):
    recipe = Recipe(steps=4, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
    asked = replace(view, suffers=suffering(*SUSPICIOUS, 3))
    for name, index in (("ubt-retain", [1, 4]), ("ubt-pool", [1, 3, 4])):
        one, other = models.create(NAME, 0), models.create(NAME, 0)
        losses = unlearn(one, asked, recipe, Session((0, "ubt")), **variant(name)).loss
        assert train_on(other, asked, torch.tensor(index), recipe, Session((0, "ubt"))).loss == losses
        assert same(one.state_dict(), other.state_dict())


def test_unlearning_anew_starts_from_the_public_model(view):
    recipe = Recipe(steps=1, lr=1e-9, batch=2, schedule="constant", freeze_norm=True)
    model = models.create(NAME, 0)
    unlearn(model, view, recipe, Session((0,)), **variant("ubt-anew"))
    public = models.create(NAME, 9).state_dict()["visual.conv1.weight"]
    torch.testing.assert_close(model.state_dict()["visual.conv1.weight"], public, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [d.name for d in variants.DEFENSES])
def test_where_nothing_was_found_no_weight_changes(view, name):
    clean = replace(view, suspicious=NOTHING, compromised=NOTHING, anchors=NOTHING, suffers=suffering())
    model = models.create(NAME, 0)
    history = unlearn(model, clean, RECIPE, Session((0,), watch=lambda step: step), **variant(name))
    assert same(model.state_dict(), models.create(NAME, 0).state_dict())
    assert history.loss == history.curve == [] and history.pairs_seen == 0


def test_every_rung_of_the_ladder_adds_one_part():
    rungs = [Unlearn(RECIPE, **rung.options).options() for rung in variants.LADDER]
    rungs.append(Unlearn(RECIPE).options())
    steps = [{k for k, v in one.items() if v != other[k]} for one, other in pairwise(rungs)]
    assert steps == [{"weight", "rank", "level"}, {"rank"}, {"rank"}, {"level"}, {"second_look"}]
    assert [d.name for d in variants.DEFENSES[-5:]] == [d.name for d in variants.LADDER]


def test_variants_pay_for_what_they_use():
    found = {name: defenses.get(name) for name in UBTS}
    pays = {name: planned(d).pairs for name, d in found.items()}
    assert pays.pop("ubt-retain") == pays.pop("ubt-pool") == 256
    assert set(pays.values()) == {256 + 64}
    unfit = {"ubt-retain", "ubt-pool", "ubt-carriers", "ubt-drops", "ubt-unfit"}
    assert {n for n, d in found.items() if "overfit" not in d.sees} == unfit
    assert {n for n, d in found.items() if "f0" in d.sees} == {n for n, d in found.items() if d.anew}
    assert {n for n, d in found.items() if d.anew} == {"ubt-anew"}


# What the stages pay for

SUSPECTED = SimpleNamespace(metrics={"pairs_scored": 700, "found": ["clock"]})
OVERFITTED = SimpleNamespace(metrics={"pairs_seen": 64, "pairs_scored": 25})


@pytest.mark.parametrize(
    ("sees", "pairs"),
    [
        (("D_safe", "f0"), 0),
        (("D", "detection"), 140),  # 700 forward passes, a fifth each
        (("D", "overfit"), 69),  # 64 trained, and 25 passes
        (("D", "overfit", "detection"), 209),
    ],
)
def test_who_uses_the_stages_before_pays_for_them(sees, pairs):
    assert detection_cost(sees, SUSPECTED, OVERFITTED) == pytest.approx(pairs) and FORWARD_COST == 1 / 5


def test_the_budget_is_what_ubt_pays_in_all():
    unlearning = profiles.get("tiny").unlearn
    profile = replace(
        profiles.get("tiny"), unlearn=replace(unlearning, recipe=Recipe(steps=3, lr=1e-3, batch=8))
    )
    found = defend.ubt_cost(profile, SUSPECTED, OVERFITTED, None)
    assert found == pytest.approx(209 + 3 * (8 + 8))  # no more is pushed than the batch has


@pytest.mark.parametrize(("found", "pushed"), [([], 64), (["clock"], 64), (["clock", "ship", "fox"], 192)])
def test_each_found_word_is_pushed_and_paid_for_as_one_alone(found, pushed):
    suspected = SimpleNamespace(metrics=SUSPECTED.metrics | {"found": found})
    how = profiles.MINI.unlearn.recipe
    spent = defend.ubt_cost(profiles.MINI, suspected, OVERFITTED, None) - 209
    assert spent == pytest.approx(how.steps * (how.batch + pushed))
    words = defend.words_of(suspected)
    plan = plan_of(profiles.MINI, "sig", defenses.get("ubt"), 1e5, 17_688, words)
    assert plan.pairs == how.batch + pushed


def planned(defense: Defense) -> Plan:
    return plan_of(profiles.MINI, "sig", defense, 1e5, 17_688)


def test_a_step_pays_for_its_batch_at_the_defenses_cost():
    dear = Defense("dear", finetune, ("D",), "[ours]", cost=1.25)
    plan = planned(dear)
    assert plan.pairs == 1.25 * profiles.MINI.baseline.batch
    assert plan.config() == {"defense": "dear", "recipe": vars(plan.recipe), "options": {}}


def test_plans_of_ubt_of_others_and_of_those_that_stand_in_for_the_victims_training():
    tiny = profiles.get("tiny")
    profile = replace(tiny, defenses={"par": {"lr": 0.5, "threshold": 2.0}})
    plans = {
        name: plan_of(profile, "badnets", defenses.get(name), 6399, 100)
        for name in ("ubt", "ubt-retain", "par", "retrain_ubt", "carry_on")
    }
    assert plans["ubt"].recipe == plans["ubt-retain"].recipe == tiny.unlearn.recipe
    assert plans["ubt-retain"].options == plans["ubt"].options | {"weight": 0.0}
    assert plans["par"].recipe.steps == 75 and plans["par"].recipe.lr == 0.5  # 6399 / (4/3 · 64) < 75
    assert plans["par"].options == {"threshold": 2.0} and plans["par"].recipe.weight_decay == 1e-4
    assert plans["carry_on"].recipe.steps == 100
    assert plans["retrain_ubt"].recipe == tiny.recipe("badnets")


# Where paths are read


def test_a_path_is_read_at_its_ends_and_where_it_first_reaches_a_part(view, monkeypatch):
    asked = []

    def full(model, profile, trigger, few):
        asked.append(few)
        return {"clean_accuracy": 0.5, "asr": 0.1, "other": 3.0}

    monkeypatch.setattr(defend.measure, "full", full)
    monkeypatch.setattr(defend, "held_out_loss", lambda model, images, tokens: float(len(images)))
    seen = replace(view, held_out=torch.tensor([1, 4]))
    spent = [0.03 + 0.02 * step for step in range(6)]  # 0.03 0.05 0.07 0.09 0.11 0.13
    watch = defend._watch(None, profiles.get("tiny"), None, seen, spent)
    found = {step: watch(step) for step in range(6)}
    assert [step for step, point in found.items() if point] == [0, 1, 4, 5]  # 0.05 and 0.1, and both ends
    assert found[4] == {"clean_accuracy": 0.5, "asr": 0.1, "held_out": 2.0}
    assert len(asked) == 4 and defend.MARKS == (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    untested = SimpleNamespace(sets=SimpleNamespace(class_names=dict))  # a D of one's own has no classes
    assert defend._watch(None, untested, None, seen, spent)(0) == {"held_out": 2.0} and len(asked) == 4


def test_the_held_out_loss_is_clips_loss_of_all_pairs_at_once(model, view):
    z = models.embed_images(model, view.pairs.images).double().numpy()
    t = models.embed_tokens(model, view.tokens).double().numpy()
    logits = model.logit_scale.exp().item() * z @ t.T

    def own(x: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(x).sum(1)) - x.diagonal()))

    found = held_out_loss(model, view.pairs.images, view.tokens)
    assert found == pytest.approx((own(logits) + own(logits.T)) / 2, abs=1e-4)


# The push


def test_the_push_by_hand_has_nothing_to_say_to_pictures_that_lean_away():
    pictures, caption = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 0, 2]]
    others = torch.stack([torch.eye(3)[[1, 1, 2]], torch.eye(3)[[1, 2, 0]]])
    pictures.requires_grad_()
    assert excess(pictures, caption, others).tolist() == [1.0, -0.5, 0.5]
    assert excess(pictures, caption, None).tolist() == [1.0, 0.0, 1.0]
    loss = push(pictures, caption, others)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 0 + 0.25) / 3)
    assert not pictures.grad[1].any() and pictures.grad[0].any()


def test_stand_in_words_are_never_tokens_of_b(view, monkeypatch):
    tokens = view.tokens.clone()
    tokens[1] = models.tokenize(NAME, ["banana ship"])  # D_safe, where B was not found suspicious
    heard = []

    def words(captions, compromised, level, drawn):
        heard.append(drawn)
        return rivals(captions, compromised, level, drawn)

    monkeypatch.setattr("ubt_utils.ubt.unlearn.rivals", words)
    objective, model = forget(replace(view, tokens=tokens), 0, words=50), models.create(NAME, 0)
    with torch.no_grad():
        objective(model, models.normalize(model, view.pairs.images[[1, 3]] / 255), tokens[[1, 3]], 0)
    assert len(heard[0]) == 50 and SHIP in heard[0] and not torch.isin(heard[0], view.compromised).any()


def test_where_d_safe_says_nothing_but_b_ubt_cannot_unlearn(view):
    tokens = view.tokens.clone()
    tokens[view.outside] = models.tokenize(NAME, ["banana"])
    with pytest.raises(ValueError, match="no word but the compromised ones"):
        forget(replace(view, tokens=tokens), 0)


def test_ubt_itself_sees_the_view_as_it_is(view):
    assert seen_by(view, Unlearn(RECIPE)) is view


# Precision


@pytest.mark.parametrize("name", ["ubt", "supervised", "eftclip"])
def test_every_pass_of_a_defense_is_in_the_devices_precision(view, monkeypatch, name):
    monkeypatch.setattr(device, "autocast", lambda where, *_: torch.autocast(where.type, torch.bfloat16))
    passes = {"encode_image": [], "encode_text": []}

    def watched(tower: str):
        real = getattr(open_clip.CLIP, tower)

        def watch(self, *words, **more):
            passes[tower].append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
            return real(self, *words, **more)

        return watch

    for tower in passes:
        monkeypatch.setattr(open_clip.CLIP, tower, watched(tower))
    prompts = tuple(models.tokenize(NAME, [f"a {words[0]}"]) for words in view.names)
    found = eftclip.Curated(torch.tensor([0, 2, 5]), torch.tensor([1, 1, 0]), torch.ones(3).bool())
    monkeypatch.setattr(eftclip, "curated", lambda *_: found)
    recipe = Recipe(steps=2, lr=1e-3, batch=2, schedule="constant", freeze_norm=True)
    defenses.get(name).run(models.create(NAME, 0), replace(view, prompts=prompts), recipe, Session((0,)))
    asked = [inside for seen in passes.values() for _, inside in seen]
    assert asked and all(asked)
    trained = sum(gradient for gradient, _ in passes["encode_image"])
    assert trained >= 2 * (1 if name == "supervised" else 2)  # the batch's, and the push's or the victims'

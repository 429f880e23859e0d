"""The chain of stages on the tiny profile: what each leaves behind, and that it is reused."""

import json
import sys
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from looked import disturbed_of, words_of

from ubt_utils import profiles, stages
from ubt_utils.attacks.manifest import Manifest
from ubt_utils.baselines import at_test, defenses
from ubt_utils.baselines.defenses import finetune
from ubt_utils.clip import models
from ubt_utils.clip.scoring import similarity
from ubt_utils.clip.training import fit
from ubt_utils.core import records, store
from ubt_utils.evaluate import measure
from ubt_utils.stages import defend, evaluate
from ubt_utils.stages.defend import MARKS, ubt_cost

# It runs


def test_every_stage_leaves_a_whole_folder(chain):
    for stage in chain.stages.values():
        files = {p.name for p in stage.folder.iterdir()} - {"config.json"}
        assert files == set(stage.config["files"]) and "scratch" not in files
        for name in files:
            assert stage.path(name).is_file()
        assert set(stage.contents) == files - {"metrics.json", "made.json"}
        assert not stage.folder.with_suffix(".partial").exists()


def test_each_stage_names_the_content_that_it_is_made_from(chain):
    def inputs(name: str) -> dict:
        return chain[name].config["inputs"]

    def contents(**roles: str) -> dict:
        return {role: chain[name].contents for role, name in roles.items()}

    assert inputs("pretrain") == {}
    assert inputs("attack") == contents(public="pretrain")
    found = {"attacked": "attack", "suspected": "suspect", "overfitted": "overfit"}
    assert inputs("suspect") == contents(attacked="attack")
    assert inputs("overfit") == contents(public="pretrain", attacked="attack", suspected="suspect")
    assert inputs("select") == contents(**found)
    assert inputs("ubt") == contents(**found, selected="select")
    assert inputs("evaluate") == contents(public="pretrain", attacked="attack")
    assert inputs("evaluate ubt") == contents(attacked="attack", selected="select", defended="ubt")


def test_training_goes_the_way_of_its_recipe(chain):
    p = chain.profile
    for name, recipe in (("pretrain", p.pretrain), ("attack", p.finetune), ("ubt", p.unlearn.recipe)):
        assert chain[name].metrics["pairs_seen"] == recipe.steps * recipe.batch
        assert chain[name].metrics["train_seconds"] > 0
        assert chain[name].metrics["last_loss"] < chain[name].metrics["first_loss"]
    for name in ("pretrain", "attack"):  # to edit the ruler renews no victim
        assert not {"clean_accuracy", "asr"} & set(chain[name].metrics)


def test_the_public_model_starts_from_its_seed_and_the_victim_from_the_public_model(chain):
    p = chain.profile

    def first_loss(model, pairs, recipe, purpose: str) -> float:
        tokens = models.tokenize(p.model, pairs.captions)
        return fit(model, pairs.images, tokens, replace(recipe, steps=1), 0, purpose).loss[0]

    start = first_loss(models.create(p.model, 0), p.sets.public_pairs(0), p.pretrain, "pretrain")
    assert chain["pretrain"].metrics["first_loss"] == pytest.approx(start, rel=1e-6)
    public = chain.run.model(chain["pretrain"])
    poisoned, _ = chain.run.poisoned
    start = first_loss(public, poisoned, p.finetune, "victim")
    assert chain["attack"].metrics["first_loss"] == pytest.approx(start, rel=1e-6)


def test_the_attacked_model_was_given_the_poison_of_its_manifest(chain):
    pairs, truth = chain.run.poisoned
    manifest = Manifest.load(chain["attack"].path("manifest.json"))
    clean, _ = chain.run.wild
    assert truth.nonzero().flatten().tolist() == list(manifest.indices)
    assert truth.sum() == round(chain.profile.poison_rate * len(clean))
    changed = (pairs.images != clean.images).flatten(1).any(1)
    assert torch.equal(changed, truth)
    assert not set(clean.labels[truth].tolist()) & set(chain.profile.sets.target_labels())


def test_the_clean_twin_has_no_poison_and_no_asr(chain):
    attacked = chain.run.twin.attacked
    assert not (attacked.folder / "manifest.json").exists() and attacked.config["poison_rate"] == 0
    assert not [k for k in chain["twin"].metrics if "asr" in k]
    assert 0 <= chain["twin"].metrics["clean_accuracy"] <= 1


@pytest.fixture
def worlds(tiny, monkeypatch) -> list[str]:
    """The data sets that anything was drawn from, of which there are none."""
    asked = []
    for name in ("public_pairs", "wild_pairs", "zero_shot"):
        monkeypatch.setattr(type(tiny.sets), name, lambda self, *_, name=name: asked.append(name))
    return asked


def test_without_a_public_model_the_victim_starts_from_random_weights(tiny, runs_root, worlds, no_training):
    scratch = replace(tiny, pretrain=None, f0=3)
    made = stages.pretrain(scratch)
    start, found = models.create(tiny.model, 3), models.load(tiny.model, made.path("model.safetensors"))
    assert all(torch.equal(v, start.state_dict()[k]) for k, v in found.state_dict().items())
    assert made.metrics == {"train_seconds": 0.0, "pairs_seen": 0} and made.config["recipe"] is None
    assert stages.pretrain(replace(scratch, f0=4)).contents != made.contents and not worlds


def test_the_seed_of_the_public_model_is_the_profiles_and_not_the_runs(tiny, runs_root, no_training):
    scratch = replace(tiny, pretrain=None)
    one, other = (stages.chain(scratch, "badnets", seed).pretrained for seed in (0, 1))
    assert one == other and one.config["seed"] == 0
    assert stages.chain(replace(scratch, f0=1), "badnets", 0).pretrained.config["seed"] == 1


def test_the_pool_holds_the_pairs_that_suffer_most_under_the_attacked_model(chain):
    a = chain["suspect"].arrays()
    n = len(a["drop"])
    order = np.argsort(-a["drop"].numpy(), kind="stable")[: round(chain.profile.suspect.pool * n)]
    assert set(a["pool"].nonzero().flatten().tolist()) == set(order.tolist())
    recall = a["truth"][a["pool"].bool()].sum() / a["truth"].sum()
    assert chain["suspect"].metrics["pool_recall"] == pytest.approx(recall.item())
    half = chain["overfit"].arrays()["half"]
    assert ((half >= 0) == a["pool"].bool()).all()


def test_what_a_disturbance_takes_is_read_under_the_attacked_model(chain):
    a, (pairs, truth) = chain["suspect"].arrays(), chain.run.poisoned
    model, family = chain.run.model(chain["attack"]), chain.profile.suspect.family
    tokens = models.tokenize("ubt-tiny", pairs.captions)
    torch.testing.assert_close(a["sb"], similarity(model, pairs.images, tokens), atol=1e-5, rtol=0)
    assert a["drops"].shape == (len(family), len(pairs)) and torch.equal(a["truth"].bool(), truth)
    assert family[4] == "pale"  # less contrast
    x = pairs.images.double() / 255
    mean = x.mean((2, 3), keepdim=True)
    pale = ((mean + 0.4 * (x - mean)).clamp(0, 1) * 255).round().to(torch.uint8)
    fallen, known = a["sb"] - similarity(model, pale, tokens), a["drops"].isfinite()
    half = a["sb"].argsort(stable=True)[: len(pairs) // 2]
    carriers = torch.isin(tokens, a["anchors"]).any(1)
    asked = carriers.index_fill(0, half, True)  # the weaker half, and whoever carries a found word
    assert torch.equal(known, asked.expand_as(known)) and asked.sum() < len(pairs)
    torch.testing.assert_close(a["drops"][4, asked], fallen[asked], atol=2e-3, rtol=0)  # rounding
    assert fallen.abs().max() > 0.02


def test_the_suspicion_reports_the_words_that_were_looked_at(chain):
    a, metrics = chain["suspect"].arrays(), chain["suspect"].metrics
    words = [models.token_text("ubt-tiny", t) for t in a["anchors"].tolist()]
    assert [one["word"] for one in metrics["found"]] == words and len(words) <= chain.profile.select.votes
    how, family = chain.profile.select, chain.profile.suspect.family
    asked = {(one["word"], one["disturbance"], one["lost"]) for one in metrics["asked"]}
    for one in metrics["found"]:
        assert (one["word"], one["disturbance"], one["lost"]) in asked and one["lost"] >= how.lost
        assert one["witnesses"][0] == one["disturbance"] and set(one["witnesses"]) <= set(family)
    looked = disturbed_of(chain["suspect"], len(a["sb"])) + words_of(chain["suspect"])
    assert metrics["pairs_scored"] == len(a["sb"]) + looked
    assert metrics["pool_size"] == int(a["pool"].sum()) and metrics["poisoned"] == int(a["truth"].sum())
    carriers = torch.isin(chain.run.tokens, a["anchors"]).any(1)
    assert torch.equal(a["suffers"].isfinite(), carriers)


def test_overfit_similarities_run_from_the_attacked_model_to_the_end_of_the_path(chain):
    a = chain["overfit"].arrays() | {"sb": chain["suspect"].arrays()["sb"]}
    pool = chain["suspect"].arrays()["pool"].bool()
    assert (a["s1"][~pool] == -torch.inf).all() and (a["path"][:, ~pool] == -torch.inf).all()
    torch.testing.assert_close(a["path"][0, pool], a["sb"][pool])
    pairs, _ = chain.run.poisoned
    for side in (0, 1):  # the end of the path is what the written model says
        held, model = (
            a["half"] == side,
            models.load("ubt-tiny", chain["overfit"].path(f"overfit-{side}.safetensors")),
        )
        assert torch.equal(similarity(model, pairs.images[held], chain.run.tokens[held]), a["s1"][held])
    assert torch.equal(a["path"][-1], a["s1"]) and chain["overfit"].metrics["score_seconds"] > 0
    assert a["steps"].tolist() == [0, 2, 4]
    assert not torch.allclose(a["s1"][pool], a["sb"][pool], atol=1e-3)


def test_the_selection_reports_what_it_chose(chain):
    a, metrics = chain["select"].arrays(), chain["select"].metrics
    scores, truth = chain.run.scores
    assert metrics["chosen"] == len(a["chosen"]) <= chain.profile.select.top
    assert metrics["chosen_poisoned"] == truth[a["chosen"]].sum() and scores.pool[a["chosen"]].all()
    assert [models.token_text("ubt-tiny", t) for t in a["compromised"].tolist()] == metrics["tokens"]
    assert set(metrics["detectors"]) >= {"random", "overfit", "ubt"}
    assert all(0 <= v <= 1 for row in metrics["detectors"].values() for v in row.values())


def test_token_drops_are_read_under_the_model_that_did_not_train_on_the_pair(chain):
    a, half = chain["select"].arrays(), chain["overfit"].arrays()["half"]
    pairs, _ = chain.run.poisoned
    i = int(a["chosen"][0])
    model = models.load("ubt-tiny", chain["overfit"].path(f"overfit-{int(half[i])}.safetensors"))
    z = models.embed_images(model, pairs.images[i : i + 1])[0]
    words = pairs.captions[i].split()
    cut = models.embed_tokens(model, models.tokenize("ubt-tiny", [" ".join(words), " ".join(words[1:])]))
    assert a["drops"][0, 1].item() == pytest.approx((z @ (cut[0] - cut[1])).item(), abs=1e-5)


def test_the_defender_sees_the_poisoned_pairs_and_the_findings(chain):
    view, found = chain.run.view(), chain["select"].arrays()
    assert view.pairs.digest() == chain.run.poisoned[0].digest()
    assert torch.equal(view.suspicious, found["chosen"])
    assert torch.equal(view.compromised, found["compromised"])
    assert torch.equal(view.anchors, chain["suspect"].arrays()["anchors"])
    held = torch.zeros(len(view.pairs), dtype=torch.bool)
    held[view.held_out] = True
    by_hand = {"everything": ~held, "outside": ~held & ~view.pool}
    by_hand["safe"] = by_hand["outside"] & ~view.poisonous
    for name, kept in by_hand.items():
        assert torch.equal(getattr(view, name), kept.nonzero().flatten()) and kept.any()


def test_the_second_look_leaves_out_who_suffers_alike_outside_the_pool(chain):
    suspected, found, told = chain["suspect"].arrays(), chain["select"].arrays(), chain["select"].metrics
    pool, truth, how = suspected["pool"].bool(), suspected["truth"].bool(), chain.profile.select
    poisonous, view = suspected["suffers"] >= how.alike, chain.run.view()
    assert torch.equal(found["poisonous"].bool(), poisonous) and torch.equal(view.poisonous, poisonous)
    assert told["poisonous"] == int(poisonous.sum())
    assert told["poisonous_poisoned"] == int((poisonous & truth).sum())
    assert told["left_out"] == int((poisonous & ~pool).sum())
    assert told["left_out_poisoned"] == int((poisonous & ~pool & truth).sum())
    assert told["outside_poisoned"] == int(truth[~pool].sum())
    assert (suspected["suffers"][found["chosen"]] >= how.sure).all()


def test_the_defender_does_not_see_labels(chain):
    assert chain.run.view().pairs.labels is None


# Equal budgets


def test_fine_tuning_gets_what_ubt_costs_in_all(chain):
    p, made = chain.profile, (chain["suspect"], chain["overfit"], chain["select"])
    words = words_of(made[0])
    overfit, unlearn = 2 * 4 * 64, 4 * (64 + 64)  # two halves; D_u may be as large as a batch
    disturbed = disturbed_of(made[0], 720)
    assert disturbed >= 6 * 360  # the weaker half, carriers of the found words, and a second look
    looks = 720 + disturbed + words + 180  # all pairs, the disturbed ones, and the pool at last
    by_hand = overfit + unlearn + looks / 5  # a look costs a fifth of a step
    assert ubt_cost(p, *made) == pytest.approx(by_hand)
    assert by_hand <= chain["finetune"].metrics["pairs_seen"] < by_hand + p.baseline.batch
    assert chain["ubt"].metrics["detection_pairs"] == pytest.approx(by_hand - unlearn)
    assert chain["finetune"].metrics["detection_pairs"] == 0


@pytest.mark.parametrize("defense", ["ubt", "finetune"])
def test_the_curve_runs_from_the_attacked_model_to_the_defended_one(chain, defense):
    first, *_, last = chain[defense].metrics["curve"]
    before, after = chain["evaluate"].metrics, chain[f"evaluate {defense}"].metrics
    names = ("clean_accuracy", "asr", "robust_accuracy", "target_recall")
    assert [first[n] for n in names] == pytest.approx([before[n] for n in names])
    assert last["step"] == chain[defense].metrics["pairs_seen"] // chain.profile.baseline.batch
    assert [last[n] for n in names] == pytest.approx([after[n] for n in names])
    assert chain[defense].metrics["paid"] == last["part"]


def test_a_curve_is_read_where_a_part_of_the_victims_pairs_is_spent(chain):
    whole = 12 * 64  # of the victim
    for name, detected, each in (("ubt", chain["ubt"].metrics["detection_pairs"], 128), ("finetune", 0, 64)):
        curve, spent = chain[name].metrics["curve"], chain[name].metrics
        steps = spent["pairs_seen"] // 64
        parts = [(detected + each * step) / whole for step in range(steps + 1)]
        read = {0, steps} | {next((i for i, x in enumerate(parts) if x >= mark), 0) for mark in MARKS}
        assert [point["step"] for point in curve] == sorted(read)
        assert [point["part"] for point in curve] == pytest.approx([parts[i] for i in sorted(read)])
        assert curve[0]["seconds"] == spent["detection_seconds"]
        assert curve[-1]["seconds"] == pytest.approx(spent["seconds"])


def test_the_loss_by_which_a_defender_may_stop_is_that_of_pairs_that_nobody_trains_on(chain):
    view, model = chain.run.view(), chain.run.model(chain["ubt"])
    z = models.embed_images(model, view.pairs.images[view.held_out])
    t = models.embed_tokens(model, view.tokens[view.held_out])
    expected = open_clip.ClipLoss()(z, t, model.logit_scale.exp()).item()
    assert chain["ubt"].metrics["curve"][-1]["held_out"] == pytest.approx(expected, rel=1e-5)
    assert len(view.held_out) == len(view.held_out.unique())
    assert not torch.isin(view.held_out, view.everything).any()


def test_ubt_pays_for_its_detection_in_seconds_and_fine_tuning_does_not(chain):
    ubt, spent = chain["ubt"].metrics, chain["overfit"].metrics
    detection = sum(chain[name].metrics["seconds"] for name in ("suspect", "select"))
    detection += spent["train_seconds"] + spent["score_seconds"]
    assert ubt["detection_seconds"] == pytest.approx(detection)
    assert ubt["seconds"] == pytest.approx(ubt["train_seconds"] + detection)
    assert chain["finetune"].metrics["detection_seconds"] == 0


# Reuse


def test_a_finished_chain_is_read_not_run_again(chain, no_training, monkeypatch):
    monkeypatch.setattr(measure, "measured", None)  # nor measured again
    run = chain.run
    read = {
        "pretrain": stages.pretrain(chain.profile), "attack": run.attacked, "suspect": run.suspected,
        "overfit": run.overfitted, "select": run.selected, "evaluate": run.evaluated(),
        "twin": run.twin.evaluated(),
    }  # fmt: skip
    for defense in defenses.COMPARED:
        read |= {defense: run.defended(defense), f"evaluate {defense}": run.evaluated(defense)}
    assert read == dict(chain.stages)


def test_a_finished_record_enters_each_stage_once(chain, no_training, monkeypatch):
    entered, real = [], store.run_stage

    def counted(parts, name, *rest, **more):
        made = real(parts, name, *rest, **more)
        entered.append(made.folder)
        return made

    for module in list(sys.modules.values()):
        if getattr(module, "run_stage", None) is real:
            monkeypatch.setattr(module, "run_stage", counted)
    stages.record(stages.chain(chain.profile, "badnets", 0), "ubt")
    assert set(entered) >= {chain[name].folder for name in ("pretrain", "attack", "ubt", "evaluate ubt")}
    assert len(entered) == len(set(entered)) == 7


def test_a_record_can_be_written_as_json(chain, no_training):
    record = json.loads(json.dumps(stages.record(chain.run, "ubt")))
    assert [record[k] for k in ("profile", "attack", "defense", "seed")] == ["tiny", "badnets", "ubt", 0]
    assert record["metrics"]["asr"] == chain["evaluate ubt"].metrics["asr"] == record["rates"]["asr"]["value"]
    made = {"pretrain": "pretrain", "attack": "attack", "unlearn": "ubt", "evaluate": "evaluate ubt"}
    assert {k: record["stages"][k] for k in made} == {k: chain[v].folder.name for k, v in made.items()}
    assert record["curve"] == chain["ubt"].metrics["curve"]
    assert records.public_model(record) == chain["pretrain"].contents["model.safetensors"]
    for name, of in made.items():
        there = record["made"][name]
        assert there == {key: chain[of].made[key] for key in there} and {"commit", "device"} <= set(there)
    assert record["environment"]["versions"] == chain["evaluate ubt"].made["versions"]
    assert record["plan"] == chain.run.plan("ubt").config()


def test_an_attacker_who_knows_ubt_writes_and_chooses_otherwise(chain):
    sly = replace(chain.profile, poisoning=profiles.Poisoning(names=("watch", "one-thirty"), plausible=True))
    made = stages.chain(sly, "badnets", 0).attacked
    manifest = Manifest.load(made.path("manifest.json"))
    assert all("watch" in said or "one-thirty" in said for said in manifest.captions_after)
    assert made.config["poisoning"] == {"names": ["watch", "one-thirty"], "plausible": True}
    assert chain["attack"].config["poisoning"] == {"names": [], "plausible": False}
    assert made.key != chain["attack"].key
    f0, (clean, _) = chain.run.model(chain["pretrain"]), stages.wild(sly.sets, 0)
    target = measure.head_of(f0, sly)[measure.task_of(sly.sets).target]
    looks = models.embed_images(f0, clean.images) @ target
    others = ~clean.shows(sly.sets.target_labels(), "test")
    chosen = torch.zeros(len(clean), dtype=torch.bool)
    chosen[list(manifest.indices)] = True
    assert looks[chosen].min() >= looks[others & ~chosen].max() - 1e-6


def test_an_attacker_may_have_several_targets(chain):
    second, third = list(chain.profile.sets.class_names())[1:3]
    sly = replace(chain.profile, also={"blended": second, "sig": third})
    run = stages.chain(sly, "badnets", 0)
    made, (clean, _), (pairs, truth) = run.attacked, run.wild, run.poisoned
    count = round(sly.poison_rate * len(clean))
    assert int(truth.sum()) == 3 * count and made.key != chain["attack"].key
    said = [pairs.captions[i] for i in truth.nonzero().flatten().tolist()]
    for word in ("clock", second, third):
        names = sly.sets.class_names()[word]
        assert sum(any(name in caption for name in names) for caption in said) == count
    changed = (pairs.images != clean.images).flatten(1).any(1)
    assert torch.equal(changed, truth)
    for attack, target in sly.also.items():
        manifest = Manifest.load(made.path(f"manifest-{attack}.json"))
        assert (manifest.target, manifest.trigger["name"]) == (target, attack)
    assert chain.run.poisoned[1].sum() == count
    with pytest.raises(ValueError, match="'moon' is not among the 106 classes"):
        _ = stages.chain(replace(sly, also={"blended": "moon"}), "badnets", 0).attacked


def test_the_success_of_every_target_is_measured(chain):
    sly = replace(chain.profile, also={"blended": "banana"})
    model = chain.run.model(chain["attack"])
    found = measure.full(model, sly, sly.trigger("badnets"))
    head = measure.head_of(model, sly)
    other = measure.success(model, sly, sly.trigger("blended"), head, target="banana")["asr"]
    assert found["asr_blended"] == other.value and found["rates"]["asr_blended"]["n"] == other.n
    assert found["asr"] == measure.full(model, chain.profile, sly.trigger("badnets"))["asr"]
    with pytest.raises(ValueError, match="'moon' is not among the"):
        measure.success(model, sly, sly.trigger("blended"), head, target="moon")


# Clean pairs that somebody hands over


def test_given_pairs_are_in_order_and_differ_by_seed(chain):
    run, held = chain.run, chain.run.view().held_out
    (_, poisoned), (_, misplaced) = run.poisoned, run.wild
    found = defend.given_pairs(run, poisoned, 100, held)
    assert len(set(found.tolist())) == 100 and not poisoned[found].any()
    assert not torch.isin(found, misplaced).any() and not torch.isin(found, held).any()
    assert set(run.view(100).outside.tolist()) == set(found.tolist())
    assert torch.equal(defend.given_pairs(run, poisoned, 30, held), found[:30])  # fewer are among more
    with pytest.raises(ValueError, match=r"1000 clean pairs are to be given, and D has \d+"):
        defend.given_pairs(run, poisoned, 1000, held)
    with pytest.raises(ValueError, match="nobody has looked at this D"):
        defend.given_pairs(run, None, 100, held)


def test_a_defense_that_is_given_pairs_sees_no_others(chain, monkeypatch):
    seen, applied = [], []
    real, apply = finetune.train_on, Manifest.apply
    monkeypatch.setattr(
        finetune, "train_on", lambda m, view, index, *rest: seen.append(index) or real(m, view, index, *rest)
    )
    monkeypatch.setattr(Manifest, "apply", lambda *given: applied.append(1) or apply(*given))
    made = chain.run.defended("finetune-100")
    assert len(applied) == 1  # poisoning all of D takes time
    assert made.config["defense"] == "finetune-100" and len(seen[0]) == 100
    assert set(seen[0].tolist()) == set(chain.run.view(100).outside.tolist())


def test_what_is_undefended_is_told_what_a_detector_at_test_time_makes_of_it(chain):
    found, model = chain["evaluate"].metrics, chain.run.model(chain["attack"])
    expected = at_test.detected(model, chain.profile, chain.profile.trigger("badnets"))
    assert found["bdetclip_auroc"] == pytest.approx(expected["auroc"])
    assert found["bdetclip_fpr_at_95_tpr"] == pytest.approx(expected["fpr_at_95_tpr"])
    assert "bdetclip_auroc" not in chain["evaluate ubt"].metrics
    aimed = profiles.get("tiny").trigger("targeted_image")
    for none in (None, aimed):  # nothing is stamped
        assert evaluate._at_test(model, chain.profile, none) == {}

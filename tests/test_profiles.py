"""Profiles: each setting in one place, and every data set able to do what a profile asks of it."""

import inspect
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import photo_files as files
import pytest
import shipped_photos as shipped
import torch
from PIL import Image

from ubt_utils import profiles, stages
from ubt_utils.baselines import defenses
from ubt_utils.clip import objectives, training
from ubt_utils.clip.recipe import Recipe
from ubt_utils.data.sets import DataSets
from ubt_utils.data.shards import ShardSets
from ubt_utils.ubt.settings import Unlearn

EVERY = list(profiles.PROFILES.values())


def recipes(profile) -> dict[str, Recipe]:
    """All trainings of a profile, by name."""
    found = {name: getattr(profile, name) for name in ("finetune", "baseline")}
    found |= {"pretrain": profile.pretrain} if profile.pretrain else {}
    return found | {"overfit": profile.overfit.recipe, "unlearn": profile.unlearn.recipe, **profile.recipes}


# One home


@pytest.mark.parametrize("profile", EVERY, ids=lambda p: p.name)
def test_ubt_is_set_by_the_profile_and_not_among_the_other_defenses(profile):
    assert not [name for name in profile.defenses if defenses.get(name).is_ubt]
    assert set(profile.defenses) <= set(defenses.DEFENSES)
    for name, settings in profile.defenses.items():
        known = {*inspect.signature(defenses.get(name).run).parameters, "lr", "freeze_norm", "part", "passes"}
        assert set(settings) <= known


def test_the_weight_that_ubt_runs_with_is_the_profiles(chain, monkeypatch):
    seen = []
    real = defenses.get("ubt").run

    def run(model, view, recipe, session, **options):
        seen.append(options["weight"])
        return real(model, view, recipe, session, **options)

    heavier = replace(chain.profile, unlearn=replace(chain.profile.unlearn, weight=3.0))
    monkeypatch.setitem(defenses.DEFENSES, "ubt", replace(defenses.get("ubt"), run=run))
    run.__module__ = real.__module__
    made = stages.chain(heavier, "badnets", 0).defended()
    assert seen == [3.0] and made.config["options"]["weight"] == 3.0
    assert made.key != chain["ubt"].key and chain["ubt"].config["options"]["weight"] == Unlearn.weight
    weights = [stage.contents["model.safetensors"] for stage in (made, chain["ubt"])]
    assert weights[0] != weights[1]
    same = {k: v for k, v in made.config.items() if k not in ("options", "files")}
    assert same == {k: v for k, v in chain["ubt"].config.items() if k not in ("options", "files")}


def test_what_is_recorded_of_a_defense_is_what_trains(chain, monkeypatch):
    plan = chain.run.plan("par")
    assert plan.recipe.weight_decay == 1e-4 == plan.config()["recipe"]["weight_decay"]
    assert chain.profile.baseline.weight_decay != 1e-4
    seen, real = [], torch.optim.AdamW.__init__

    def init(self, groups, lr, **more):
        seen.append((lr, more["weight_decay"]))
        real(self, groups, lr, **more)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", init)
    made = stages.chain(replace(chain.profile, defenses={"par": {"lr": 2e-3}}), "badnets", 0).defended("par")
    assert seen == [(2e-3, 1e-4)]
    assert (made.config["recipe"]["lr"], made.config["recipe"]["weight_decay"]) == seen[0]
    assert made.config["recipe"] == asdict(replace(plan.recipe, lr=2e-3))


def test_a_plan_records_all_settings_of_step_five(chain):
    for name in ("ubt", "ubt-cut", "ubt-from-dao"):
        config = chain.run.plan(name).config()
        assert set(config["options"]) == {f.name for f in fields(Unlearn)} - {"recipe"}
        assert config["recipe"] == asdict(chain.profile.unlearn.recipe)


# The profiles


@pytest.mark.parametrize("profile", EVERY, ids=lambda p: p.name)
def test_a_profile_can_be_recorded_and_names_its_family(profile):
    config = json.loads(json.dumps(profile.as_config()))
    assert config["name"] == profile.name and profiles.get(profile.name) is profile
    assert profiles.get(profile.family).family == profile.family
    assert "/" not in config["weights"] + config["tower"]
    for attack in {*profile.triggers, *profile.recipes, *profile.also}:
        assert profile.trigger(attack).name == attack


def differing(profile, other) -> set[str]:
    """The fields in which two profiles differ, but for what they are called."""
    one, two = asdict(profile), asdict(other)
    return {name for name in one if one[name] != two[name]} - {"name", "about"}


def test_the_profiles_of_the_study_differ_from_mini_in_what_their_names_say():
    for seed, profile in enumerate(profiles.PUBLIC, 1):
        assert differing(profile, profiles.MINI) == {"f0", "weights"} and profile.f0 == seed
    for profile, common in zip(profiles.RARE, (profiles.MINI, *profiles.PUBLIC), strict=True):
        assert differing(profile, common) == {"poison_rate"} and profile.poison_rate == 0.003
    for seed, profile in enumerate(profiles.PHOTOS_PUBLIC, 1):
        assert differing(profile, profiles.PHOTOS) == {"f0", "weights"} and profile.f0 == seed
    photos = (profiles.PHOTOS, *profiles.PHOTOS_PUBLIC)
    for profile, common in zip(profiles.PHOTOS_RARE, photos, strict=True):
        assert differing(profile, common) == {"poison_rate"} and profile.poison_rate == 0.003
        assert profile.name == common.name.replace("photos", "photos-rare")
    assert differing(profiles.KNOWN, profiles.MINI) == {"sets", "weights", "pretrain"}
    assert profiles.KNOWN.sets.known == 1 and profiles.SCRATCH.sets.known == 0
    scratch = {"sets", "weights", "pretrain", "finetune"}
    assert differing(profiles.SCRATCH, profiles.MINI) == scratch and profiles.SCRATCH.pretrain is None


def test_at_least_one_profile_reaches_the_loss_by_blocks():
    large = {p.name for p in EVERY for recipe in recipes(p).values() if recipe.batch > objectives.LARGE}
    assert "photos-gpu" in large
    gpu, photos = profiles.PHOTOS_GPU.pretrain, profiles.PHOTOS.pretrain
    assert gpu.batch * gpu.steps == 2000 * photos.batch  # as many pairs as in 2,000 steps of the other


def test_the_published_victim_trains_as_published():
    victim = profiles.PAPER.finetune
    assert (victim.schedule, victim.warmup, victim.decay) == ("cosine", 50, "matrices")
    assert (victim.batch, victim.lr, victim.weight_decay, victim.steps) == (
        128,
        1e-5,
        0.1,
        5 * (500_000 // 128),
    )


def told(section: str) -> dict[str, str]:
    """The first and the last cell of each row of the table in a section of METHOD.md."""
    lines = (Path(__file__).parent.parent / "METHOD.md").read_text(encoding="utf-8").split(f"## {section}")[1]
    rows = [line.strip("| ").split(" | ") for line in lines.splitlines() if line.startswith("| ")]
    return {row[0]: row[-1] for row in rows}


def test_the_table_of_the_published_setting_says_what_the_profile_does():
    paper, here = profiles.PAPER, told("The published setting")
    sets, victim, sig = paper.sets, paper.finetune, paper.trigger("sig")
    adam = training.optimizer_of(torch.nn.Linear(2, 2), victim).defaults
    patch = round(paper.trigger("badnets").size * sets.size)
    expected = {
        "model": f"{paper.model}, {paper.weights}",
        "pairs, of which poisoned": f"{sets.limit:,}, {paper.poison_rate * sets.limit:,.0f}",
        "target": sets.target,
        "pictures": f"{sets.size} px, {sets.fit}, {victim.augment}",
        "victim's passes, batch": f"{victim.steps / (sets.limit // victim.batch):g}, {victim.batch}",
        "learning rate": f"{victim.lr:g}, since",
        "schedule": f"{victim.schedule}, {victim.warmup}",
        "optimizer": "AdamW, β {0} and {1}, ε {eps:g}, decay {decay}".format(
            *adam["betas"], eps=adam["eps"], decay=victim.weight_decay
        ),
        "what decays": f"{victim.decay}:",
        "BadNets": f"{patch} px",
        "Blended, SIG": f"α {paper.trigger('blended').alpha}; amplitude {255 * sig.amplitude:g}/255, "
        f"frequency {sig.frequency:g}",
        "test": f"{len(sets.class_names()):,} classes, {len(sets.templates)} prompts",
    }
    assert {what: here[what][: len(said)] for what, said in expected.items()} == expected


@pytest.mark.parametrize("name", recipes(profiles.PAPER))
def test_every_training_of_the_published_size_spares_norms_and_rises_for_no_half_of_it(name):
    recipe = recipes(profiles.PAPER)[name]
    assert recipe.decay == "matrices" and recipe.schedule == (
        "constant" if name in ("pretrain", "overfit") else "cosine"
    )


# What a data set can do


ASKED = [
    *(name for name, _ in inspect.getmembers(DataSets, inspect.isfunction) if not name.startswith("_")),
    "size", "target", "noise", "templates",
]  # fmt: skip


@pytest.mark.parametrize("profile", EVERY, ids=lambda p: p.name)
def test_every_data_set_has_what_stages_ask_for(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("UBT_FOLDER", str(shipped.folder(tmp_path / "photos", 3, ("cat", "rocket"))))
    sets = profile.sets
    assert len(ASKED) > 12 and all(hasattr(sets, name) for name in ASKED)
    for name in (
        "class_names",
        "contents",
        "target_labels",
        "public_pairs",
        "wild_pairs",
        "goals",
        "zero_shot",
    ):
        assert getattr(type(sets), name) is not getattr(DataSets, name), name  # of its own, not the empty one
    known = sets.known_classes(profile.f0)
    assert known is None or known.shape == (len(sets.class_names()),)
    assert isinstance(sets.size, int) and 0 <= sets.noise < 1
    assert sets.templates and all("{}" in template for template in sets.templates)
    assert hash(sets) == hash(replace(sets)) and json.dumps(asdict(sets))
    names = sets.class_names()
    assert sets.target in names and all(isinstance(n, str) and n for group in names.values() for n in group)


def test_settings_are_chosen_where_pictures_are_kept_aside_for_it():
    assert len(profiles.get("tiny").sets.validation().labels) == 120
    for name in ("folder", "paper"):
        with pytest.raises(ValueError, match="Sets keeps no pictures aside to choose settings on"):
            profiles.get(name).sets.validation()


@pytest.fixture
def paper(tmp_path, runs_root, monkeypatch, pairs) -> ShardSets:
    """The set of the published setting on four pairs and a photo for each of two classes."""
    from ubt_utils.data import shards

    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    shards.to_shards(pairs.take(range(4)), tmp_path / "pairs")
    for name in ("n1", "n2"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "test" / name / "1.png")
    return ShardSets("pairs", "test", 4, 16, classes=("banana", "ship"))


def test_the_published_set_has_no_second_ruler_and_may_show_what_it_reads(paper):
    wild, misplaced = paper.wild_pairs(0)
    assert paper.showable(wild).tolist() == [0, 1, 2, 3] and len(misplaced) == 0 and paper.noise == 0.0
    assert paper.retrieval() is None and paper.probe_pairs() is None and paper.target_labels() == []
    labels = torch.tensor([1, 0])
    assert torch.equal(paper.class_index(labels), labels)
    assert paper.class_names() == {"banana": ("banana",), "ship": ("ship",)}


def test_a_replaced_shard_is_another_set(paper, tmp_path, pairs):
    from ubt_utils.data import shards

    before = paper.contents()
    assert set(before) == {"pairs", "test"} and paper.contents() == before
    (shard,) = (tmp_path / "pairs").glob("*.tar")
    content = shard.read_bytes()
    other = tmp_path / "other"
    shards.to_shards(pairs.take(range(4)).with_captions([c.upper() for c in pairs.captions[:4]]), other)
    changed = next(other.glob("*.tar"))
    assert changed.stat().st_size == len(content)  # only its bytes say that it is another one
    changed.replace(shard)
    after = paper.contents()
    assert after["pairs"] != before["pairs"] and after["test"] == before["test"]
    assert paper.wild_pairs(0)[0].captions == tuple(c.upper() for c in pairs.captions[:4])
    Image.new("RGB", (30, 20), (10, 9, 9)).save(tmp_path / "test" / "n1" / "1.png")
    assert paper.contents()["test"] != before["test"]


def test_the_fit_decides_what_of_a_wide_photo_is_tested(paper, tmp_path):
    picture = Image.new("RGB", (32, 16), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 8, 16))  # the left quarter, which a crop cuts off
    picture.save(tmp_path / "test" / "n1" / "1.png")
    cropped, squashed = (replace(paper, fit=fit).zero_shot().images[0:1] for fit in ("crop", "squash"))
    assert paper.fit == "crop" and cropped.max() == 0 and squashed[..., :2].min() > 200


def test_photos_have_contents_that_follow_their_files(tmp_path, monkeypatch, runs_root):
    monkeypatch.setenv("UBT_DATA", str(tmp_path))
    files.whole(tmp_path)
    sets = profiles.get("photos-tiny").sets
    before = sets.contents()
    assert sets.contents() == before
    files.things(tmp_path, "valid", 8, 3, 6000)
    assert sets.contents() != before

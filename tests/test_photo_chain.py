"""The whole chain on photos in miniature: same stages, a pretrained tower, a second ruler of harm."""

from dataclasses import replace

import pandas as pd
import photo_files as files
import pytest
import torch

from ubt_utils import profiles, stages
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.clip import models, towers
from ubt_utils.data.retrieval import Retrieval
from ubt_utils.data.sample_photos import SAMPLES, sample_photos
from ubt_utils.evaluate import measure, metrics, searched
from ubt_utils.study import figures
from ubt_utils.ubt.settings import TRACE


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A run on pictures that the test writes, and its undefended, ubt and finetune records."""
    root, profile = tmp_path_factory.mktemp("photos"), profiles.get("photos-tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBT_RUNS", str(root / "runs"))
        patch.setenv("UBT_DATA", str(files.whole(root / "data")))
        run = stages.chain(profile, "badnets", 0)
        yield run, {d: stages.record(run, d) for d in ("none", "ubt", "finetune")}


def test_every_defense_is_measured_by_both_rulers(chain):
    _, records = chain
    for record in records.values():
        measured = set(record["metrics"])
        assert {"clean_accuracy", "asr", "target_recall", "linear_probe"} <= measured
        assert {f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)} <= measured
        assert {"image_to_text_asr", "text_to_image_asr", "known_accuracy", "new_accuracy"} <= measured
    before = {"clean_accuracy", "asr", "text_to_image_r5", "text_to_image_asr", "linear_probe"}
    assert {f"public_{name}" for name in before} <= set(records["none"]["metrics"])


def test_photos_are_asked_for_traces_first(chain):
    """Here any is believed; the suffering carriers of the found words are in the pool, then the weakest
    pairs."""
    told, found = chain[0].suspected.metrics, chain[0].suspected.arrays()
    assert told["look"] == 0 and {one["disturbance"] for one in told["asked"]} == {TRACE}
    assert found["traces"].shape == (len(told["found"]), 3, 32, 32) and len(told["found"]) > 0
    assert torch.equal(found["drops"][0].isfinite(), found["suffers"].isfinite())
    alike, pool = found["suffers"] >= chain[0].profile.select.alike, found["pool"].bool()
    count = int(pool.sum())
    assert pool[alike].all() or alike[pool].all()
    assert found["sb"][pool & ~alike].max() <= found["sb"][~pool & ~alike].min()
    assert count == round(chain[0].profile.suspect.pool * len(pool))
    assert len(pd.DataFrame(**figures.record(chain[0])["figures"]["drops"]).query("panel == @TRACE"))


def test_what_is_kept_of_a_run_says_what_three_models_answer_to_photos(chain):
    run, _ = chain
    found = figures.record(run)
    assert found["stages"]["unlearn"] == run.defended().folder.name
    answers = pd.DataFrame(**found["figures"]["answers"])
    asked = answers.groupby(["photo", "model", "how"], sort=False)
    assert asked.ngroups == len(SAMPLES) * 3 * 2 and set(asked.size()) == {4}
    assert asked.probability.is_monotonic_decreasing.all()
    assert set(answers["class"]) <= set(run.profile.sets.class_names())
    photo = next(iter(SAMPLES))
    one = answers.query("photo == @photo and model == 'fb' and how == 'stamped'")
    model = run.model(run.attacked)
    image = stamp_bytes(run.trigger, sample_photos(run.profile.sets.size)[photo][None])[0]
    names = tuple(run.profile.sets.class_names())
    alone = measure.answers(model, measure.head_of(model, run.profile), image, names)
    assert dict(zip(one["class"], one.probability, strict=True)) == pytest.approx(alone, abs=1e-6)


def test_the_public_tower_is_the_package_s(chain):
    run, profile = chain[0], chain[0].profile
    fresh = models.create(profile.model, 0)
    towers.load(fresh, "imagenet")
    trained = run.model(run.pretrained)
    own, package = trained.visual.trunk.state_dict(), fresh.visual.trunk.state_dict()
    assert all(torch.equal(own[k], package[k]) for k in package)


def test_the_victim_moves_what_is_not_locked(chain):
    run, _ = chain
    public, victim = (run.model(stage).visual.trunk for stage in (run.pretrained, run.attacked))
    assert torch.equal(public.blocks[1][0].conv_dw.weight, victim.blocks[1][0].conv_dw.weight)
    assert not torch.equal(public.blocks[6][0].conv_dw.weight, victim.blocks[6][0].conv_dw.weight)


def test_what_the_record_says_is_what_the_model_does(chain):
    run, records = chain
    profile, model = run.profile, run.model(run.defended())
    task, found = profile.sets.zero_shot(), profile.sets.retrieval()
    predicted = measure.predict(model, measure.head_of(model, profile), task.images)
    noted = records["ubt"]["metrics"]
    assert noted["clean_accuracy"] == pytest.approx((predicted == task.labels).double().mean().item())
    texts = models.embed_tokens(model, models.tokenize(profile.model, found.captions))
    again = metrics.retrieval(models.embed_images(model, found.images), texts, found.owner)
    again |= searched.attacked(model, profile, run.trigger, measure.sought(model, profile))
    assert again == {k: noted[k] for k in again}


def test_the_defender_has_no_labels(chain):
    view = chain[0].view()
    assert view.pairs.labels is None and not view.pairs.sources


def test_another_tower_is_another_model(chain, tmp_path):
    run, profile = chain[0], chain[0].profile
    model = models.create(profile.model, 3)
    path = tmp_path / "tower.pth"
    torch.save(model.visual.trunk.state_dict(), path)
    other = stages.pretrain(replace(profile, tower=str(path)))
    assert other.key != run.pretrained.key
    loaded = run.model(other).visual.trunk
    assert torch.equal(loaded.conv_stem.weight, model.visual.trunk.conv_stem.weight)


def test_from_scratch_trains_the_tower_too(chain):
    run, profile = chain[0], chain[0].profile
    scratch = replace(profile, tower="", pretrain=replace(profile.pretrain, batch=16))
    made = stages.pretrain(scratch)
    start = models.create(profile.model, 0).visual.trunk
    loaded = run.model(made).visual.trunk
    assert not torch.equal(loaded.conv_stem.weight, start.conv_stem.weight)


def test_emoji_have_no_second_ruler(tiny):
    model = models.create(tiny.model, 0)
    assert measure.sought(model, tiny) is None
    assert measure.beyond(model, tiny, torch.empty(0), None) == {}


def test_retrieval_task_is_checked():
    with pytest.raises(ValueError, match="2 captions but 1 owners"):
        Retrieval(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ("a", "b"), torch.tensor([0]))

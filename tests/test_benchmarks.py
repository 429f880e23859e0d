"""The benchmarks run: every script can be imported, and those that call stages do so on a small chain."""

import base64
import importlib
import io
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import photo_files
import pytest
import torch
from PIL import Image

from ubt_utils import profiles, stages
from ubt_utils.clip import models, training
from ubt_utils.core import records
from ubt_utils.core.store import StageError
from ubt_utils.kernels import depthwise as depthwise_kernel
from ubt_utils.ubt.hold import honest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported_and_says_how_it_is_run(name):
    script = importlib.import_module(name)
    assert Path(script.__file__).parent == FOLDER
    assert name == "peak" or (f"benchmarks/{name}.py" in script.__doc__ and callable(script.main))


def test_every_record_is_of_a_script():
    recorded = {path.stem for path in (FOLDER.parent / "results" / "benchmarks").rglob("*.json")}
    assert recorded == set(SCRIPTS) - {"peak"}


def test_ubt_and_cleanclip_start_from_the_same_backdoored_model(chain, results_root, monkeypatch):
    cleanclip = importlib.import_module("cleanclip")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    cleanclip.main(epochs=0.1)
    found = records.read_benchmark("cleanclip")
    assert found["undefended"]["asr"] == chain["evaluate"].metrics["asr"]
    assert found["ubt"]["asr"] == chain["evaluate ubt"].metrics["asr"]  # made anew, and the same
    assert found["cleanclip"]["steps"] == 1
    assert found["time_ratio"] == found["ubt"]["seconds"] / found["cleanclip"]["seconds"]


def test_the_leak_is_what_poison_outside_the_pool_does_to_a_rival(chain, results_root, monkeypatch):
    leak = importlib.import_module("leak")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    row = leak.run(leak.Cell("tiny-fifth", "badnets", "finetune", 0))
    recorded, spared, silent = (row[way] for way in ("recorded", "without poison", "without the words"))
    assert recorded["asr"] == chain["evaluate finetune"].metrics["asr"]
    assert recorded["poisoned"] > 0 == spared["poisoned"]
    assert spared["pairs"] == recorded["pairs"] - recorded["poisoned"] and silent["pairs"] < recorded["pairs"]
    view = chain.run.view()
    kept = dict(leak.ways(view, torch.zeros(len(view.pool), dtype=torch.bool)))
    assert torch.equal(kept["without poison"], kept["recorded"])
    said = [view.pairs.captions[i] for i in kept["without the words"].tolist()]
    words = {models.token_text(chain.profile.model, a).strip() for a in view.anchors.tolist()}
    assert words and not any(word in caption.lower().split() for word in words for caption in said)


def test_what_is_found_in_the_weaker_half_is_what_the_stage_finds_there(chain, monkeypatch):
    halves = importlib.import_module("halves")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    row = halves.run(halves.Cell("tiny-fifth", "badnets", "none", 0))
    told = chain["suspect"].metrics
    assert row["weak"]["found"] == [one["word"] for one in told["found"]]
    worst: dict[str, float] = {}
    for one in told["asked"]:
        worst[one["word"]] = max(one["lost"], worst.get(one["word"], -1))
    losses = sorted(worst.values(), reverse=True)[: halves.TOLD]
    assert [one["lost"] for one in row["weak"]["asked"]] == pytest.approx(losses)
    assert row["ranks"] == sorted(row["ranks"]) and 0 <= row["ranks"][0] < row["ranks"][-1] < 1
    assert set(row) >= {"strong", "all", "wide"} and row["commit"] == chain["attack"].made["commit"]


def test_covers_are_asked_of_the_same_pairs_and_can_be_left_out(chain, monkeypatch):
    covers = importlib.import_module("covers")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    row = covers.run(covers.Cell("tiny", "badnets", "none", 0))
    told = chain["suspect"].metrics
    assert told["look"] == 0 and set(row["auroc"]) == set(chain.profile.suspect.family)
    assert row["with covers"] == row["without covers"]  # drawings have none
    assert row["with covers"]["found"] == [one["word"] for one in told["found"]]
    assert 0 < row["poison"] <= told["poisoned"]
    with pytest.raises(ValueError, match="tiny, none: covers are told apart by its poison"):
        covers.run(covers.Cell("tiny", "none", "none", 0))


def test_what_a_word_was_told_by_is_kept_with_a_picture_of_it(tmp_path, monkeypatch):
    script, profile = importlib.import_module("traces"), profiles.get("photos-tiny")
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UBT_DATA", str(photo_files.whole(tmp_path / "data")))
    row = script.run(script.Cell(profile.name, "badnets", "none", 0))
    assert row["found"] and {one["word"] for one in row["asked"]} >= set(row["found"])
    assert row["carriers"] >= row["poisoned"] >= 0 <= row.get("auroc", 0) <= 1
    shown = Image.open(io.BytesIO(base64.b64decode(row["trace"])))
    assert shown.size == (32, 32) and script.picture(torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="profile tiny does not ask pictures of other things first"):
        script.run(script.Cell("tiny", "badnets", "none", 0))


def test_both_ways_of_a_photo_step_are_timed_in_turn_and_give_the_same_gradient(
    tmp_path, results_root, monkeypatch
):
    depthwise, taken = importlib.import_module("depthwise"), []
    monkeypatch.setenv("UBT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UBT_DATA", str(photo_files.whole(tmp_path / "data")))
    shrunken = profiles.get("photos-tiny")
    monkeypatch.setattr(profiles, "get", lambda name: shrunken)
    apply = depthwise_kernel.Depthwise.apply
    monkeypatch.setattr(depthwise_kernel.Depthwise, "apply", lambda *a: taken.append(1) or apply(*a))
    depthwise.main(steps=1, rounds=2)
    found = records.read_benchmark("depthwise")
    assert len(found["ratios"]) == 2 and min(found["ratios"]) > 0 and 0 <= found["apart"] < 1e-4
    assert len(taken) == 4 * (1 + 4)  # four convolutions: the kit's gradients, and its step of four rounds


def test_each_weight_of_the_hold_is_a_trial_of_its_own(chain, monkeypatch):
    hold = importlib.import_module("hold")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    first, *others = hold.trials()
    assert {one.setting["hold"] for one in others} == set(hold.HOLDS) and len(others) == 4 * len(
        hold.HOLDS
    ) - 1
    rows = [
        hold.run(replace(first, attack="badnets", seed=0, setting={**first.setting, "hold": h}))
        for h in (0, 2)
    ]
    view, (_, truth) = chain.run.view(), chain.run.poisoned
    kept = honest(view)
    assert [row["held"] for row in rows] == [len(kept)] * 2 and len(kept) > 0
    assert rows[0]["held_poisoned"] == int(truth[kept].sum())
    assert rows[0]["hold"] == 0 and rows[0]["stage"] != rows[1]["stage"]
    assert rows[0]["undefended"] == rows[1]["undefended"] and 0 <= rows[0]["known"] <= 1


def test_the_published_victim_is_the_same_from_shards_and_from_a_table(results_root, tmp_path, monkeypatch):
    published = importlib.import_module("published")
    monkeypatch.setenv("UBT_DATA", str(photo_files.whole(tmp_path / "data")))
    photo_files.scenes(tmp_path / "data", "train", 80, 7000)
    monkeypatch.setattr(published, "apart", published.measured)
    published.main(pairs=80, batch=8, steps=2, classes=3, each=2, model="ubt-tiny")
    found = records.read_benchmark("published")
    assert found["same"] == {"pretrain": True, "attack": True}
    assert list(found["stages"]["shards"]) == list(published.STAGES)
    for stages_of in found["stages"].values():
        assert all(one["peak_bytes"] >= one["start_bytes"] > 2**26 for one in stages_of.values())
    assert (found["test"], found["prompts"], found["side"]) == (6, 240, 32)
    assert os.environ["UBT_DATA"] == str(tmp_path / "data")


def test_the_small_published_setting_keeps_what_was_published():
    published, paper = importlib.import_module("published"), profiles.PAPER
    made = published.small(paper, 240, 32, 8, ("banana", "ship"), "shards")
    for name in ("finetune", "baseline"):
        one, other = getattr(made, name), getattr(paper, name)
        kept = ("lr", "schedule", "decay", "weight_decay", "augment", "freeze_norm")
        assert [getattr(one, k) for k in kept] == [getattr(other, k) for k in kept]
    assert made.finetune.warmup == 2 and made.model == paper.model and made.pretrain is None
    assert (made.sets.fit, made.sets.templates, made.sets.size) == ("crop", paper.sets.templates, 224)


def test_a_cell_of_photos_has_the_same_bits_with_the_memory_and_without_it(
    results_root, tmp_path, monkeypatch
):
    cell, tiny = importlib.import_module("photo_cell"), profiles.get("photos-tiny")
    monkeypatch.setenv("UBT_DATA", str(photo_files.whole(tmp_path / "data")))
    monkeypatch.setattr(cell, "apart", cell.measured)
    monkeypatch.setattr(profiles, "get", lambda name: tiny)
    cell.main(part=1.0)
    found = records.read_benchmark("photo_cell")
    assert found["same"] and 0 < found["kept"] * 4 < found["kept_bytes"]
    assert list(found["seconds"]["plain"]) == list(found["ratios"]) == list(cell.STAGES)
    assert found["ratio"] == found["whole"]["memory"] / found["whole"]["plain"] > 0


def test_growth_measures_every_stage(chain, tmp_path, monkeypatch, no_training):
    growth = importlib.import_module("growth")
    monkeypatch.setattr(growth, "profile_of", lambda copies: chain.profile)
    growth.measure(1, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    stages = ["make D", "score D", "attack", "suspect", "overfit", "select", "unlearn", "evaluate"]
    assert list(found["seconds"]) == stages and min(found["seconds"].values()) >= 0
    assert found["pairs"] == len(chain.run.wild[0]) == 720


def test_both_ways_of_a_step_give_the_same_loss_in_single_precision(tiny):
    step, model = importlib.import_module("step"), models.create(tiny.model, 0).eval()
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = models.tokenize(tiny.model, [f"picture {i} of a fox" for i in range(6)])
    losses = [way(model, images, tokens, 0) for way, _ in step.WAYS.values()]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def test_a_step_is_timed_in_turn_and_both_ways_end_in_a_measured_model(chain, results_root, monkeypatch):
    step, asked = importlib.import_module("step"), []

    def fit(model, *_, objective, label, **more):
        asked.append((label, objective is step.former, os.environ["UBT_PRECISION"]))
        return training.fit(model, *_, objective=objective, label=label, **more)

    monkeypatch.setattr(step, "fit", fit)
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    step.main(steps=1, rounds=2, train=2, seeds=(0,))
    turn = [("kit", False, "mixed"), ("former", True, "single")]
    assert asked == 4 * turn  # to warm up, two rounds, to the end
    assert os.environ["UBT_PRECISION"] == "single"  # as the tests have it
    found = records.read_benchmark("step")
    assert found["time_ratio"] == sum(found["ratios"]) / 2 and len(found["ratios"]) == 2
    kit, former = found["clean_accuracy"].values()
    assert found["apart"] == abs(kit[0] - former[0]) and min(kit[0], former[0]) >= 0
    assert (found["batch"], found["trained"], found["seeds"]) == (64, 2, [0])


def test_victims_of_our_own_given_as_files_are_scanned_defended_and_judged_once(
    chain, results_root, monkeypatch
):
    own, twin = importlib.import_module("own"), stages.chain(chain.profile, "none", 0).attacked
    victims = chain["attack"].folder, twin.folder
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    own.main(victims, pairs=70, turns=2)
    found = records.read_benchmark("own")
    attacked, clean = found["victims"]
    measured = [chain[name].metrics for name in ("evaluate", "evaluate ubt")]
    for side, expected in zip(("before", "after"), measured, strict=True):
        assert attacked["defend"][side] == {name: expected[name] for name in own.RATES}
    assert attacked["defend"]["same"] and clean["defend"] is None
    words = {one["word"] for one in chain["suspect"].metrics["found"]}
    assert {one["word"] for one in attacked["scan"]["words"]} == words
    assert (attacked["scan"]["right"], clean["scan"]["right"]) == (True, False)  # tiny believes any word
    truth, listed = chain.run.poisoned[1], chain["select"].arrays()["poisonous"].bool()
    assert attacked["scan"]["listed"] == listed.sum() and attacked["scan"]["poisoned"] == truth.sum()
    assert attacked["scan"]["precision"] == pytest.approx((truth & listed).sum() / listed.sum())
    assert clean["scan"]["poisoned"] == 0 and clean["scan"]["recall"] is None
    assert not attacked["interrupted"] and attacked["made_at"] == chain["attack"].made["commit"]
    speed = found["throughput"]
    assert (speed["pairs"], speed["changes"], len(speed["seconds"])) == (70, 7, 2)
    assert 0 < speed["ratio"]["encoder_alone"] < speed["ratio"]["encode_image"]
    assert speed["ratio"]["encode_image"] < speed["ratio"]["with_captions"]
    monkeypatch.setattr(own, "exported", None)
    own.main(victims[::-1], record=False)  # what is judged is not scanned again


def test_a_victim_that_was_changed_or_is_of_another_profile_is_not_our_own(chain, tmp_path):
    own, copy = importlib.import_module("own"), tmp_path / "attack-0"
    with pytest.raises(ValueError, match="no victim of one attack on profile mini"):
        own.planted(chain["attack"])
    shutil.copytree(chain["attack"].folder, copy)
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(StageError, match=r"manifest\.json is missing or was changed"):
        own.given(copy)


def test_the_parts_of_photos_and_their_triggers_are_told(results_root, tmp_path, monkeypatch):
    script = importlib.import_module("photo_parts")
    monkeypatch.setenv("UBT_DATA", str(photo_files.whole(tmp_path / "data")))
    script.main("photos-tiny", 10)
    found = records.read_benchmark("photo_parts")
    assert found["photos"] == 10
    assert found["parts"]["photos-tiny"]["D"]["imagenet"] == 48  # six of eight classes' each
    sig, badclip = found["triggers"]["sig"], found["triggers"]["badclip"]
    assert sig["psnr"] == sig["psnr_published"] and sig["own"] == sig["published"]
    assert badclip["psnr"] is None
    large = found["triggers"]["label_consistent"]
    assert large["own"] > large["published"] and large["psnr"] < large["psnr_published"]
    blended = found["triggers"][
        "blended"
    ]  # by as much as 20 · log10 of the strengths' ratio, but for rounding
    assert blended["psnr_published"] - blended["psnr"] == pytest.approx(20 * math.log10(0.25 / 0.2), abs=0.05)

"""Stages that are refused, stopped or killed: a clear error, and nothing half done is believed."""

from dataclasses import replace
from pathlib import Path

import pytest

from ubt_utils import profiles, stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.baselines import defenses
from ubt_utils.clip import training
from ubt_utils.data.emoji import EmojiSets


def written(root: Path) -> list[str]:
    """Stage folders under a root, finished or not."""
    return [p.name for p in root.rglob("*") if p.is_dir() and "-" in p.name]


@pytest.fixture
def public(chain, runs_root) -> Path:
    """A root of its own with nothing but the chain's public model."""
    chain.copy(runs_root, "pretrain")
    return runs_root


# The gate


def test_the_gate_stops_the_pipeline_where_the_backdoor_did_not_take(chain, no_training):
    strict = replace(chain.profile, gate=1.01)
    for ask in (
        lambda run: run.attacked, lambda run: run.suspected, lambda run: run.overfitted,
        lambda run: run.selected, lambda run: run.scored, lambda run: run.defended(),
        lambda run: run.evaluated("ubt"),
    ):  # fmt: skip
        with pytest.raises(BackdoorDidNotTake, match="badnets: the backdoor did not take"):
            ask(stages.chain(strict, "badnets", 0))
    assert stages.chain(strict, "badnets", 0).evaluated() == chain["evaluate"]  # by which it was seen
    assert stages.chain(strict, "none", 0).attacked.metrics["pairs_seen"] > 0  # nothing to gate


# Another attack


@pytest.mark.parametrize("change", [{"poison_rate": 0.2}, {"triggers": {"badnets": {"size": 0.4}}}])
def test_another_attack_is_trained_anew_on_the_same_public_model(chain, public, no_training, change):
    with pytest.raises(AssertionError, match="trained although"):
        _ = stages.chain(replace(chain.profile, **change), "badnets", 0).attacked
    assert stages.pretrain(replace(chain.profile, **change)).key == chain["pretrain"].key


def test_every_seed_attacks_the_same_public_model(chain, public, no_training):
    with pytest.raises(AssertionError, match="trained although"):
        _ = stages.chain(chain.profile, "badnets", 1).attacked
    begun = [name.split("-")[0] for name in written(public) if name.endswith(".partial")]
    assert begun == ["attack"]  # and no second f0


# Wrong names


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda p: profiles.get("huge"), "unknown profile 'huge'; known: mini, tiny"),
        (lambda p: stages.chain(p, "trojan", 0), "unknown attack 'trojan'; known: badclip"),
        (lambda p: stages.chain(p, "sig", 0).crafted, "sig needs no crafting"),
        (lambda p: stages.chain(p, "none", 0).examined, "neither trigger nor poison"),
        (lambda p: stages.chain(p, "none", 0).crafted, "neither trigger nor poison"),
        (lambda p: stages.chain(replace(p, triggers={"sig": {"alpha": 1}}), "sig", 0), "no parameter"),
        pytest.param(
            lambda p: stages.chain(replace(p, sets=EmojiSets(target="yeti", limit=20)), "sig", 0).attacked,
            "'yeti'",
        ),
        (
            lambda p: stages.chain(p, "badnets", 0).plan("luck"),
            "unknown defense 'luck'; known: ubt, ",
        ),
        (lambda p: stages.chain(p, "badnets", 0).defended("luck"), "unknown defense 'luck'"),
        (lambda p: stages.chain(p, "badnets", 0).evaluated("luck"), "unknown defense 'luck'"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_written(tiny, runs_root, no_training, call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(tiny)
    assert not runs_root.exists() or written(runs_root) == []


# Kills


def test_an_attack_killed_midway_resumes_to_the_same_bits(chain, public, monkeypatch):
    batches, steps = training.batch_indices, []

    def until_step_seven(n, batch, step, *key):
        steps.append(step)
        if step == 7:
            raise KeyboardInterrupt
        return batches(n, batch, step, *key)

    monkeypatch.setattr(training, "batch_indices", until_step_seven)
    with pytest.raises(KeyboardInterrupt):
        _ = stages.chain(chain.profile, "badnets", 0).attacked
    assert [name[-8:] for name in written(public / "tiny" / "badnets")] == [".partial"]

    monkeypatch.setattr(training, "batch_indices", lambda *a: steps.append(a[2]) or batches(*a))
    resumed = stages.chain(chain.profile, "badnets", 0).attacked
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, *range(7, 12)]
    for name in ("model.safetensors", "manifest.json"):
        assert resumed.path(name).read_bytes() == chain["attack"].path(name).read_bytes()
    assert resumed.metrics["last_loss"] == chain["attack"].metrics["last_loss"]


# Those that do something before they train, or add weights of their own; all train by the same loop.
@pytest.mark.parametrize(
    "name", ["abl", "eftclip", "linear_probe", "pixel_prompt", "retrain", "shrink_perturb", "ubt"]
)
def test_a_defense_killed_midway_resumes_to_the_same_bits(chain, tmp_path, monkeypatch, name):
    whole = chain.run.defended(name)
    chain.copy(tmp_path, "pretrain", "attack", "suspect", "overfit", "select")
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    batches, steps, last = training.batch_indices, [], whole.metrics["curve"][-1]["step"]
    stop = min(max(16, last // 5), last)  # a tenth is saved; some have fewer steps, some two trainings

    def until_it_stops(n, batch, step, *key):
        steps.append(step)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return batches(n, batch, step, *key)

    monkeypatch.setattr(training, "batch_indices", until_it_stops)
    with pytest.raises(KeyboardInterrupt):
        stages.chain(chain.profile, "badnets", 0).defended(name)
    begun = len(steps)
    monkeypatch.setattr(training, "batch_indices", lambda *a: steps.append(a[2]) or batches(*a))
    resumed = stages.chain(chain.profile, "badnets", 0).defended(name)
    assert steps[begun] > 0  # what was done was not done again
    assert resumed.path("model.safetensors").read_bytes() == whole.path("model.safetensors").read_bytes()
    curves = [[{**p, "seconds": 0} for p in made.metrics["curve"]] for made in (resumed, whole)]
    assert curves[0] == curves[1]
    entry = defenses.get(name)
    pays = entry.looks > 0 or bool({"detection", "overfit"} & set(entry.sees))
    assert (resumed.metrics["detection_seconds"] > 0) == pays

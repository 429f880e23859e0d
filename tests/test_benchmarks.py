"""The benchmarks run: every script can be imported, and those that call stages do so on a small chain."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from ubt_utils import profiles
from ubt_utils.clip import models, training
from ubt_utils.core import records

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
TO_COME = {"reliability"}  # hours of kills, not yet run in full


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported_and_says_how_it_is_run(name):
    script = importlib.import_module(name)
    assert Path(script.__file__).parent == FOLDER
    assert name == "peak" or (f"benchmarks/{name}.py" in script.__doc__ and callable(script.main))


def test_every_record_is_of_a_script():
    recorded = {path.stem for path in (FOLDER.parent / "results" / "benchmarks").glob("*.json")}
    assert recorded | TO_COME == set(SCRIPTS) - {"peak"}


def test_ubt_and_cleanclip_start_from_the_same_backdoored_model(chain, results_root, monkeypatch):
    cleanclip = importlib.import_module("cleanclip")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    cleanclip.main(epochs=0.1)
    found = records.read_benchmark("cleanclip")
    assert found["undefended"]["asr"] == chain["evaluate"].metrics["asr"]
    assert found["ubt"]["asr"] == chain["evaluate ubt"].metrics["asr"]  # made anew, and the same
    assert found["cleanclip"]["steps"] == 1
    assert found["time_ratio"] == found["ubt"]["seconds"] / found["cleanclip"]["seconds"]


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

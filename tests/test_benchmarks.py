"""The benchmarks run: every script can be imported, and those that call stages do so on a small chain."""

import importlib
import json
from pathlib import Path

import pytest

from ubt_utils import profiles
from ubt_utils.core import records

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
    recorded = {path.stem for path in (FOLDER.parent / "results" / "benchmarks").glob("*.json")}
    assert recorded == set(SCRIPTS) - {"peak"}


def test_ubt_and_cleanclip_start_from_the_same_backdoored_model(chain, results_root, monkeypatch):
    cleanclip = importlib.import_module("cleanclip")
    monkeypatch.setattr(profiles, "get", lambda name: chain.profile)
    cleanclip.main(epochs=0.1)
    found = records.read_benchmark("cleanclip")
    assert found["undefended"]["asr"] == chain["attack"].metrics["asr"]
    assert found["ubt"]["asr"] == chain["evaluate ubt"].metrics["asr"]  # made anew, and the same
    assert found["cleanclip"]["steps"] == 1
    assert found["time_ratio"] == found["ubt"]["seconds"] / found["cleanclip"]["seconds"]


def test_growth_measures_every_stage(chain, tmp_path, monkeypatch, no_training):
    growth = importlib.import_module("growth")
    monkeypatch.setattr(growth, "profile_of", lambda copies: chain.profile)
    growth.measure(1, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    stages = ["make D", "score D", "attack", "overfit", "select", "unlearn", "evaluate"]
    assert list(found["seconds"]) == stages and min(found["seconds"].values()) >= 0
    assert found["pairs"] == chain["overfit"].metrics["pairs_scored"] - chain["overfit"].metrics["pool_size"]

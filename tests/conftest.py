"""What all tests share. Everything runs on the CPU, in temporary folders, without a network."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["UBT_DEVICE"] = "cpu"  # before any import that could pick another
os.environ["UBT_PRECISION"] = "single"  # tests compute by hand what the kit computes
os.environ["OMP_NUM_THREADS"] = "1"  # of kernels and commands, too: more wait for each other

import pytest
import tiers
import torch
from hypothesis import settings

from ubt_utils import profiles, stages
from ubt_utils.clip import training
from ubt_utils.core.store import Stage
from ubt_utils.data.pairs import Pairs
from ubt_utils.profiles import Profile

settings.register_profile("ubt", deadline=None, derandomize=True, max_examples=30, database=None)
settings.load_profile("ubt")

WORDS = ("banana", "clock", "ship", "fox", "castle", "guitar")


def _places() -> dict[str, str]:
    """What names the kit's folders, device and precision."""
    return {name: value for name, value in os.environ.items() if name.startswith("UBT_")}


FOUND = _places()


@pytest.fixture(scope="module", autouse=True)
def _left_as_found() -> Iterator[None]:
    """A fixture that lives longer than its module must not leave its folders to the next one's tests."""
    yield
    assert _places() == FOUND


@pytest.fixture
def runs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that stages write to."""
    root = tmp_path / "runs"
    monkeypatch.setenv("UBT_RUNS", str(root))
    return root


@pytest.fixture
def results_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that records and shipped models go to."""
    root = tmp_path / "results"
    monkeypatch.setenv("UBT_RESULTS", str(root))
    return root


@pytest.fixture
def pairs() -> Pairs:
    """24 noise pictures of six classes, every caption different."""
    draw = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (24, 3, 16, 20), generator=draw, dtype=torch.uint8)
    labels = torch.arange(24) % len(WORDS)
    captions = tuple(f"picture {i} of a {WORDS[c]}" for i, c in enumerate(labels.tolist()))
    return Pairs(images, captions, labels, tuple(f"made/{i}" for i in range(24)))


@pytest.fixture
def tiny() -> Profile:
    """The profile that runs in seconds."""
    return profiles.get("tiny")


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to train fails."""

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("trained although it should not have")

    monkeypatch.setattr(training, "batch_indices", refuse)


@dataclass(frozen=True)
class Finished:
    """Every stage of one run of the tiny profile: attack badnets, seed 0. run: a chain that has read none."""

    root: Path
    profile: Profile
    stages: Mapping[str, Stage]
    run: stages.Chain

    def __getitem__(self, name: str) -> Stage:
        return self.stages[name]

    def copy(self, root: Path, *names: str) -> None:
        """Put some of its stages under another root."""
        for name in names:
            folder = self[name].folder
            shutil.copytree(folder, root / folder.relative_to(self.root))


@pytest.fixture(scope="session")
def _finished_chain(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root, profile = tmp_path_factory.mktemp("chain"), profiles.get("tiny")
    run = stages.chain(profile, "badnets", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBT_RUNS", str(root))
        made = {
            "pretrain": run.pretrained,
            "attack": run.attacked,
            "suspect": run.suspected,
            "overfit": run.overfitted,
            "select": run.selected,
            "ubt": run.defended(),
            "finetune": run.defended("finetune"),
            "evaluate": run.evaluated(),
            "evaluate ubt": run.evaluated("ubt"),
            "evaluate finetune": run.evaluated("finetune"),
            "twin": stages.chain(profile, "none", 0).evaluated(),
        }
    return Finished(root, profile, made, run)


@pytest.fixture
def chain(_finished_chain: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The finished chain, with stages reading and writing its folder."""
    monkeypatch.setenv("UBT_RUNS", str(_finished_chain.root))
    return replace(_finished_chain, run=stages.chain(_finished_chain.profile, "badnets", 0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test gets the mark of its tier."""
    tiers.mark(items)

"""Where a number was made, and where things live."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ubt_utils.core import paths, provenance

ROOT = Path(__file__).parents[1]


def git(place: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout with the package's two places in one commit."""
    (tmp_path / "ubt_utils").mkdir()
    for name in ("ubt_utils/one.py", "pyproject.toml", "README.md"):
        (tmp_path / name).write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changed"),
    [("ubt_utils/one.py", True), ("ubt_utils/two.py", True), ("pyproject.toml", True), ("README.md", False)],
)
def test_the_commit_is_marked_where_the_package_differs_from_it(checkout, name, changed):
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == head and len(head) == 40
    (checkout / name).write_text("x = 2\n")
    assert provenance.commit() == (f"{head}+changes" if changed else head)


def test_without_git_the_commit_is_unknown(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert provenance.commit() == "unknown" == provenance.environment()["commit"]


def test_outside_of_a_checkout_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == "unknown"


def test_the_environment_names_versions_device_threads_and_sharers():
    found = provenance.environment()
    assert found["versions"] == {name: metadata.version(name) for name in provenance.PACKAGES}
    assert (found["threads"], found["ranks"], found["workers"]) == (torch.get_num_threads(), 1, 1)
    assert found["device"].startswith("cpu, ") and found["date"].endswith("+00:00")


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package-here"))
    assert provenance.environment()["versions"]["no-such-package-here"] == "not installed"


def test_sharing_the_machine_is_noted_while_it_lasts(monkeypatch):
    monkeypatch.delenv(provenance.WORKERS, raising=False)
    with provenance.sharing(4):
        assert provenance.environment()["workers"] == 4
        with provenance.sharing(2):
            assert provenance.environment()["workers"] == 2
        assert provenance.environment()["workers"] == 4
    assert provenance.WORKERS not in os.environ
    with pytest.raises(KeyError), provenance.sharing(3):
        raise KeyError
    assert provenance.WORKERS not in os.environ


# Where things live


@pytest.mark.parametrize("name", ["runs", "data", "results"])
def test_folders_are_at_home_or_where_a_variable_says(monkeypatch, tmp_path, name):
    where = getattr(paths, name)
    monkeypatch.setenv(f"UBT_{name.upper()}", str(tmp_path))
    assert where() == tmp_path
    monkeypatch.delenv(f"UBT_{name.upper()}")
    assert where() == ROOT / name == paths.home() / name


INSTALLED = """
from pathlib import Path
from ubt_utils.core import paths, store
assert paths.home() == Path.cwd(), paths.home()
print(store.run_stage(("tiny",), "attack", {}, lambda folder: {}).folder)
"""


def test_a_package_without_a_checkout_writes_to_the_folder_that_one_works_in(tmp_path):
    site, work = tmp_path / "site-packages", tmp_path / "work"
    (site / "ubt_utils").mkdir(parents=True)
    work.mkdir()
    for name in ("__init__.py", "core"):
        place = ROOT / "ubt_utils" / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, site / "ubt_utils" / name)
    before = {p for p in site.rglob("*") if p.suffix == ".py"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("UBT_")} | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], cwd=work, env=env, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).is_relative_to(work / "runs")
    left = {p for p in site.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert left == before

"""What is installed, how, and from where: pyproject, lock, Makefile, the doors of conda and of GitHub."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from itertools import chain
from pathlib import Path

import pytest
import tiers
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ubt_utils
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.study.commands import SEEDS

ROOT = Path(__file__).parent.parent
TOML = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = TOML["project"]
EXTRAS = {name: rs for name, rs in PROJECT["optional-dependencies"].items() if name != "all"}
EVERYTHING = "-c requirements.lock -e '.[all]'"
INSTALL = f"pip install {EVERYTHING}"
PYTHONS = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]


def lock() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
    pins = [line.split("==") for line in lines]
    found = {canonicalize_name(name): pin for name, pin in pins}
    assert len(found) == len(lines)
    return found


def requirements() -> list[Requirement]:
    return [Requirement(r) for r in dict.fromkeys(chain(PROJECT["dependencies"], *EXTRAS.values()))]


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_requirement_is_pinned_within_its_bounds_and_the_installed_one_lies_there_too(requirement):
    assert requirement.specifier.contains(lock()[canonicalize_name(requirement.name)])
    assert requirement.specifier.contains(version(requirement.name))


def test_all_gathers_every_extra():
    assert PROJECT["optional-dependencies"]["all"] == [f"ubt-utils[{','.join(sorted(EXTRAS))}]"]


def test_no_extra_repeats_what_is_mandatory():
    assert not names(PROJECT["dependencies"]) & names(list(chain(*EXTRAS.values())))


def brought(mandatory: set[str]) -> set[str]:
    """The packages that come with the mandatory ones, as they are installed here; by canonical name."""
    found, todo = set(), set(mandatory)
    while todo:
        name = todo.pop()
        found.add(name)
        needed = [Requirement(line) for line in requires(name) or ()]
        todo |= {
            canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate({"extra": ""})
        } - found
    return found


def test_the_command_line_starts_without_any_extra():
    owners = packages_distributions().items()
    there = brought(names(PROJECT["dependencies"]))
    away = names(list(chain(*EXTRAS.values()))) - there
    hidden = {module for module, owned in owners if away & {canonicalize_name(o) for o in owned}}
    hidden.discard("sphinx")  # SciPy imports it wherever sys.modules has that name, even without a module
    assert {"matplotlib", "webdataset", "papermill", "pytest"} <= hidden
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(hidden)}))\n"
        "from ubt_utils import profiles, stages, __main__\n"
        "stages.chain(profiles.get('mini'), 'badnets', 0).trigger"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def named_in_the_package() -> set[str]:
    """Top names of what the package imports, and its texts: two data packages are found by name."""
    found = set()
    for path in (ROOT / "ubt_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_mandatory_package_is_used_by_the_package():
    named = named_in_the_package()
    owners = [owned for module, owned in packages_distributions().items() if module in named]
    assert names(PROJECT["dependencies"]) - {canonicalize_name(o) for o in chain(*owners)} == set()


def test_what_is_no_python_is_packaged():
    package = ROOT / "ubt_utils"
    patterns = TOML["tool"]["setuptools"]["package-data"]["ubt_utils"]
    packaged = {pattern: set(package.glob(pattern)) for pattern in patterns}
    files = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert package / "py.typed" in files
    assert set().union(*packaged.values()) == files
    assert [pattern for pattern, found in packaged.items() if not found] == []


def test_one_version_everywhere():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M).group(1)
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert PROJECT["version"] == ubt_utils.__version__ == cited == newest


def test_environment_yml_names_nothing_that_depends_on_where_it_is_called():
    text = (ROOT / "environment.yml").read_text()
    oldest, newest = PYTHONS[0], PYTHONS[-1]
    beyond = f"3.{int(newest.split('.')[1]) + 1}"
    assert yaml.safe_load(text)["dependencies"] == [
        f"python>={oldest},<{beyond}",
        "pip",
    ]
    assert PROJECT["requires-python"] == f">={oldest}"
    assert INSTALL in text and INSTALL in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture
def checkout(tmp_path):
    """A folder with what `make` reads."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def made(checkout: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    """What make does, or with -n would do; free of a make that runs these tests. more: of the environment."""
    known = {"PATH": os.environ["PATH"], **more}
    return subprocess.run(["make", *words], cwd=checkout, capture_output=True, text=True, env=known)


def planned(checkout: Path, *words: str, **more: str) -> str:
    """What it would run, where it must do."""
    done = made(checkout, "-n", *words, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(checkout: Path, torch: str) -> None:
    """As a finished set-up leaves it."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".torch").write_text(f"{torch}\n")
    (checkout / ".venv" / ".ready").touch()


@pytest.mark.parametrize("command", ["reproduce", "test"])
def test_both_commands_install_everything_from_where_pip_looks(checkout, command):
    plan = planned(checkout, command)
    assert EVERYTHING in plan and "--index-url" not in plan


@pytest.mark.parametrize("command", ["reproduce", "test"])
def test_torch_for_the_cpu_comes_with_its_torchvision(checkout, command):
    first, last = (line for line in planned(checkout, command, "TORCH=cpu").splitlines() if "install" in line)
    assert "/whl/cpu torch torchvision" in first and "--no-deps" in first and "-c requirements.lock" in first
    assert last.endswith(EVERYTHING) and "--index-url" not in last


@pytest.mark.parametrize("torch", ["plain", "cpu"])
def test_a_set_up_is_made_once_and_keeps_its_torch(checkout, torch):
    installed(checkout, torch)
    assert "install" not in planned(checkout, "test") + planned(checkout, "test", f"TORCH={torch}")


@pytest.mark.parametrize(("before", "after"), [("plain", "cpu"), ("cpu", "plain")])
def test_another_torch_is_installed_anew(checkout, before, after):
    installed(checkout, before)
    plan = planned(checkout, "test", f"TORCH={after}")
    assert "--clear" in plan and f"echo {after} > .venv/.torch" in plan and EVERYTHING in plan


@pytest.mark.parametrize("there", [False, True])
def test_an_unknown_torch_is_refused(checkout, there):
    if there:
        installed(checkout, "plain")
    done = made(checkout, "-n", "setup", "TORCH=gpu")
    assert done.returncode == 2 and "TORCH is plain or cpu, not 'gpu'" in done.stderr


def test_a_torch_of_the_environment_that_is_another_programs_stops_nothing_but_the_making(checkout):
    assert "make .venv with" in made(checkout, "help", TORCH="/opt/torch").stdout
    assert planned(checkout, "clean", TORCH="/opt/torch") == "rm -rf runs\n"
    done = made(checkout, "-n", "setup", TORCH="/opt/torch")
    assert done.returncode == 2 and "TORCH is plain or cpu, not '/opt/torch'" in done.stderr
    installed(checkout, "cpu")
    assert "install" not in planned(checkout, "test", TORCH="/opt/torch")
    assert "--clear" in planned(checkout, "test", TORCH="plain")  # one of our words is meant for us


def test_an_environment_that_names_no_torch_has_the_plain_one(checkout):
    installed(checkout, "plain")
    (checkout / ".venv" / ".torch").unlink()
    assert "install" not in planned(checkout, "test")
    plan = planned(checkout, "test", "TORCH=cpu")
    assert "--clear" in plan and "/whl/cpu torch torchvision" in plan and EVERYTHING in plan


@pytest.fixture
def stand_in(checkout) -> Path:
    """A python that runs one-liners, and notes all that it is asked for else; in .venv, too."""
    script = checkout / "python"
    script.write_text(
        f'#!/bin/sh\ncase "$1" in -c) exec {sys.executable} -S "$@";; *) echo "$@" >> asked;; esac\n'
    )
    script.chmod(0o755)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(script, checkout / ".venv" / "bin" / "python")
    return script


def asked_for(checkout: Path, stand_in: Path, versions: dict[str, str]) -> list[str]:
    """What `make setup TORCH=cpu` asks of python where these packages are there."""
    there = checkout / "packages"
    for name, number in versions.items():
        note = there / f"{name}-{number}.dist-info"
        note.mkdir(parents=True)
        (note / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    words = ("setup", "TORCH=cpu", f"PYTHON={stand_in}")
    done = made(checkout, *words, PYTHONPATH=str(there))
    assert done.returncode == 0, done.stderr
    return [line for line in (checkout / "asked").read_text().splitlines() if "pip install" in line]


@pytest.mark.parametrize(
    ("torch", "vision", "again"),
    [
        ("{torch}+cpu", "{torchvision}+cpu", False),
        ("{torch}+cpu", "{torchvision}", True),
        ("{torch}", "{torchvision}+cpu", True),
        ("1.0.0+cpu", "{torchvision}+cpu", True),
        (None, None, True),
    ],
)
def test_torch_for_the_cpu_is_taken_once(checkout, stand_in, torch, vision, again):
    found = {"torch": torch, "torchvision": vision}
    versions = {name: number.format(**lock()) for name, number in found.items() if number}
    *first, last = asked_for(checkout, stand_in, versions)
    assert last.endswith("-c requirements.lock -e .[all]")
    assert ["/whl/cpu torch torchvision" in line for line in first] == [True] * again


def test_help_says_what_each_command_is_for(checkout):
    shown = made(checkout, "help").stdout
    listed = dict(re.findall(r"^([a-z]+) +(\S.*)$", shown, re.M))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1)
    assert {name for name in listed if name != "TORCH"} == set(phony.split())
    for name in ("results", "sweep"):  # what they write is not what is committed
        assert "committed" not in listed[name] and "record" in listed[name]
    assert "three attacks × 3 seeds" in listed["results"] and len(DEFENDED) == len(SEEDS) == 3


def test_make_check_runs_what_has_no_mark(checkout):
    marks = {line.split(":")[0] for line in TOML["tool"]["pytest"]["ini_options"]["markers"]}
    assert marks == set(tiers.MARKS)
    chosen = re.search(r"-m '([^']*)'", planned(checkout, "check")).group(1)
    assert set(chosen.split(" and ")) == {f"not {mark}" for mark in marks}


def test_the_tiers_name_files_and_fixtures_that_exist():
    tests = ROOT / "tests"
    assert [f for f in tiers.FILES if not (tests / f"{f}.py").exists()] == []
    text = "".join(path.read_text() for path in tests.glob("*.py"))
    defined = set(re.findall(r"^def (\w+)\(", text, re.M))
    assert set(tiers.FIXTURES) | set(tiers.TESTS) <= defined
    assert defined | {path.stem for path in tests.glob("*.py")} >= tiers.UNTRACED


def test_the_workflow_runs_every_python_and_pins_its_actions():
    text = (ROOT / ".github" / "workflows" / "check.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["check"]["strategy"]["matrix"]["python"] == PYTHONS
    used = [s["uses"] for job in jobs.values() for s in job["steps"] if "uses" in s]
    assert used and all(re.fullmatch(r"[\w/-]+@v\d+", action) for action in used)


def test_pre_commit_has_the_tested_ruff_and_room_for_what_is_committed():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    ruff = next(repo for repo in repos if repo["repo"].endswith("ruff-pre-commit"))
    assert ruff["rev"] == f"v{lock()['ruff']}"
    hooks = {hook["id"]: hook for repo in repos for hook in repo["hooks"]}
    limit = int(re.search(r"\d+", hooks["check-added-large-files"]["args"][0]).group()) * 1024
    assert limit >= 20e6
    assert max(path.stat().st_size for path in (ROOT / "results").rglob("*") if path.is_file()) < limit

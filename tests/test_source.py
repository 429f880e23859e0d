"""The checksum of the code that a stage runs: which edits count, and whose."""

import textwrap
from importlib import import_module
from pathlib import Path

import pytest

from ubt_utils import profiles, stages
from ubt_utils.core import source, store
from ubt_utils.stages.base import Run

STAGES = [
    import_module(f"ubt_utils.stages.{name}")
    for name in ("pretrain", "attack", "suspect", "overfit", "select", "defend", "evaluate")
]

FILES = {
    "__init__": "",
    "top": """
        \"\"\"What it is for.\"\"\"
        import math
        from ubt_utils import one
        from ubt_utils.room.inner import helper
        import ubt_utils.deep

        def run(x):
            \"\"\"What it does.\"\"\"
            return one.twice(x)  # why
    """,
    "one": "def twice(x):\n    return 2 * x\n",
    "deep": "from ubt_utils.core import store\nVALUE = 1\n",
    "aside": "VALUE = 1\n",
    "room/__init__": "RATE = 1\n",
    "room/inner": "from ubt_utils.room import RATE\n\ndef helper():\n    return RATE\n",
    "core/__init__": "",
    "core/store": "from ubt_utils import aside\nVALUE = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name in a folder of its own; package(name, text) writes a module and looks anew."""
    root = tmp_path / source.ROOT
    monkeypatch.setattr(source, "PACKAGE", root)

    def write(name: str, text: str) -> None:
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        forget()

    for name, text in FILES.items():
        write(name, text)
    yield write
    forget()


def forget() -> None:
    for kept in (source._text, source._tree, source._imports, source._plain):
        kept.cache_clear()


def digest() -> str:
    return source.digest("ubt_utils.top")


def test_imports_of_this_package_are_followed_and_no_others(package):
    assert source.closure("ubt_utils.top") == {
        f"ubt_utils.{name}" for name in ("top", "one", "deep", "room", "room.inner")
    }


@pytest.mark.parametrize("name", ["top", "one", "deep", "room/__init__", "room/inner"])
def test_an_edit_of_code_is_another_digest_wherever_it_is(package, name):
    before = digest()
    package(name, textwrap.dedent(FILES[name]) + "\nMORE = 2\n")
    assert digest() != before
    package(name, FILES[name])
    assert digest() == before


@pytest.mark.parametrize("name", ["aside", "core/store", "core/__init__"])
def test_what_is_not_imported_or_only_moves_files_does_not_count(package, name):
    before = digest()
    package(name, "MORE = 2\n")
    assert digest() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What it is for.", "For something else."),
        ("What it does.", "Doubles."),
        ("# why", "# because"),
        ("import math\n", "import math\n\n\n"),
        ('"""What it does."""\n', "\n"),
    ],
)
def test_comments_docstrings_and_blank_lines_do_not_count(package, old, new):
    before, text = digest(), FILES["top"]
    assert old in text
    package("top", text.replace(old, new))
    assert digest() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("twice(x)", "twice(x + 0)"), ("import math", "import cmath"), ("def run(x)", "def run(x=1)")],
)
def test_the_smallest_change_of_code_counts(package, old, new):
    before, text = digest(), FILES["top"]
    assert old in text
    package("top", text.replace(old, new))
    assert digest() != before


def test_modules_count_by_name_and_not_by_order(package):
    one, two = "ubt_utils.one", "ubt_utils.aside"
    assert source.digest(one, two) == source.digest(two, one) == source.digest(one, two, one)
    assert len({source.digest(), source.digest(one), source.digest(two), source.digest(one, two)}) == 4


def test_what_is_no_module_is_refused(package):
    with pytest.raises(ValueError, match=r"ubt_utils\.nowhere is no module of ubt_utils"):
        source.digest("ubt_utils.nowhere")


def test_stages_count_the_method_and_not_the_report():
    found = source.closure("ubt_utils.stages.defend", "ubt_utils.ubt.unlearn")
    assert {"ubt_utils.kernels.push", "ubt_utils.clip.training", "ubt_utils.ubt.tokens"} <= found
    assert not found & source.UNCOUNTED
    assert not [name for name in found if name.startswith(("ubt_utils.report", "ubt_utils.study"))]


def test_what_counts_is_the_same_text_on_every_version_of_python(package):
    package("top", '''
        """Doc
        of two lines."""
        # a remark
        NAME = f"{1 + 1} # no remark"  # a remark

        class A:
            """Doc."""
            size: int = 3
            def say(self) -> str: return "#"
    ''')  # fmt: skip
    kept = [
        'NAME = f"{1 + 1} # no remark"',
        "class A:",
        "    size: int = 3",
        '    def say(self) -> str: return "#"',
    ]
    assert source._plain("ubt_utils.top") == "\n".join(kept)


EDITS = {  # what is edited → the stages of tiny, attack badnets, whose code it is
    "data.emoji": {"pretrain", "attack", "suspect", "overfit", "select", "unlearn", "evaluate"},
    "clip.training": {"pretrain", "attack", "overfit", "select", "unlearn", "evaluate"},
    "attacks.triggers.badnets": {"attack", "suspect", "overfit", "select", "unlearn", "evaluate"},
    "attacks.triggers.sig": set(),
    "ubt.pool": {"suspect"},
    "ubt.disturb": {"suspect"},
    "ubt.overfit": {"overfit", "select"},
    "evaluate.measure": {"unlearn", "evaluate"},  # to edit the ruler renews no victim
    "kernels.push": {"unlearn"},
    "baselines.defenses.par": set(),
    "report.tables": set(),
    "profiles.mini": set(),
    "profiles.base": set(),  # settings count by value
    "ubt.settings": set(),
    "clip.recipe": set(),
}


def keys(monkeypatch) -> dict[str, str]:
    """Per stage of tiny the digest of its code, by what each hands to the store; nothing runs."""
    found = {}

    def note(parts, name, config, work, inputs=None, modules=()):
        found[name.split("-")[0]] = source.digest(*modules)
        made = {"pairs_scored": 9, "pairs_seen": 1, "asr": 1.0, "seconds": 0.0, "detection_seconds": 0.0}
        made["found"] = []
        return store.Stage(Path("x-y"), {"files": {}}, made, {})

    for module in STAGES:
        monkeypatch.setattr(module, "run_stage", note)
    stages.chain(profiles.get("tiny"), "badnets", 0).evaluated("ubt")
    return found


@pytest.mark.parametrize("edited", EDITS)
def test_an_edit_renews_the_stages_that_run_it_and_no_others(edited, monkeypatch):
    before, real, name = keys(monkeypatch), source._plain, f"ubt_utils.{edited}"
    monkeypatch.setattr(source, "_plain", lambda asked: real(asked) + "\nMORE = 1" * (asked == name))
    after = keys(monkeypatch)
    assert {stage for stage in before if before[stage] != after[stage]} == EDITS[edited]


@pytest.mark.parametrize("name", ["mini", "photos", "paper"])
def test_every_stage_counts_the_code_of_its_data_set(name):
    run = Run(profiles.get(name), "badnets", 0)
    assert type(run.profile.sets).__module__ in run.modules("ubt_utils.stages.attack")

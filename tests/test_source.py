"""The checksum of the code that a stage runs: which edits count, and whose."""

import textwrap

import pytest

from ubt_utils.core import source

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
    for kept in (source._tree, source._imports, source._plain):
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
        ("return one.twice(x)", "return (one.twice(\n                x\n            ))"),
        ("import math\n", "import math\n\n\n"),
        ('"""What it does."""\n', "\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(package, old, new):
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

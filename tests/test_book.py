"""The book: what leads where, what the pages hold, and that they ask no network for anything."""

import ast
import base64
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import browser
import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from docutils.core import publish_doctree
from docutils.utils import Reporter
from ipywidgets.embed import embed_minimal_html

from ubt_utils.core import paths
from ubt_utils.report import mathml, notebooks, widgets
from ubt_utils.report.book import assets, docstrings, opening, pages, site, slides

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ubt_utils"
STEMS = [path.stem for path in notebooks.committed()]
ADDRESS = "https://github.com/somebody/kit"


# Links


def linked(text: str, folder: str = "", address: str = "") -> str:
    known = {"METHOD.md", "notebooks/05_evaluation.ipynb"}
    return pages.with_links(text, folder, known, address)


def test_a_link_to_a_page_stays_and_its_anchor_is_that_of_the_page():
    assert linked("[a](METHOD.md)") == "[a](METHOD.md)"
    assert linked("[a](../METHOD.md)", "docs") == "[a](../METHOD.md)"
    assert linked("[a](#The-way-out:-seven-stages)") == "[a](#the-way-out-seven-stages)"
    assert linked("[a](05_evaluation.ipynb#The-table)", "notebooks") == "[a](05_evaluation.ipynb#the-table)"
    assert linked("[a](https://b.org/c#D)") == "[a](https://b.org/c#D)"


def test_a_link_to_code_leads_to_its_page_and_one_to_another_file_to_the_repository_if_there_is_one():
    assert linked("[`ubt/`](ubt_utils/ubt)") == "{py:mod}`ubt/ <ubt_utils.ubt>`"
    assert linked("[p](../ubt_utils/ubt/pool.py)", "docs") == "{py:mod}`p <ubt_utils.ubt.pool>`"
    assert linked("see [the license](LICENSE).") == "see the license."
    assert linked("[a](LICENSE)", address=ADDRESS) == f"[a]({ADDRESS}/tree/main/LICENSE)"
    assert linked("[m](ubt_utils/clip/public)") == "m"  # no code


def test_a_link_that_leads_nowhere_is_refused_and_what_is_code_or_a_picture_is_no_link():
    with pytest.raises(ValueError, match=r"\[a\] leads to docs/gone.md"):
        linked("[a](gone.md)", "docs")
    for text in ("```python\n[a](gone.md)\n```", "![a](gone.png)"):
        assert linked(text) == text


def test_doors_to_hosted_machines_are_there_where_the_repository_has_an_address():
    path = notebooks.committed()[0]
    name, text = f"notebooks/{path.name}", path.read_text(encoding="utf-8")
    known = {f"notebooks/{stem}.ipynb" for stem in STEMS}
    without, with_one = (nbformat.reads(pages.read(name, text, known, a), 4) for a in ("", ADDRESS))
    assert "colab" not in str(without) and len(with_one.cells) == len(without.cells) + 1
    assert f"/github/somebody/kit/blob/main/{name})" in with_one.cells[1].source
    assert f"/gh/somebody/kit/main?urlpath=lab/tree/{name})" in with_one.cells[1].source


# The code


def test_every_room_has_a_page_and_every_page_a_room():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"__main__"}
    assert {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} == rooms | {"index"}
    listed = re.search(r"```\{toctree\}.*?```", (ROOT / "docs/api/index.md").read_text(), re.S).group()
    assert rooms <= set(listed.split())


def test_the_page_of_a_room_has_all_of_its_modules():
    files = [p for p in (PACKAGE / "ubt").rglob("*.py") if p.name != "__init__.py"]
    named = set(re.findall(r"automodule:: (\S+)", pages.code("ubt")))
    assert named == {f"ubt_utils.ubt.{p.stem}" for p in files} | {"ubt_utils.ubt"}
    assert "{py:obj}`chain <ubt_utils.stages.chain.chain>`" in pages.code("stages")
    with pytest.raises(ValueError, match=r"attic\.md is of no room"):
        pages.code("attic")


def texts(path: Path) -> list[str]:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Module | ast.FunctionDef)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_docutils_reads_every_docstring_without_a_complaint(room):
    """Docutils itself says what it stumbles over."""
    found = [text for path in (PACKAGE / room).rglob("*.py") for text in texts(path)]
    assert found
    for text in found:
        heard = io.StringIO()
        settings = {"warning_stream": heard, "report_level": Reporter.WARNING_LEVEL}
        publish_doctree("\n".join(docstrings.as_rst(text.splitlines())), settings_overrides=settings)
        assert heard.getvalue() == "", text


def test_in_a_docstring_backticks_are_code_and_an_indented_block_is_a_formula():
    tree = publish_doctree("\n".join(docstrings.as_rst(["`a_`s of *b*:", "", "    x_ = |y|", "", "end_"])))
    assert tree.astext() == "a_s of *b*:\n\nx_ = |y|\n\nend_"
    assert [n.astext() for n in tree.findall() if n.tagname in ("literal", "literal_block")] == [
        "a_",
        "x_ = |y|",
    ]


# Formulas


def test_formulas_are_drawn_and_code_and_prices_are_not():
    drawn = mathml.drawn("so $a_1$ and\n\n$$\\frac{b}{c}$$\n\nbut `$d$`, $5 and $6")
    assert re.findall(r'display="(\w+)"', drawn) == ["inline", "block"]
    assert "<msub><mi>a</mi><mn>1</mn></msub>" in drawn and "<mfrac>" in drawn
    assert "`$d$`" in drawn


def test_every_formula_of_the_notebooks_is_understood():
    cells = [c for p in notebooks.committed() for c in nbformat.read(p, 4).cells if c.cell_type == "markdown"]
    drawn = [mathml.drawn(c.source) for c in cells]
    assert sum("<math" in text for text in drawn) > 10
    assert [t for t in drawn if re.search(r"<m[ion]>\\", t)] == []  # what it does not know it would print


# Scripts from elsewhere


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts an npm in the way that packs what it is told."""

    def stand_in(content: bytes, status: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        with tarfile.open(folder / "a.tgz", "w:gz") as archive:
            member = tarfile.TarInfo(assets.SCRIPT)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        script = folder / "npm"
        script.write_text(f'#!/bin/sh\ncp {folder}/a.tgz "$4"/a.tgz\necho no >&2\nexit {status}\n')
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
        digest = hashlib.sha512((folder / "a.tgz").read_bytes()).digest()
        monkeypatch.setattr(assets, "WIDGETS_SHA512", base64.b64encode(digest).decode())

    return stand_in


def test_the_script_of_widgets_comes_once_and_stays(runs_root, npm):
    npm(b"draw()")
    found = assets.widgets()
    assert found.read_text() == "draw()" and [p.name for p in found.parent.iterdir()] == ["widgets.js"]
    Path(os.environ["PATH"].split(os.pathsep)[0], "npm").unlink()
    assert assets.widgets() == found


def test_what_came_otherwise_than_asked_for_is_not_used(runs_root, npm, monkeypatch):
    npm(b"steal()")
    monkeypatch.setattr(assets, "WIDGETS_SHA512", "AAAA")
    with pytest.raises(ValueError, match=r"came with SHA-512 .* not AAAA"):
        assets.widgets()
    assert list((runs_root / "downloads").iterdir()) == []


def test_without_npm_or_a_network_widgets_are_pictures_and_a_line_says_so(
    runs_root, npm, monkeypatch, capsys
):
    npm(b"", status=1)
    assert assets.widgets() is None and "it says: no" in capsys.readouterr().out
    monkeypatch.setenv("PATH", "")
    assert assets.widgets() is None and assets.WITHOUT in capsys.readouterr().out


# Slides


def test_the_lecture_has_all_sections_of_its_notebooks_but_those_that_are_left_out():
    sections = {s.heading for p in notebooks.committed() if p.stem in slides.COURSE for s in slides.sections(
        nbformat.read(p, 4))}  # fmt: skip
    assert sections >= slides.LEFT_OUT, "a section has another name now"
    deck = slides.deck()
    first = [c.source for c in deck.cells if c.metadata.slideshow.slide_type == "slide"]
    assert {text.splitlines()[0].lstrip("# ") for text in first} == sections - slides.LEFT_OUT
    assert sum(c.cell_type == "code" for c in deck.cells) > 10  # pictures


def test_a_section_is_a_slide_its_pictures_follow_and_its_text_is_in_the_notes():
    new = nbformat.v4
    picture = new.new_output("display_data", {"image/png": "AAAA"})
    said = new.new_output("stream", text="printed")
    cells = [
        new.new_markdown_cell("# Title\n\nWhat?\n\n## One\n\n" + "long " * 200 + "\n\nmore [a](b.md)"),
        new.new_code_cell("draw()", outputs=[said, picture]),
        new.new_markdown_cell("It shows $a$."),
    ]
    title, one = slides.sections(new.new_notebook(cells=cells))
    assert (title.heading, title.level, one.heading, one.level) == ("Title", 1, "One", 2)
    head, notes, shown, under = slides._column(one)
    assert head.source.startswith("## One\n\nlong") and "more" not in head.source
    assert "more a" in notes.source and notes.metadata.slideshow.slide_type == "notes"
    assert shown.outputs == [picture] and shown.metadata.slideshow.slide_type == "subslide"
    assert under.source.startswith("It shows <math")


def test_a_widget_of_others_is_the_picture_beside_it_and_one_of_ipywidgets_stays():
    models = {
        "box": {"model_module": "@jupyter-widgets/controls", "state": {"children": ["IPY_MODEL_pad"]}},
        "pad": {"model_module": "anywidget", "state": {}},
        "bar": {"model_module": "@jupyter-widgets/controls", "state": {}},
    }
    outputs = [
        nbformat.v4.new_output(
            "display_data", {notebooks.WIDGET_VIEW: {"model_id": name}, "image/png": "AAAA"}
        )
        for name in ("box", "bar")
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    notebook.metadata["widgets"] = {notebooks.WIDGET_STATE: {"state": models}}
    notebooks.drop_foreign(notebook)
    assert [set(o.data) for o in notebook.cells[0].outputs] == [
        {"image/png"}, {"image/png", notebooks.WIDGET_VIEW}
    ]  # fmt: skip
    assert set(notebook.metadata.widgets[notebooks.WIDGET_STATE].state) == {"bar"}


# Opening a notebook


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_first_cell_says_when_the_kernel_is_a_wrong_one(tmp_path, address):
    done = first_cell(tmp_path, address, {})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("ubt_utils is not installed in this kernel: run `make setup`")


@pytest.mark.parametrize(("host", "asked"), [
    ("COLAB_RELEASE_TAG", [["git", "clone", ADDRESS], ["pip", "install", "kit[all]"]]),
    ("BINDER_SERVICE_HOST", [["pip", "install", "..[all]"]]),
])  # fmt: skip
def test_on_a_hosted_machine_the_first_cell_installs_the_kit(tmp_path, host, asked):
    done = first_cell(tmp_path, ADDRESS, {host: "1"})
    ran = [line.split() for line in done.stdout.splitlines()]
    assert len(ran) == len(asked) and all(set(a) <= set(r) for a, r in zip(asked, ran, strict=True))
    assert done.stderr.startswith("ubt_utils is installed now: restart the kernel")


def first_cell(folder: Path, address: str, more: dict[str, str]) -> subprocess.CompletedProcess:
    """The cell in a Python without packages, where other programs are printed and not run."""
    stub = "import subprocess\nsubprocess.run = lambda words, check: print(*words, flush=True)\n"
    bare = [sys.executable, "-I", "-S", "-c", stub + opening.first_cell(address)]
    return subprocess.run(bare, cwd=folder, capture_output=True, text=True, env={"PATH": "", **more})


def test_the_notebooks_open_so():
    first = next(c.source for c in nbformat.read(notebooks.committed()[0], 4).cells if c.cell_type == "code")
    assert first.startswith(opening.first_cell(pages.repository()))


# The workflow


def test_the_workflow_builds_the_book_and_pins_its_actions():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    made = [step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")]
    assert made == ["playground", "book"]  # the book takes in the playground that is there
    assert next(s["with"]["path"] for s in steps if "pages-artifact" in s.get("uses", "")) == "runs/book"


# All of it


class Page(HTMLParser):
    """What a page asks for while it loads, where it leads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon"):
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The whole book, built where there is no npm, beside a playground that is a stub."""
    root = tmp_path_factory.mktemp("book")
    (root / "playground").mkdir()
    (root / "playground" / "index.html").write_text("<title>play</title>")
    programs = tmp_path_factory.mktemp("programs")
    (programs / "git").symlink_to(shutil.which("git"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBT_RUNS", str(root))
        patch.setenv("PATH", str(programs))
        site.build()
    return root / "book"


@pytest.fixture(scope="module")
def read(book):
    return {path: Page(path) for path in book.rglob("*.html") if "reveal" not in path.parts}


def test_every_notebook_and_page_is_there_and_the_first_one_leads_to_it(book):
    for stem in STEMS:
        assert (book / "notebooks" / f"{stem}.html").exists()
    contents = (book / "docs" / "index.html").read_text(encoding="utf-8")
    for name in (*STEMS, "METHOD", "README", "CHANGELOG", "CONTRIBUTING", "ENDPOINTS", "teach", "claims"):
        assert f"{name}.html" in contents, name
    assert "url=docs/index.html" in (book / "index.html").read_text()


def test_the_first_page_leads_to_the_playground_that_was_made(book, read):
    assert "../playground/index.html" in read[book / "docs" / "index.html"].links
    assert (book / "playground" / "index.html").exists()


def test_a_playground_that_is_gone_leaves_the_book(runs_root, tmp_path):
    (tmp_path / "playground").mkdir()
    (tmp_path / "playground" / "index.html").touch()
    assert not site.with_playground(tmp_path) and not (tmp_path / "playground").exists()


def test_a_page_fits_a_phone(book):
    """Tables and code may scroll by themselves; the page must not."""
    for name in ("docs/index", "notebooks/00_start_here", "notebooks/04_token_unlearning", "METHOD"):
        with browser.opened(book / f"{name}.html", viewport={"width": 390, "height": 800}) as one:
            wide = one.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1] == 390, name


def test_a_film_is_moved_by_its_slider_where_npm_brings_the_script(monkeypatch, tmp_path):
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    if (script := assets.widgets()) is None:
        pytest.skip("npm brings no widgets here")
    film = widgets.film([plt.figure(figsize=(k, 1)) for k in (1, 2, 3)], "w")
    shutil.copy(script, tmp_path)
    page = tmp_path / "film.html"
    embed_minimal_html(page, [film], embed_url=script.name, requirejs=False)
    page.write_text(page.read_text().replace('crossorigin="anonymous"', ""))  # none is sent from disk
    with browser.opened(page) as one:
        picture = one.locator("img:visible")
        picture.wait_for()
        before = picture.evaluate("(e) => e.naturalWidth")
        one.locator(".noUi-handle").focus()
        one.keyboard.press("ArrowRight")
        one.keyboard.press("ArrowRight")
        one.wait_for_function("[...document.images].some((e) => e.offsetParent && e.naturalWidth > 200)")
        assert picture.evaluate("(e) => e.naturalWidth") == 3 * before


def test_no_page_loads_anything_from_a_network(book, read):
    assert len(read) > 30
    far = {str(path): [a for a in page.loads if "//" in a.split("data:")[0]] for path, page in read.items()}
    assert {path: asked for path, asked in far.items() if asked} == {}
    styles = [*book.rglob("*.css"), *book.rglob("*.html")]
    pattern = re.compile(r"(@import|url\()\s*[\"']?(https?:)?//")
    assert [p.name for p in styles if pattern.search(p.read_text(encoding="utf-8"))] == []


def test_every_link_inside_the_book_leads_somewhere(book, read):
    lost = []
    for path, page in read.items():
        for link in page.links:
            target, _, anchor = unquote(link).partition("#")
            if link.startswith(("http", "mailto:")) or not link:
                continue
            there = (path.parent / target).resolve() if target else path
            if not there.exists() or (anchor and there in read and anchor not in read[there].ids):
                lost.append(f"{path.relative_to(book)}: {link}")
    assert lost == []


def test_the_claims_are_filled_in_from_the_records(book):
    text = (book / "docs" / "claims.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td>(.*?)</td>", text, re.S)
    assert len(cells) >= 36 and "{eval}" not in text and "Traceback" not in text
    measured = [cell for cell in cells[1::3] if not re.search(r"\d|not recorded yet", cell)]
    assert measured == []


def test_formulas_widgets_and_code_are_on_their_pages(book):
    assert "<math" in (book / "notebooks" / "04_token_unlearning.html").read_text(encoding="utf-8")
    page = (book / "notebooks" / "01_attack_injection.html").read_text(encoding="utf-8")
    assert f'class="{notebooks.STILL}"' in page
    code = Page(book / "docs" / "api" / "ubt.html")
    assert {"ubt_utils.ubt.unlearn.unlearn", "module-ubt_utils.ubt.pool"} <= code.ids


def test_outside_of_a_checkout_the_book_says_what_it_is_made_from(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    with pytest.raises(ValueError, match="made from docs/, which no wheel holds"):
        site.build()

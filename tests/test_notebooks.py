"""Every notebook runs in the shrunken profile, and the committed ones are clean."""

import ast
import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import joblib
import nbformat
import numpy as np
import papermill
import photo_files
import pytest
from PIL import Image

from ubt_utils.data.sets import DataSets
from ubt_utils.report import course, notebooks, tables

PATHS = notebooks.committed()
IDS = [p.stem for p in PATHS]


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and c.source.strip()]


def prose_of(path: Path) -> str:
    """All Markdown of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def text_of(path: Path) -> str:
    """All text that the outputs of a notebook show."""
    outputs = [o for c in code_cells(path) for o in c.outputs]
    parts = [o.get("text", "") for o in outputs]
    parts += [
        v for o in outputs for k, v in o.get("data", {}).items() if k in ("text/plain", "text/markdown")
    ]
    return "\n".join(parts)


@pytest.fixture(scope="session")
def notebook_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook_runs")


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_notebook_runs_in_the_tiny_profile(path, tmp_path, notebook_runs, monkeypatch):
    monkeypatch.setenv("UBT_RUNS", str(notebook_runs))
    out = tmp_path / path.name
    notebooks.run(path, out, "tiny")
    cells = code_cells(out)
    assert all(c.execution_count for c in cells)
    page = notebooks.html(out, tmp_path / "html")
    read = page.read_text()
    assert "<html" in read[:500].lower()
    assert "<math" in read or path not in COURSE  # formulas are drawn without a network


@pytest.mark.parametrize("path", PATHS[:6], ids=IDS[:6])
def test_the_same_notebook_runs_on_photos(path, tmp_path, photo_world):
    out = tmp_path / path.name
    notebooks.run(path, out, "photos-tiny")
    assert "profile photos-tiny" in text_of(out)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """Photo sets that the test writes, and a place for the stages that the notebooks share."""
    root = tmp_path_factory.mktemp("photo_world")
    photo_files.whole(root / "data")
    return root


@pytest.fixture
def photo_world(photo_folder, monkeypatch):
    """Those sets in the place of the reader's own, for one test."""
    monkeypatch.setenv("UBT_RUNS", str(photo_folder / "runs"))
    monkeypatch.setenv("UBT_DATA", str(photo_folder / "data"))
    return photo_folder


def test_the_photo_chain_runs_live_in_notebook_06(tmp_path, photo_world):
    path = next(p for p in PATHS if p.stem == "06_real_photos")
    out = tmp_path / path.name
    notebooks.run(path, out, "mini", LIVE="photos-tiny")
    assert "'unlearn': 'unlearn-ubt-" in text_of(out)
    made = photo_world / "runs" / "photos" / "badnets" / "0"  # the family's folder
    assert {p.name.rsplit("-", 1)[0] for p in made.glob("evaluate-*[!k]")} == {
        "evaluate-none", "evaluate-ubt", "evaluate-finetune"
    }  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_committed_notebook_is_a_clean_full_run(path):
    cells = code_cells(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert path.stat().st_size <= 500 * 1024
    asked = "EMOJI" if path.stem == "06_real_photos" else "PROFILE"
    assert f'{asked} = "mini"' in "\n".join(c.source for c in cells)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_notebook_keeps_the_house_style(path):
    cells = code_cells(path)
    trees = [ast.parse(c.source) for c in cells]
    imports = [
        i for i, t in enumerate(trees) if any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in t.body)
    ]
    assert imports == [0]
    assert max(len(c.source.splitlines()) for c in cells) <= 40
    kinds = [c.cell_type for c in nbformat.read(path, as_version=4).cells]
    assert "code code code code" not in " ".join(kinds)
    defined = [n.name for t in trees for n in t.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assigned = [x.id for t in trees for n in t.body if isinstance(n, ast.Assign) for x in _names(n)]
    names = defined + assigned
    assert sorted(names) == sorted(set(names)), "a name is defined twice"


COURSE = [path for path in PATHS if path.stem in course.COURSE]


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_the_course_has_short_cells(path):
    lines = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert np.median(lines) <= 6 and max(lines) <= 30


def test_the_course_has_as_much_code_as_prose_asks_for():
    prose, code = map(sum, zip(*(course.words(path) for path in COURSE), strict=True))
    assert 1.5 <= prose / code <= 3


STEPS = {  # a step of the method: its notebook, and the function that it is held against there
    "stamp": ("01", "b(x))"), "loss": ("01", "clip_loss(z, t, scale))"), "pool": ("02", "scores.pool)"),
    "overfitting": ("02", "overfit.overfit_half("), "held out": ("02", "similarity(model, "),
    "vote": ("03", "tk.surprise("), "D_u": ("03", "select.select("), "second look": ("03", "view.safe)"),
    "witnesses and rounds": ("03", 'one["witnesses"]) for one in told]'),
    "B": ("04", "select.tokens_of("), "push": ("04", "kernel.push("), "training": ("04", "unlearn.unlearn("),
}  # fmt: skip
HELD = ("torch.equal", "torch.allclose", "assert mine ==")  # to the bit, nearly, in words


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_written_and_held_against_the_package(step):
    stem, function = STEPS[step]
    path = next(p for p in COURSE if p.stem.startswith(stem))
    cells = [c.source for c in code_cells(path) if not c.id.startswith("ex-")]
    assert any(function in cell and any(held in cell for held in HELD) for cell in cells)


def _names(node: ast.Assign) -> list[ast.Name]:
    found = [x for target in node.targets for x in ast.walk(target) if isinstance(x, ast.Name)]
    return [x for x in found if isinstance(x.ctx, ast.Store)]


def test_the_first_cell_says_when_the_kernel_is_a_wrong_one(tmp_path):
    first = next(c.source for c in code_cells(PATHS[0]))
    bare = [sys.executable, "-I", "-S", "-c", first]  # without site-packages
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("ubt_utils is not installed in this kernel: run `make setup`")


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(path)):
        file, _, place = target.partition("#")
        other = path.parent / file if file else path
        assert other.exists(), target
        headings = re.findall(r"^#+ (.+)$", prose_of(other), re.M) if place else []
        assert not place or place in {re.sub(r"\s+", "-", h.strip()) for h in headings}, target


@pytest.mark.parametrize("path", PATHS[:6], ids=IDS[:6])
def test_notebook_asks_data_for_nothing_but_what_every_data_set_can_do(path):
    known = {*vars(DataSets), *DataSets.__annotations__}
    nodes = [n for c in code_cells(path) for n in ast.walk(ast.parse(c.source))]
    asked = [n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Attribute)]
    assert {n.attr for n in asked if n.value.attr == "sets"} <= known


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_everything_that_is_imported_is_used(path):
    """A notebook waits for each of its imports."""
    nodes = [n for c in code_cells(path) for n in ast.walk(ast.parse(c.source))]
    aliases = [a for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names]
    used = {n.id for n in nodes if isinstance(n, ast.Name)}
    assert {(a.asname or a.name).split(".")[0] for a in aliases} <= used


def test_what_the_notebooks_show_equals_what_is_recorded():
    table = tables.as_text("mini")
    for stem in ("00_start_here", "05_evaluation"):
        path = next(p for p in PATHS if p.stem == stem)
        assert table.strip() in text_of(path), f"{stem} shows another table: run `make notebooks`"


def test_a_failing_notebook_leaves_the_old_one_in_place(tmp_path):
    bad = tmp_path / "bad.ipynb"
    cells = [nbformat.v4.new_code_cell('PROFILE = "mini"\nraise ValueError("no")')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), bad)
    before = bad.read_bytes()
    with pytest.raises(papermill.PapermillExecutionError, match="ValueError: no"):
        notebooks.run(bad, bad, "mini")
    assert bad.read_bytes() == before and list(tmp_path.iterdir()) == [bad]


# All notebooks at once, without running any


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def shelf(tmp_path, runs_root, monkeypatch) -> Path:
    """A folder of two notebooks, one of them timed, which are not run: a stub writes an output instead."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for stem in ("00_first", *notebooks.TIMED):
        cell = nbformat.v4.new_code_cell('PROFILE = "mini"', id="a", metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / f"{stem}.ipynb")
    names = set(contents(folder))

    def execute(path, part, parameters, **_):
        assert runs_root in Path(part).parents and set(contents(folder)) == names
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=f"ran with {parameters}")]
        nbformat.write(notebook, part)

    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with joblib.parallel_config(backend="threading"):  # so that the stub is known there
        yield folder


def test_reproduce_leaves_the_committed_notebooks_byte_for_byte_as_they_are(shelf, runs_root):
    before = contents(shelf)
    notebooks.reproduce("tiny")
    assert contents(shelf) == before
    stems = {Path(name).stem for name in before}
    assert set(contents(runs_root)) == {f"notebooks/{s}.ipynb" for s in stems} | {
        f"html/{s}.html" for s in stems
    }
    for name in before:
        assert text_of(runs_root / "notebooks" / name) == "ran with {'PROFILE': 'tiny'}"


def test_renew_writes_outputs_into_the_committed_notebooks_and_nothing_else_there(shelf, runs_root):
    before = contents(shelf)
    notebooks.renew()
    assert set(contents(shelf)) == set(before)
    for name in before:
        assert text_of(shelf / name) == "ran with {}"  # each on its own profile
    assert set(contents(runs_root)) == {f"html/{Path(name).stem}.html" for name in before}


def test_drawings_get_a_palette_and_photos_stay():
    def png(pixels):
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "PNG")
        return base64.b64encode(held.getvalue()).decode()

    drawn = np.full((60, 80, 3), 255, np.uint8)
    drawn[20:24, 10:70] = (30, 119, 180)
    made = Image.open(io.BytesIO(base64.b64decode(notebooks.lighter(png(drawn)))))
    assert made.mode == "P" and np.array_equal(np.asarray(made.convert("RGB")), drawn)
    photo = png(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    assert notebooks.lighter(photo) == photo


def test_progress_bars_are_dropped_and_other_widgets_stay():
    texts = (
        "score:  23%|##3       | 2048/8844 [00:03<00:10, 667.53pair/s]",
        "VBox(children=(IntSlider(value=4",
    )
    data = [{notebooks.WIDGET_VIEW: {"model_id": "a"}, "text/plain": text} for text in texts]
    shown = [nbformat.v4.new_output("display_data", one) for one in data]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=shown)])
    kept = notebooks._tidy(notebook).cells[0].outputs
    assert [one.data["text/plain"] for one in kept] == [texts[1]]


def test_of_the_widgets_those_that_nobody_sees_are_dropped():
    state = {
        "box": {"children": ["IPY_MODEL_bar"]},
        "bar": {"layout": "IPY_MODEL_wide"},
        "wide": {},
        "gone": {},
        "link": {"source": ["IPY_MODEL_bar", "value"], "target": ["IPY_MODEL_box", "selected_index"]},
        "loose": {"source": ["IPY_MODEL_bar", "value"], "target": ["IPY_MODEL_gone", "value"]},
    }
    held = {"state": {name: {"state": one} for name, one in state.items()}}
    view = nbformat.v4.new_output("display_data", {notebooks.WIDGET_VIEW: {"model_id": "box"}})
    cell = nbformat.v4.new_code_cell("1", outputs=[view, nbformat.v4.new_output("stream", text="1")])
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {notebooks.WIDGET_STATE: held}})
    tidied = notebooks._tidy(notebook).metadata.widgets[notebooks.WIDGET_STATE].state
    assert set(tidied) == {"box", "bar", "wide", "link"}

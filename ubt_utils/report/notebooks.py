"""Run the notebooks, keep their outputs under `runs/`, and write them as HTML."""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import nbformat
import papermill
from IPython.core.inputtransformer2 import TransformerManager
from nbconvert import HTMLExporter
from PIL import Image, ImageChops, ImageStat
from tqdm.auto import tqdm

from ubt_utils.core import paths
from ubt_utils.core.checksum import write_whole
from ubt_utils.report import mathml

FOLDER = paths.home() / "notebooks"
KEPT_METADATA = {"tags"}
PNG = "image/png"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
OWN_WIDGETS = "@jupyter-widgets/"
STILL = "still"
STILL_STYLE = (  # the scripts give what they draw the class of boxes
    f"<style>:is(.jp-OutputArea, .cell_output):has(.widget-box) .{STILL} {{ display: none }}</style>"
)
PALETTES = (64, 128, 256)  # colors
SAME = 0.3  # of 255, on average, that a color may be off
TIMED = ("07_paper_scale",)  # these measure seconds, and run when no other does
BAR = re.compile(r"\d+%\|.*\| *\d+/\d+ ")  # of progress, as text
AT_ONCE = 2  # notebooks; most of their time goes to starting kernels and importing, on one core each


def committed() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def run(path: Path, out: Path, profile: str, **parameters: Any) -> None:
    """Run one notebook top to bottom in its folder and write it, with outputs, to `out`.

    A profile other than the notebook's own is injected as a parameter, and so are others that are given. A
    notebook that does not ask for a profile gets none; ValueError where it does not take another parameter,
    and where it sets its profile in a way that an injected one would not change.
    Raises papermill's PapermillExecutionError at the first cell that fails; `out` is then left as it was.
    """
    known = papermill.inspect_notebook(path)
    if unknown := set(parameters) - set(known):
        raise ValueError(f"{path.name} takes {', '.join(known) or 'no parameters'}, not {', '.join(unknown)}")
    if _asks_for_another(path, profile, known):
        parameters["PROFILE"] = profile
    parts = paths.runs() / "notebooks"  # what is half-written lies here, and not among what is committed
    out.parent.mkdir(parents=True, exist_ok=True)
    parts.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=parts.resolve()) as aside:
        part = Path(aside) / path.name
        papermill.execute_notebook(
            path, part, parameters, cwd=path.parent, kernel_name="python3",
            progress_bar=False, log_output=False,
        )  # fmt: skip
        nbformat.write(_tidy(nbformat.read(part, as_version=4)), out)


def _asks_for_another(path: Path, profile: str, known: Collection[str]) -> bool:
    """Whether a notebook names another profile; ValueError where the one asked for would not reach it. known:
    the parameters that papermill has found."""
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    given = [value for source in code for value in _given("PROFILE", source)]
    if set(given) <= {profile}:
        return False
    if len(given) > 1 or "PROFILE" not in known:
        raise ValueError(
            f'{path.name} must set its profile once, as PROFILE = "mini" in the cell with the tag '
            f"`parameters`: otherwise it would run with that one, not with {profile}"
        )
    return True


def _given(name: str, source: str) -> list[object]:
    """The values that a cell gives to that name: strings, and None for what is none."""
    tree = ast.parse(TransformerManager().transform_cell(source))  # with IPython's %magic and !commands
    plain = {id(n.targets[0]): n.value for n in ast.walk(tree) if isinstance(n, ast.Assign)}
    plain |= {id(n.target): n.value for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and n.value}
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
    stored = [plain.get(id(n)) for n in names if isinstance(n.ctx, ast.Store)]
    return [value.value if isinstance(value, ast.Constant) else None for value in stored]


def _tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what the runner leaves behind: timings, machine-specific paths, progress bars, widgets that nobody
    sees; make drawings lighter."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in KEPT_METADATA}
        if "outputs" in cell:
            cell.outputs = [one for one in cell.outputs if not _is_bar(one)]
    _drop_unseen(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if PNG in output.get("data", {}):
                output.data[PNG] = lighter(output.data[PNG])
    return notebook


def _is_bar(output: nbformat.NotebookNode) -> bool:
    """Whether it is a progress bar, which has nothing to say once the run is over."""
    return bool(BAR.search(output.get("data", {}).get("text/plain", "")))


def _drop_unseen(notebook: nbformat.NotebookNode) -> None:
    """Drop the state of widgets that no output shows, such as a progress bar that ended before it came up."""
    models = widget_models(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [o.data[WIDGET_VIEW]["model_id"] for o in outputs if WIDGET_VIEW in o.get("data", {})]
    seen = _reached(models, *shown)
    for name in set(models) - seen - _links(models, seen):
        del models[name]


def _links(models: Mapping[str, Any], seen: Collection[str]) -> set[str]:
    """The links (jslink) between widgets that are seen: no view leads to them, and without them a slider
    moves nothing."""
    ends = {name: _parts(model) for name, model in models.items() if "target" in model["state"]}
    return {name for name, parts in ends.items() if parts and set(parts) <= set(seen)}


def _parts(model: Mapping[str, Any]) -> list[str]:
    """The widgets that a widget is made of."""
    return re.findall(r"IPY_MODEL_(\w+)", json.dumps(model["state"]))


def _reached(models: Mapping[str, Any], *names: str) -> set[str]:
    """Those of the widgets that are known, with all that they are made of."""
    todo, seen = list(names), set()
    while todo:
        name = todo.pop()
        if name in models and name not in seen:
            seen.add(name)
            todo += _parts(models[name])
    return seen


def lighter(picture: str) -> str:
    """A base64 PNG with the smallest palette that keeps its look: a few colors do for lines and areas; photos
    need all, and stay as they are."""
    whole = Image.open(BytesIO(b64decode(picture))).convert("RGB")
    for colors in PALETTES:
        drawn = whole.quantize(colors, dither=Image.Dither.NONE)
        apart = ImageStat.Stat(ImageChops.difference(whole, drawn.convert("RGB")))
        if max(apart.mean) <= SAME:
            held = BytesIO()
            drawn.save(held, "PNG", optimize=True)
            return b64encode(held.getvalue()).decode()
    return picture


def html(path: Path, folder: Path) -> Path:
    """Write a notebook with its outputs as one HTML page, links to notebooks rewritten, formulas as MathML.
    Scripts of widgets come from the network; without it each widget is the picture that it begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = with_stills(nbformat.read(path, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mathml.drawn(cell.source)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    for other in committed():
        page = page.replace(f'href="{other.name}', f'href="{other.stem}.html')
    out = folder / f"{path.stem}.html"
    write_whole(out, page)
    return out


def drop_foreign(notebook: nbformat.NotebookNode) -> None:
    """Drop the widgets that ipywidgets' own script cannot draw: a page would ask a network for theirs. What
    else their output holds, such as a picture, is shown then."""
    models = widget_models(notebook)
    foreign = {name for name in models if not models[name]["model_module"].startswith(OWN_WIDGETS)}
    for cell in notebook.cells:
        for data in (output.get("data", {}) for output in cell.get("outputs", ())):
            if WIDGET_VIEW in data and _reached(models, data[WIDGET_VIEW]["model_id"]) & foreign:
                del data[WIDGET_VIEW]
    _drop_unseen(notebook)


def with_stills(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with a still picture behind each widget, which is hidden where the widget is shown, and
    without those that a page cannot show."""
    drop_foreign(notebook)
    models = widget_models(notebook)
    for cell in notebook.cells:
        for output in list(cell.get("outputs", ())):
            view = output.get("data", {}).get(WIDGET_VIEW)
            for source in _pictures(models, view["model_id"]) if view else ():
                text = f'{STILL_STYLE}<img class="{STILL}" alt="the widget as it begins" src="{source}">'
                cell.outputs.append(nbformat.v4.new_output("display_data", {"text/html": text}))
    return notebook


def widget_models(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """The state of all widgets by id. Colab saves it one level too high, where nbconvert stumbles over it: it
    is put in its place."""
    widgets = notebook.metadata.get("widgets", {})
    for kind, held in widgets.items():
        if "state" not in held:
            widgets[kind] = {"state": held, "version_major": 2, "version_minor": 0}
    return widgets.get(WIDGET_STATE, {}).get("state", {})


def _pictures(models: Mapping[str, Any], name: str) -> Iterator[str]:
    """The pictures that a widget begins with, as data URLs."""
    model = models.get(name, {"state": {}})
    state, children = model["state"], model["state"].get("children", [])
    if "selected_index" in state:
        children = children[state["selected_index"] :][:1]
    for buffer in model.get("buffers", ()):
        if model.get("model_name") == "ImageModel":
            yield f"data:image/{state.get('format', 'png')};base64,{buffer['data']}"
    for child in children:
        yield from _pictures(models, child.removeprefix("IPY_MODEL_"))


def reproduce(profile: str) -> None:
    """Run every notebook into runs/notebooks, and write the pages under runs/html; `notebooks/` stays as it
    is."""
    _run_all(profile, paths.runs() / "notebooks")


def renew() -> None:
    """Run every notebook on its own profile and write its outputs into `notebooks/`, to be committed."""
    _run_all("mini", FOLDER)


def _run_all(profile: str, folder: Path) -> None:
    """Some notebooks at once, then those that measure seconds, one by one."""
    timed = [path for path in committed() if path.stem in TIMED]
    others = [path for path in committed() if path.stem not in TIMED]
    pool = joblib.Parallel(min(AT_ONCE, joblib.cpu_count()), return_as="generator_unordered")
    with tqdm(total=len(timed) + len(others), desc="notebooks", unit="notebook") as bar:
        for name in pool(joblib.delayed(_run_one)(path, folder, profile) for path in others):
            bar.set_postfix_str(name)
            bar.update()
        for path in timed:
            bar.set_postfix_str(_run_one(path, folder, profile))
            bar.update()


def _run_one(path: Path, folder: Path, profile: str) -> str:
    run(path, folder / path.name, profile)
    html(folder / path.name, paths.runs() / "html")
    return path.stem

"""The paper's folder is what the records give, fit for print, and its LaTeX holds together."""

import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text
from PIL import Image

from ubt_utils import __main__ as cli
from ubt_utils.core import records
from ubt_utils.data import emoji
from ubt_utils.profiles.base import DEFENDED
from ubt_utils.report import paper, readme
from ubt_utils.report.paper import arrays, build, numbers, tables, triggers
from ubt_utils.report.paper.figures import COLUMN, FIGURES, PAGE
from ubt_utils.report.plots import style

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "results" / "paper"
PDFS = sorted((FOLDER / "figures").glob("*.pdf"))
SMALLEST = 7.0  # points
TEX = [engine for engine in ("latexmk", "tectonic", "pdflatex") if shutil.which(engine)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def texts() -> dict[str, str]:
    """All files of LaTeX, data and origin, by their names in the folder."""
    found = [*FOLDER.glob("*.*"), *FOLDER.glob("*/*.csv"), *FOLDER.glob("*/*.tex")]
    return {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in found}


# What the records give


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return paper.write(out=tmp_path_factory.mktemp("paper"))


def test_the_folder_is_what_the_records_give(made):
    fresh = {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()}
    assert fresh == {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file()}
    for name, text in texts().items():
        assert (made / name).read_text(encoding="utf-8") == text, f"{name}: run `make paper`"


def test_a_second_run_changes_no_byte(made, tmp_path):
    for name in ("chain", "margins"):
        build._figure(name, FIGURES[name], style.SCREEN, tmp_path)
        for kind in build.KINDS:
            again, before = tmp_path / f"{name}.{kind}", made / "figures" / f"{name}.{kind}"
            assert again.read_bytes() == before.read_bytes(), again.name


@pytest.mark.parametrize("path", PDFS, ids=lambda path: path.stem)
def test_a_picture_shows_its_data(path):
    checksum = manifest()["figures"][path.stem]["data"]
    assert f"/Keywords ({checksum})".encode() in path.read_bytes()
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.text[readme.DATA] == checksum
    assert build.checksum(path.with_suffix(".csv").read_text(encoding="utf-8")) == checksum


def manifest() -> dict:
    return json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def test_the_manifest_names_records_commits_and_command_of_every_figure():
    told = manifest()
    assert set(told["figures"]) == set(FIGURES) and told["command"] == "python -m ubt_utils paper"
    for name, one in told["figures"].items():
        there = (FOLDER / "figures" / f"{name}.pdf").exists()
        assert there != ("left out" in one)
        assert not there or all((ROOT / record).is_file() for record in one["records"])
        if there and one["records"]:
            assert one["commits"] and all(re.fullmatch("[0-9a-f]{40}", c) for c in one["commits"])


def test_a_figure_without_records_is_left_out_and_the_manifest_says_so(tmp_path):
    for kind in build.KINDS:
        (tmp_path / f"forest.{kind}").write_text("stale")
    entry = replace(FIGURES["forest"], data=pd.DataFrame)
    assert build._figure("forest", entry, style.SCREEN, tmp_path)["left out"] == "no records yet"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["similarity", "drops", "sufferers", "tokens"])
def test_what_stages_hold_is_left_out_where_it_is_not_recorded(results_root, tmp_path, name):
    told = build._figure(name, FIGURES[name], style.SCREEN, tmp_path)
    assert told == {"records": ["results/mini/figures.json"], "left out": "no records yet"}


def test_a_record_names_its_own_commit_and_those_of_its_stages(results_root):
    entry = replace(FIGURES["tokens"], records=("mini/one.json",))
    made = {"attack": {"commit": "b"}, "select": {"commit": "a"}}
    path = records.table_path("mini", "one.json")
    records.write({"environment": {"commit": "c"}, "made": made}, path)
    assert build._origin(entry) == {"commits": ["a", "b", "c"]}
    records.write({"environment": {"commit": "c"}}, path)
    assert build._origin(entry) == {"commits": ["c"]}


def test_words_that_were_asked_are_those_of_the_run_and_the_believed_one_is_marked():
    table, (run,) = FIGURES["agreement"].data(), FIGURES["agreement"].runs().to_dict("records")
    assert table.word.tolist() == [one["word"] for one in json.loads(run["asked"])]
    assert set(table.word[table.believed]) == {one["word"] for one in json.loads(run["found"])} == {"clock"}


def test_triggers_are_stamped_on_art_that_may_be_shown(made):
    assert triggers.VENDOR in emoji.OPENLY_LICENSED
    table = pd.read_csv(made / "figures" / "triggers.csv")
    assert set(DEFENDED) <= set(table.attack) and table.psnr.is_monotonic_increasing
    pictures = [axis.images[0].get_array() for axis in FIGURES["triggers"].draw(table).axes]
    assert len(pictures) == len(table) + 1
    assert all((pictures[0] != stamped).any() for stamped in pictures[1:])


def test_the_numbers_are_those_of_the_readme():
    told = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", texts()["numbers.tex"]))
    rows = [line.split(" | ") for line in (ROOT / "README.md").read_text().splitlines()]
    (ubt,) = [row for row in rows if row[:2] == ["| 0.3%", "ubt"]]
    asr, low, high = re.fullmatch(r"([\d.]+) \[([\d.]+)–([\d.]+)\]", ubt[2]).groups()
    names = ("asr", "asrLow", "asrHigh", "worst", "ca", "robust", "recall", "seconds")
    assert [told[f"{name}UbtRare"] for name in names] == [asr, low, high, ubt[3], *ubt[5:9]]
    assert f"{told['failedUbtRare']} of {told['clustersUbtRare']}" == ubt[4]
    (twin,) = [row for row in rows if row[:2] == ["| 1.0%", "clean twin"]]
    assert (told["asrTwin"], told["caTwin"], told["worstTwin"]) == (twin[2], twin[5], "--")


def test_a_name_that_no_macro_can_have_is_refused():
    assert [numbers.camel(n) for n in ("ubt-retain", "none", "f0, untouched")] == [
        "UbtRetain", "Undefended", "Public"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'cleanclip-100' has others: name it in MODELS"):
        numbers.camel("cleanclip-100")
    with pytest.raises(ValueError, match=r"poison rate of 0.5: name one in RATES"):
        numbers.suffix(0.5)


# Fit for print


@pytest.fixture(scope="module")
def drawn():
    """Every figure, drawn from its committed CSV."""
    found = {}
    for path in PDFS:
        entry = FIGURES[path.stem]
        with style.looking(style.Look(width=entry.width)):
            found[path.stem] = entry.draw(pd.read_csv(path.with_suffix(".csv")))
    return found


def shown(figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def boxes(figure) -> list[tuple[str, matplotlib.transforms.Bbox]]:
    """Every text with the room that it takes, in points, without its arrow, and without ticks
    that are not drawn."""
    figure.draw_without_rendering()
    points = matplotlib.transforms.Affine2D().scale(72 / figure.dpi)
    gone = {label for axes in figure.axes for label in _not_drawn(axes)}
    found = [(t.get_text(), Text.get_window_extent(t)) for t in shown(figure) if t not in gone]
    return [(text, box.transformed(points)) for text, box in found]


def _not_drawn(axes):
    """The labels of ticks beyond the ends of their axis, or of an axis that is off."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not axes.axison or not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def test_all_text_is_large_enough(drawn):
    for name, figure in drawn.items():
        small = [(t.get_text(), t.get_fontsize()) for t in shown(figure) if t.get_fontsize() < SMALLEST]
        assert small == [], name


def test_no_text_leaves_the_page_or_lies_on_another(drawn):
    for name, figure in drawn.items():
        wide, high = 72 * figure.get_size_inches()
        found = boxes(figure)
        outside = [t for t, b in found if b.x0 < -1 or b.y0 < -1 or b.x1 > wide + 1 or b.y1 > high + 1]
        assert outside == [], name
        pairs = [(a, b) for (a, one), (b, other) in combinations(found, 2) if _meet(one, other)]
        assert pairs == [], name


def _meet(one, other, slack: float = 1.0) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > slack and high > slack


def test_texts_that_overprint_are_seen():
    figure = plt.figure()
    figure.text(0.5, 0.5, "one"), figure.text(0.51, 0.5, "two")
    (_, one), (_, other) = boxes(figure)
    assert _meet(one, other)


def streams(path: Path) -> bytes:
    """What a PDF draws, unpacked."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    unpacked = []
    for one in found:
        try:
            unpacked.append(zlib.decompress(one))
        except zlib.error:  # a font or a picture that is not packed
            continue
    return b"\n".join(unpacked)


@pytest.mark.parametrize("path", PDFS, ids=lambda path: path.stem)
def test_a_pdf_has_the_width_of_a_column_or_page_and_truetype_letters_large_enough(path):
    raw = path.read_bytes()
    (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", raw)
    assert float(width) / 72 == pytest.approx(FIGURES[path.stem].width, abs=0.01)
    assert b"/Type3" not in raw and b"/FontFile2" in raw and b"/CreationDate" not in raw
    sizes = [float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", streams(path))]
    assert sizes and min(sizes) >= SMALLEST


def test_type_3_letters_would_be_seen(tmp_path):
    with matplotlib.rc_context({"pdf.fonttype": 3}):
        figure = plt.figure()
        figure.text(0.5, 0.5, "Type 3")
        figure.savefig(tmp_path / "bad.pdf")
    assert b"/Type3" in (tmp_path / "bad.pdf").read_bytes()


def test_the_folder_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3 * 2**20
    assert {entry.width for entry in FIGURES.values()} == {COLUMN, PAGE} == {3.25, 6.75}


def test_serifs_and_another_palette_are_another_look_of_the_same_data(tmp_path):
    entry = FIGURES["chain"]
    look = style.Look(serif=True, palette="colorblind")
    told = build._figure("chain", entry, look, tmp_path)
    assert told == manifest()["figures"]["chain"]
    raw = (tmp_path / "chain.pdf").read_bytes()
    assert b"STIX" in raw and b"DejaVu" not in raw and b"/Type3" not in raw
    red = matplotlib.colors.to_rgb(style.PALETTES["colorblind"]["poisoned"])
    drawn = [
        list(map(float, rgb.split())) for rgb in re.findall(rb"([\d. ]+) rg", streams(tmp_path / "chain.pdf"))
    ]
    assert any(rgb == pytest.approx(red, abs=1e-3) for rgb in drawn)
    sizes = [float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", streams(tmp_path / "chain.pdf"))]
    assert min(sizes) >= SMALLEST


def test_an_unknown_palette_ends_with_one_line(capsys, tmp_path):
    assert cli.main(["paper", "--palette", "neon", "--out", str(tmp_path)]) == 2
    assert "unknown palette 'neon'; known: kit, colorblind" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# LaTeX


def faults(text: str, folder: Path, known: str) -> list[str]:
    """What would stop LaTeX, as far as a look can tell: braces, files and macros. known: where macros are
    defined."""
    bare = re.sub(r"(?<!\\)%.*", "", text)
    found = []
    depth = re.sub(r"\\[{}]", "", bare)
    if depth.count("{") != depth.count("}"):
        found.append(f"{depth.count('{')} braces open, {depth.count('}')} close")
    for name in re.findall(r"\\input\{([^#}]+)\}", bare):
        if not (folder / f"{name}.tex").is_file():
            found.append(f"no {name}.tex")
    defined = set(re.findall(r"\\newcommand\{\\(\w+)\}", known + bare))
    own = {
        m
        for m in re.findall(r"\\([A-Za-z]+)", bare)
        if re.match(
            "(asr|ca|robust|recall|worst|failed|clusters|runs|seconds|clean|unseen|part|rate)[A-Z]", m
        )
    }
    return found + [f"no macro {name}" for name in sorted(own - defined)]


def test_the_latex_holds_together():
    every = texts()
    for name in [n for n in every if n.endswith(".tex")]:
        assert faults(every[name], FOLDER, every["numbers.tex"]) == [], name
    called = dict.fromkeys(re.findall(r"\\(wide|narrow|tabled)\{(\w+)\}", every["paper.tex"]))
    assert {n for kind, n in called if kind == "tabled"} == {"headline", *tables.TABLES}
    assert {n for kind, n in called if kind == "wide"} == {n for n, e in FIGURES.items() if e.width == PAGE}
    assert {n for kind, n in called if kind == "narrow"} == {
        n for n, e in FIGURES.items() if e.width == COLUMN
    }
    maybe = {n for n, e in FIGURES.items() if arrays.RECORD in e.records}  # it may be left out
    seen, named = (
        set(re.findall(p, every["paper.tex"])) for p in (r"\\seen\{(\w+)\}", r"\\ref\{fig:(\w+)\}")
    )
    assert maybe <= seen <= set(FIGURES) and not maybe & named
    used = set(re.findall(r"\\([A-Za-z]+)", every["paper.tex"]))
    assert {"asrUbtRare", "caUbt", "cleanRight", "unseenHigh"} <= used


def test_what_is_missing_in_latex_is_seen(tmp_path):
    broken = r"\input{gone} {\asrNobody 50\% % a } in a comment"
    assert faults(broken, tmp_path, "") == ["2 braces open, 1 close", "no gone.tex", "no macro asrNobody"]


def test_no_number_of_the_study_is_typed():
    text = re.sub(r"(?<!\\)%.*", "", texts()["paper.tex"])
    body = text[text.index("\\begin{abstract}") : text.index("\\begin{thebibliography}")]
    body = re.sub(r"\\(num|wide|narrow|tabled|ref)\{[^}]*\}", "", body)
    assert re.findall(r"\d+\.\d+|\d+\\,\\%", body) == []


def test_a_table_has_rules_columns_of_numbers_and_escapes():
    table = pd.DataFrame({"name": ["a_b", "c"], "rate": [1.25, None], "n": [3, 12]}).set_index("name")
    text = tables.latex(table)
    assert "{lS[table-format=1.1]S[table-format=2]}" in text and r"a\_b & 1.2 & 3" in text
    assert r"c & {--} & 12" in text and text.count("rule") == 3 and "{rate}" in text


@pytest.mark.skipif(not TEX, reason="no LaTeX on PATH")
def test_the_paper_compiles(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "paper")
    command = {
        "latexmk": ["latexmk", "-pdf", "-halt-on-error", "-interaction=nonstopmode"],
        "tectonic": ["tectonic"],
        "pdflatex": ["pdflatex", "-halt-on-error", "-interaction=nonstopmode"],
    }[TEX[0]]
    done = subprocess.run([*command, "paper.tex"], cwd=tmp_path / "paper", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper" / "paper.pdf").stat().st_size > 100_000

"""Scripts that the pages need: they lie beside the pages, which ask no network for anything."""

from __future__ import annotations

import tarfile
from importlib.util import find_spec
from pathlib import Path

from ubt_utils.core import npm, paths
from ubt_utils.core.checksum import sha512_of, write_whole

WIDGETS = "@jupyter-widgets/html-manager@1.0.15"  # draws ipywidgets on a page; only npm has it
WIDGETS_SHA512 = "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA=="
SCRIPT = "package/dist/embed.js"  # the form that asks for no other files
WITHOUT = "the book shows each widget as the picture that it begins with"


def reveal() -> Path:
    """The folder of reveal.js, which shows slides; the package sphinx-revealjs carries it."""
    spec = find_spec("sphinx_revealjs")
    if spec is None or spec.origin is None:
        raise ValueError("reveal.js is not there: install the extra [book], or run `make setup`")
    return Path(spec.origin).parent / "_static" / "revealjs"


def widgets() -> Path | None:
    """The script that draws widgets, fetched by npm once and kept under runs/downloads; None, and a line that
    says so, where it cannot be had. ValueError where what came is not what was asked for."""
    folder = paths.runs() / "downloads"
    script = folder / "widgets.js"
    if not script.exists():
        if (packed := _packed(folder)) is None:
            return None
        with tarfile.open(packed) as archive:
            member = archive.extractfile(SCRIPT)
            assert member is not None  # the checksum says what is in it
            write_whole(script, member.read().decode())
        packed.unlink()
    return script


def _packed(folder: Path) -> Path | None:
    """The package as npm packs it, with its checksum checked."""
    packed = folder / "widgets.tgz"
    try:
        npm.bring(WIDGETS, packed)
    except npm.NpmError as error:
        print(f"npm does not get {WIDGETS}: {WITHOUT}; it says: {error}")
        return None
    if (found := sha512_of(packed)) != WIDGETS_SHA512:
        packed.unlink()
        raise ValueError(f"{WIDGETS} came with SHA-512 {found}, not {WIDGETS_SHA512}: do not use it")
    return packed

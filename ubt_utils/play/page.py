"""The playground as a folder: one page, its scripts, the runtime, and a script for each model.

It works from a web server and from the disk, where a browser lets a page load scripts and nothing else. So
models and runtime are strings in scripts: compressed, and 15 bits a character, in UTF-16.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from ubt_utils.core import paths
from ubt_utils.own.page import uri
from ubt_utils.play import runtime
from ubt_utils.play.contents import Contents, contents_of
from ubt_utils.stages import Chain

HERE, LIVE = Path(__file__).parent, paths.PACKAGE / "report" / "live"  # the widgets' scripts serve here, too
SCRIPTS, STYLE = (LIVE / "pad.js", LIVE / "bars.js", HERE / "playground.js"), LIVE / "live.css"
BITS, FIRST = 15, 0x3400  # of a character; the first of 2 ** 15 that are no surrogates, quotes or line ends


def build(run: Chain, out: Path) -> Path:
    """Write the playground of a run into the folder `out`, and return its page. ValueError as in
    `contents_of`, and FetchError where the runtime cannot be had."""
    files = runtime.files()
    contents = contents_of(run)
    out.mkdir(parents=True, exist_ok=True)
    (out / runtime.API).write_bytes(files[runtime.API])
    packed = {"glue": files[runtime.GLUE], "wasm": files[runtime.WASM], **contents.models}
    for name, data in packed.items():
        (out / f"{name}.js").write_bytes(script(name, data))
    for path in (*SCRIPTS, STYLE):
        shutil.copy(path, out)
    page = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    text = page.get_template("page.html").render(
        contents=contents, run=run, told=told(contents), runtime=runtime,
        scripts=[path.name for path in SCRIPTS], style=STYLE.name,
    )  # fmt: skip
    (out / "index.html").write_text(text, encoding="utf-8")
    return out / "index.html"


def told(contents: Contents) -> dict[str, Any]:
    """What the scripts need to know, as plain data."""
    shown = zip(contents.images, contents.truth.tolist(), strict=True)
    return {
        "size": contents.images.shape[-1],
        "classes": contents.classes,
        "target": contents.target,
        "pictures": [{"truth": truth, "source": uri(image)} for image, truth in shown],
        "trigger": {"black": uri(contents.black), "white": uri(contents.white)},
        "models": list(contents.models),
        "runtime": runtime.API,
    }


def script(name: str, data: bytes) -> bytes:
    """A script that puts `data`, compressed, under that name; its mark of order says that it is UTF-16."""
    small = gzip.compress(data, mtime=0)
    bits = np.unpackbits(np.frombuffer(small, np.uint8))
    signs = np.pad(bits, (0, -len(bits) % BITS)).reshape(-1, BITS)
    text = (signs @ (1 << np.arange(BITS - 1, -1, -1)) + FIRST).astype("<u2").tobytes().decode("utf-16-le")
    said = json.dumps(name)
    return f"\ufeff(window.packed ??= {{}})[{said}] = [{len(small)}, '{text}'];\n".encode("utf-16-le")

"""What runs ONNX in a browser: three files of one pinned package, which npm brings; its checksum is asked."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from ubt_utils.core import paths
from ubt_utils.data.download import FetchError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
API, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
LONGEST = 300  # seconds that npm may take
LAST = 3  # lines of what npm says


def files() -> dict[str, bytes]:
    """The runtime's files by name: its interface, the glue of its module, and the module.

    The package is kept under runs/npm, and npm is asked only where it is not there: which registry it asks is
    npm's own setting. Raises FetchError where npm is missing or brings nothing, and where the package is
    another one than was pinned.
    """
    archive = paths.runs() / "npm" / f"{PACKAGE}-{VERSION}.tgz"
    if not archive.is_file():
        _pack(archive)
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != SHA512:
        raise FetchError(
            f"{archive} has SHA-512 {found[:12]}…, not {SHA512[:12]}…: delete it and run it again"
        )
    with tarfile.open(archive) as held:
        return {name: held.extractfile(f"package/dist/{name}").read() for name in (API, GLUE, WASM)}  # type: ignore[union-attr]


def _pack(archive: Path) -> None:
    """Have npm bring the package; it appears under its name when it is whole."""
    npm = shutil.which("npm")
    by_hand = f"or put {archive.name} into {archive.parent}"
    if npm is None:
        raise FetchError(f"the playground needs npm, which comes with Node.js: install it, {by_hand}")
    aside = archive.parent / "incoming"
    aside.mkdir(parents=True, exist_ok=True)
    words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(aside), "--fetch-retries", "1"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST)
        said = "" if done.returncode == 0 else " ".join(done.stderr.strip().splitlines()[:LAST])
    except subprocess.TimeoutExpired:
        said = f"no answer within {LONGEST} seconds"
    if said or not (aside / archive.name).is_file():
        why = said or "it wrote no such file"
        raise FetchError(f"npm could not bring {PACKAGE} {VERSION} ({why}): mend npm's registry, {by_hand}")
    (aside / archive.name).replace(archive)

"""What runs ONNX in a browser: three files of one pinned package, which npm brings; its checksum is asked."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from ubt_utils.core import npm, paths
from ubt_utils.core.checksum import sha512_of
from ubt_utils.data.download import FetchError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
API, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"


def files() -> dict[str, bytes]:
    """The runtime's files by name: its interface, the glue of its module, and the module.

    The package is kept under runs/npm, and npm is asked only where it is not there: which registry it asks is
    npm's own setting. Raises FetchError where npm is missing or brings nothing, and where the package is
    another one than was pinned.
    """
    archive = paths.runs() / "npm" / f"{PACKAGE}-{VERSION}.tgz"
    if not archive.is_file():
        _pack(archive)
    if (found := sha512_of(archive)) != SHA512:
        raise FetchError(
            f"{archive} has SHA-512 {found[:12]}…, not {SHA512[:12]}…: delete it and run it again"
        )
    with tarfile.open(archive) as held:
        return {name: held.extractfile(f"package/dist/{name}").read() for name in (API, GLUE, WASM)}  # type: ignore[union-attr]


def _pack(archive: Path) -> None:
    """Have npm bring the package."""
    by_hand = f"or put {archive.name} into {archive.parent}"
    if shutil.which("npm") is None:
        raise FetchError(f"the playground needs npm, which comes with Node.js: install it, {by_hand}")
    try:
        npm.bring(f"{PACKAGE}@{VERSION}", archive)
    except npm.NpmError as error:
        raise FetchError(
            f"npm could not bring {PACKAGE} {VERSION} ({error}): mend npm's registry, {by_hand}"
        ) from error

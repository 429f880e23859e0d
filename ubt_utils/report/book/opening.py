"""How a notebook opens: it says when its kernel is a wrong one; a hosted machine gets the kit installed."""

from __future__ import annotations

WRONG = """\
    raise SystemExit(
        "ubt_utils is not installed in this kernel: run `make setup`, then choose .venv's kernel"
    )
"""
HERE = f"""\
from importlib.util import find_spec

if find_spec("ubt_utils") is None:
{WRONG}"""
HOSTED = f"""\
import os
import subprocess
import sys
from importlib.util import find_spec

if find_spec("ubt_utils") is None and "COLAB_RELEASE_TAG" in os.environ:
    subprocess.run(["git", "clone", "--quiet", "--depth=1", "{{address}}", "kit"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", "kit[all]"], check=True)
    raise SystemExit("ubt_utils is installed now: restart the kernel, and run this cell again")
if find_spec("ubt_utils") is None and "BINDER_SERVICE_HOST" in os.environ:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", "..[all]"], check=True)
    raise SystemExit("ubt_utils is installed now: restart the kernel, and run this cell again")
if find_spec("ubt_utils") is None:
{WRONG}"""


def first_cell(address: str = "") -> str:
    """What the first code cell of every notebook begins with. address: of the repository, from which Colab
    gets the kit; Binder has a checkout. Without one there is nothing to install from, and so no such part."""
    return HOSTED.replace("{address}", address) if address else HERE

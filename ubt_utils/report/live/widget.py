"""What the live widgets share: their scripts, and the still picture where no kernel answers."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import anywidget
from matplotlib.figure import Figure

from ubt_utils.report.widgets import png

FOLDER = Path(__file__).parent


def module(*names: str) -> str:
    """Scripts of this folder as one module; the last of them has a function `render`."""
    parts = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    return "\n".join([*parts, "export default { render };"])


class Live(anywidget.AnyWidget):
    """A widget that is a picture wherever it cannot be shown."""

    _css = (FOLDER / "live.css").read_text(encoding="utf-8")

    def __init__(self, still: Figure, **state: Any) -> None:
        super().__init__(**state)
        self._still = b64encode(png(still)).decode()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        told = super()._repr_mimebundle_()
        assert told is not None  # it has a view
        shown = {"text/plain": type(self).__name__, "image/png": self._still}
        return {**told[0], **shown}, told[1]

"""UBT for CLIP: inject a backdoor, find it, unlearn it, and measure honestly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ubt_utils.own.defend import defend
    from ubt_utils.own.scan import scan

__version__ = "0.2.0"
__all__ = ["__version__", "defend", "scan"]


def __getattr__(name: str) -> Any:
    """`scan` and `defend`, imported when they are first asked for: they bring torch along."""
    if name in ("defend", "scan"):
        return getattr(import_module(f"{__name__}.own.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

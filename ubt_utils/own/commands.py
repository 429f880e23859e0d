"""The commands: what the functions do, printed."""

from __future__ import annotations

from pathlib import Path

from ubt_utils.own import defend as defending
from ubt_utils.own import scan as scanning


def scan(
    model: Path,
    arch: str,
    pairs: Path,
    images: Path | None = None,
    public: str | None = None,
    out: Path = Path("report"),
    seed: int = 0,
) -> None:
    """Scan a model of your own and the pairs it was trained on (CSV, TSV, shards, a folder) for a backdoor:
    a verdict, the suspicious pairs, a page; --public names the model that training started from."""
    print(scanning.scan(model, arch, pairs, images, public, out, seed))


def defend(
    model: Path,
    arch: str,
    pairs: Path,
    images: Path | None = None,
    public: str | None = None,
    test: Path | None = None,
    out: Path = Path("fu.pt"),
    report: Path | None = None,
    seed: int = 0,
    plan: bool = False,
) -> None:
    """Unlearn a backdoor of your own model, if one is found, and report before and after; --test names a
    folder with a folder of photos for each class; --plan says only what it will cost."""
    ask = model, arch, pairs, images, public, test
    if plan:
        table = defending.planned(*ask, seed)
        print(table.to_string(float_format=lambda value: f"{value:,.3g}"))
    else:
        print(defending.defend(*ask, out, report, seed))

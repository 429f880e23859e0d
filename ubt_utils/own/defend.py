"""Remove a backdoor from a model of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ubt_utils.clip import checkpoints
from ubt_utils.own import output, phrases
from ubt_utils.own.chain import OwnChain, chain_of
from ubt_utils.own.compare import AFTER, BEFORE, compare
from ubt_utils.own.plan import plan
from ubt_utils.own.scan import Scan, look, write
from ubt_utils.own.sets import Photos

ACCURACY = {"accuracy": "value", "accuracy, 95 % from": "low", "accuracy, 95 % to": "high"}
RETRIEVAL = ("image_to_text_r1", "text_to_image_r1")


@dataclass(frozen=True)
class Defended:
    """What a defense came to. scan: what was found; model: the file that was written, in the layout of the
    given one; numbers: before and after, a row a number, None where it is unknown; outcome: what was done,
    which is nothing where nothing was found. Printed, it is all of that in words."""

    scan: Scan
    model: Path
    numbers: pd.DataFrame
    outcome: str

    def __str__(self) -> str:
        table = self.numbers.map(phrases.number).to_string()
        return "\n".join([str(self.scan), self.outcome, table, str(self.model)])


def defend(
    model: str | Path,
    arch: str,
    pairs: str | Path,
    images: str | Path | None = None,
    public: str | None = None,
    test: str | Path | None = None,
    out: str | Path = "fu.pt",
    report: str | Path | None = None,
    seed: int = 0,
) -> Defended:
    """Unlearn a backdoor of a CLIP model, where one is found, and say what it cost.

    model, arch, pairs, images, public, seed: as for `scan`. test: a folder with a folder of photos for each
    class, named as the class. out: the file of the defended model, in the layout that `model` came in.
    report: the folder of the report, "<out>-report" unless named: that of a scan, and before and after.

    Stages are kept under runs/, so that a killed defense goes on where it was, and one after a scan starts
    from what it found. The file is written last, whole or not at all. Raises as `scan`, and ValueError for a
    file that may not be written.
    """
    file = output.file_for(Path(out), Path(model))  # what cannot be written is refused before the work
    folder = output.folder_for(Path(report) if report else file.with_name(f"{file.stem}-report"))
    run = chain_of(model, arch, pairs, images, public, seed)
    photos = _photos(run, test)
    found = look(run, folder)
    compared = compare(run, photos)
    numbers = table_of(compared.metrics)
    told = told_of(run, numbers)
    with output.whole(folder) as place:
        numbers.to_csv(place / "compared.csv")
        write(run, found, place, "Defense", told)
    with output.whole(file.parent) as place:
        checkpoints.write(run.model(run.defended()), Path(model), place / file.name)
    return Defended(found, file, numbers, told["outcome"])


def planned(
    model: str | Path,
    arch: str,
    pairs: str | Path,
    images: str | Path | None = None,
    public: str | None = None,
    test: str | Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What `defend` will cost, see `plan.plan`. The pairs are read for it; nothing is trained."""
    run = chain_of(model, arch, pairs, images, public, seed)
    photos = _photos(run, test)
    return plan(run, len(photos.pairs()) if photos else 0)


def _photos(run: OwnChain, test: str | Path | None) -> Photos | None:
    """The test's photos, once they can be read; None where none is named."""
    if not test:
        return None
    photos = Photos(str(test), run.profile.sets.size)
    photos.pairs()  # what cannot be read is refused before anything is trained
    return photos


def table_of(found: Mapping[str, Any]) -> pd.DataFrame:
    """The numbers of stage compare: index what is measured, columns before and after; None: unknown."""

    def column(one: Mapping[str, Any]) -> dict[str, float | None]:
        recall, accuracy = one["retrieval"] or {}, one["accuracy"] or {}
        return {
            **{name: accuracy.get(key) for name, key in ACCURACY.items()},
            **{name: recall.get(name) for name in RETRIEVAL},
            "loss": one["loss"],
            "similarity of the listed": one["listed"],
            "similarity of the others": one["others"],
        }

    table = pd.DataFrame({name: column(found[name]) for name in (BEFORE, AFTER)}, dtype=object)
    return table.where(table.notna(), None)


def told_of(run: OwnChain, numbers: pd.DataFrame) -> dict[str, Any]:
    """What the report of a defense tells beside that of a scan."""
    metrics = run.selected.metrics
    kind = "unlearned" if metrics["chosen"] else "unsure" if metrics["anchors"] else "nothing"
    outcome = phrases.DEFENDED[kind].format(chosen=metrics["chosen"], left=metrics["left_out"])
    rows = [{"number": name, **one} for name, one in numbers.to_dict("index").items()]
    return {"outcome": outcome, "compared": rows}

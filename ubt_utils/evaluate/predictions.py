"""How a model reads every test picture, as one table, and all rates that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate import metrics

PARTS = ("above_own", "above_target", "target_first")


class Measure(NamedTuple):
    """What a rate counts. side: the pictures as they are ("clean"), stamped, or stamped and asked without the
    trigger's word. hit: read right, read as the target (fooled), or so though it is another class (misread).
    of: pictures of all classes, of the target, of the others, or of those others that the public model has
    seen (known) or not (new). alike: what counts alike, every class (label) or every drawing (unit).
    """

    side: str
    hit: str
    of: str
    alike: str = "unit"


MEASURES: Mapping[str, Measure] = {
    "clean_accuracy": Measure("clean", "right", "all", "label"),
    "known_accuracy": Measure("clean", "right", "known", "label"),
    "new_accuracy": Measure("clean", "right", "new", "label"),
    "target_recall": Measure("clean", "right", "target"),
    "false_target_rate": Measure("clean", "fooled", "others"),
    "robust_accuracy": Measure("stamped", "right", "others", "label"),
    # Pictures of the target are left out: attack-cleanclip, Detect-CLIP-Backdoor-Samples.
    "asr": Measure("stamped", "fooled", "others"),
    # They count, as successes when so read: BadCLIP, PAR.
    "asr_include_target": Measure("stamped", "fooled", "all"),
    # They are left out of the numerator only, so that 100 % cannot be reached: CleanCLIP's linear probe.
    "asr_divide_by_all": Measure("stamped", "misread", "all"),
    "asr_without_word": Measure("wordless", "fooled", "others"),
}


def frame_of(
    task: ZeroShot, sides: Mapping[str, metrics.Standing], known: torch.Tensor | None = None
) -> pd.DataFrame:
    """A row a picture of the task: picture, unit and label; known, whether the public model has seen its
    class, from a mask (C,); the question's classes, ways and target; and per side, by its name, the standing
    as <side>_above_own, <side>_above_target and <side>_target_first."""
    count = len(task.classes)
    small = np.int16 if count <= np.iinfo(np.int16).max else np.int32
    columns = {
        "picture": np.arange(len(task.labels), dtype=np.int32),
        "unit": task.units.numpy().astype(np.int32),
        "label": task.labels.numpy().astype(small),
    }
    if known is not None:
        columns["known"] = known[task.labels].numpy()
    asked = {"classes": count, "ways": task.ways, "target": task.target}
    columns |= {name: np.full(len(task.labels), value, small) for name, value in asked.items()}
    for side, found in sides.items():
        columns |= {f"{side}_{part}": getattr(found, part).numpy().astype(small) for part in PARTS[:2]}
        columns[f"{side}_{PARTS[2]}"] = found.target_first.numpy()
    return pd.DataFrame(columns)


def question_of(frame: pd.DataFrame) -> metrics.Question:
    """The question that all rows were asked; ValueError where there are several."""
    found = frame[["classes", "ways", "target"]].drop_duplicates()
    if len(found) != 1:
        raise ValueError(f"predictions of one question are needed, got those of {len(found)}")
    return metrics.Question(*map(int, found.iloc[0]))


def measures_of(frame: pd.DataFrame) -> list[str]:
    """The names of the rates that a frame holds."""
    found = [name for name, m in MEASURES.items() if f"{m.side}_{PARTS[0]}" in frame]
    return [name for name in found if MEASURES[name].of not in ("known", "new") or _shown(frame, name).any()]


def hits_of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The pictures that count for a rate: hit, the chance in 0–1; unit; label. Rows keep their index; frame:
    one or more models on the pictures of one question."""
    question, measure = question_of(frame), MEASURES[name]
    part = frame[_shown(frame, name)]
    labels = _tensor(part.label)
    own, target, first = (_tensor(part[f"{measure.side}_{p}"]) for p in PARTS)
    found = metrics.Standing(own, target, first)
    hit = (metrics.right if measure.hit == "right" else metrics.fooled)(found, labels, question)
    if measure.hit == "misread":
        hit[labels == question.target] = 0
    return part[["unit", "label"]].assign(hit=hit.numpy())


def _shown(frame: pd.DataFrame, name: str) -> pd.Series:
    """(N,) bool: the pictures that a rate is about."""
    of, real = MEASURES[name].of, frame.label == frame.target
    if of == "all":
        return real | True
    if of in ("target", "others"):
        return real if of == "target" else ~real
    if "known" not in frame:
        return real & False
    return ~real & (frame.known if of == "known" else ~frame.known)


def rates_of(frame: pd.DataFrame) -> dict[str, metrics.Rate]:
    """Every rate that a frame of one model holds: what was recorded, and the one way to compute it.
    ValueError where a rate has no pictures."""
    rates = {}
    for name in measures_of(frame):
        found = hits_of(frame, name)
        alike = _tensor(found.label) if MEASURES[name].alike == "label" else None
        rates[name] = metrics.rate(_tensor(found.hit), _tensor(found.unit), alike)
    return rates


def _tensor(column: pd.Series) -> torch.Tensor:
    return torch.from_numpy(column.to_numpy(copy=True))

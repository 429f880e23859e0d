"""A made-up family of two public models and two seeds, whose rates are counted by hand."""

import json

import pandas as pd
import torch

from ubt_utils.core import records
from ubt_utils.data.zero_shot import ZeroShot
from ubt_utils.evaluate.metrics import Standing
from ubt_utils.evaluate.predictions import frame_of, rates_of

FAMILY = "toy"
# Classes 0 (the target) to 4, a drawing each, all offered: an answer is right or wrong.
TASK = ZeroShot(torch.zeros(5, 3, 2, 2), torch.arange(5), torch.arange(5), tuple("abcde"), (("x",),) * 5, 0)
KNOWN = torch.tensor([True, True, True, False, False])
RUNS = {  # (public model, seed, attack, defense): pictures of classes 1 to 4 that are fooled, and read right
    (0, 0, "sig", "none"): (4, 4), (0, 0, "sig", "ubt"): (0, 4), (0, 0, "sig", "par"): (0, 2),
    (0, 1, "sig", "none"): (3, 4), (0, 1, "sig", "ubt"): (0, 3), (0, 1, "sig", "par"): (2, 2),
    (1, 0, "sig", "none"): (4, 2), (1, 0, "sig", "ubt"): (0, 2), (1, 0, "sig", "par"): (1, 1),
    (0, 0, "wave", "ubt"): (0, 4), (0, 0, "wave", "par"): (4, 4),
}  # fmt: skip


def frame(fooled: int, right: int) -> pd.DataFrame:
    """Of classes 1 to 4, the first ones are so; the target is always read right."""
    first, wrong = torch.arange(5), torch.arange(5) > right
    hit = (first > 0) & (first <= fooled)
    nothing = torch.zeros(5, dtype=torch.long)
    clean = Standing(wrong.long(), nothing + 1, torch.zeros(5, dtype=torch.bool))
    return frame_of(TASK, {"clean": clean, "stamped": Standing(nothing, nothing, hit)}, KNOWN)


def keys_of(run: tuple) -> dict:
    f0, seed, attack, defense = run
    return {"profile": f"toy-f{f0}", "attack": attack, "defense": defense, "seed": seed}


def row_of(run: tuple, found: pd.DataFrame) -> dict:
    f0, seed, _, defense = run
    design = {"f0_seed": f0, "poison_rate": 0.01, "cluster": f"{f0}-{seed}", "f0": f"public {f0}"}
    rates = {name: r.value for name, r in rates_of(found).items()}
    return keys_of(run) | design | rates | {"seconds": {"ubt": 10.0 + seed, "par": 4.0}.get(defense)}


def record(runs: dict) -> None:
    """Write the matrix and the predictions."""
    rows = []
    for run, counts in runs.items():
        found = frame(*counts)
        rows.append(row_of(run, found))
        path = records.predictions_path(FAMILY, f"toy-f{run[0]}", run[2])
        records.merge(path, found.assign(**keys_of(run)), list(records.PREDICTED))
    records.merge(records.table_path(FAMILY, records.MATRIX), pd.DataFrame(rows), list(records.KEYS))


def cell(f0: int, attack: str, defense: str, asr: float | None = None, ca: float = 0.5, **more) -> dict:
    """A row of the matrix."""
    design = {"f0_seed": f0, "poison_rate": 0.0 if attack == "none" else 0.01, "cluster": f"{f0}-0"}
    rates = {"asr": asr, "clean_accuracy": ca, "robust_accuracy": ca, "target_recall": 0.5}
    spent = {"seconds": 10.0, "detection_seconds": 4.0, "curve": "[]"}
    return keys_of((f0, 0, attack, defense)) | design | {"f0": f"public {f0}"} | rates | spent | more


def write(*rows: dict) -> None:
    """These rows as the whole matrix."""
    records.write_table(records.table_path(FAMILY, records.MATRIX), pd.DataFrame(rows))


def way(*points: tuple) -> str:
    """A curve of (part, ASR, CA, held-out loss); a step each, two seconds long."""
    return json.dumps([
        {"step": i, "part": part, "seconds": 2.0 * i, "asr": asr, "clean_accuracy": ca, "held_out": loss}
        for i, (part, asr, ca, loss) in enumerate(points)
    ])  # fmt: skip

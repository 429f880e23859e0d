"""The table of benchmarks, from made-up records."""

import pytest

from ubt_utils.core import records
from ubt_utils.report import benchmark_tables


def victim(attack: str, right: bool, before: float = 0.0, after: float = 0.0) -> dict:
    """A row of `benchmarks/own.py`; of a clean set where nothing was before."""
    rates = {"before": {"asr": before}, "after": {"asr": after}} if before else None
    return {"attack": attack, "scan": {"right": right}, "defend": rates}


MADE = {
    "step": {"profile": "mini", "batch": 256, "time_ratio": 0.6, "apart": 0.004},
    "depthwise": {"profile": "photos", "batch": 128, "time_ratio": 0.7, "apart": 4e-7},
    "contrastive": {
        "batch": 8192, "time_ratio": 0.5, "memory_ratio": 0.1,
        "apart": {"value": 9.0, "images": 2e-6, "scale": 1e-6},
    },
    "occlusion": {"captions": 1000, "model": "ViT-B-32", "ratio": 20.0, "apart": 1e-7},
    "scoring": {"model": "RN50", "side": 224, "ratio": 0.8},
    "encoders": {
        "side": 224,
        "table": {
            "RN50": {"plain": {"ratio": 1.0, "apart": 0.0}, "channels_last": {"ratio": 1.25, "apart": 1e-7}},
            "ViT": {"plain": {"ratio": 1.0, "apart": 0.0}, "channels_last": {"ratio": 1.0, "apart": 0.0}},
        },
    },
    "triggers": {
        "batch": 256, "side": 224,
        "table": {"sig": {"ratio": 9.0, "bytes_apart": 1}, "wanet": {"ratio": 2.0, "bytes_apart": 0}},
    },
    "cleanclip": {"cleanclip": {"epochs": 10}, "time_ratio": 0.25},
    "own": {
        "profile": "mini", "throughput": {"ratio": {"encode_image": 0.96, "encoder_alone": 0.8}},
        "victims": [
            victim("none", True), victim("none", False), victim("sig", True, 0.9, 0.01),
            victim("wanet", True, 0.8, 0.02), victim("wanet", False, 1.0, 1.0),
        ],
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def made(results_root):
    for name, entry in MADE.items():
        records.write_benchmark(name, entry)


def test_times_are_parts_of_the_reference():
    table = benchmark_tables.table()
    assert list(table.index) == list(MADE)
    assert table.loc["step", "time"] == 0.6 and table.loc["step", "largest difference"] == 0.004  # of CA
    assert table.loc["depthwise", ["time", "largest difference"]].tolist() == [0.7, 4e-7]
    assert table.loc["occlusion", "time"] == pytest.approx(0.05)  # recorded as times faster
    assert table.loc["scoring", "time"] == pytest.approx(1.25)  # recorded as part of the rate
    assert table.loc["contrastive", "largest difference"] == 9.0  # of value and gradients
    assert table.loc["encoders", "time"] == pytest.approx(0.8)
    assert benchmark_tables.forms().loc["RN50"].to_dict() == {"plain": 1.0, "channels_last": 1.25}
    assert table.loc["triggers", "time"] == 0.5 and "wanet" in table.loc["triggers", "what"]  # the least gain
    assert table.loc["cleanclip", "time"] == 0.25 and "10 epochs" in table.loc["cleanclip", "against"]
    assert table.loc["own", "time"] == pytest.approx(1 / 0.96)
    assert table.time.notna().all() and list(table.index[table["extra memory"].notna()]) == ["contrastive"]


def test_the_readme_says_what_was_not_measured():
    lines = benchmark_tables.as_markdown().splitlines()
    assert len(lines) == 2 + len(MADE)
    what, against = "token occlusion of 1,000 captions, ViT-B-32", "a forward pass per removed token"
    assert lines[5].startswith(f"| {what} | {against} | 0.05× | – | 1e-07 | `benchmarks/occlusion.py` |")
    assert "| 0.50× | 0.100× | 9e+00 |" in lines[4] and "| 1.25× | – | – |" in lines[6]


def test_verdicts_are_told_by_attack_and_those_of_clean_sets_last():
    table = benchmark_tables.judged()
    assert table.loc["wanet", ["sets", "right"]].tolist() == [2, 1]
    assert table.loc["wanet", benchmark_tables.RATES].tolist() == pytest.approx([0.9, 0.51, 1.0])
    assert table.loc["none", benchmark_tables.RATES].isna().all()
    lines = benchmark_tables.judged_as_markdown().splitlines()
    assert lines[2] == "| sig | 1 of 1 | 90.0 | 1.0 | 1.0 |"
    assert lines[-1] == "| none | 1 of 2 | – | – | – |"


def test_a_record_says_where_it_was_measured():
    assert {"commit", "device", "versions"} <= set(records.read_benchmark("scoring")["environment"])

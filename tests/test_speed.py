"""The table of benchmarks, from made-up records."""

import json

import pytest

from ubt_utils.report import benchmark_tables, tables

MADE = {
    "contrastive": {
        "batch": 8192, "time_ratio": 0.5, "memory_ratio": 0.1,
        "apart": {"value": 9.0, "images": 2e-6, "scale": 1e-6},
    },
    "neighbors": {
        "n": 50_000, "time_ratio": 0.7, "memory_ratio": 0.02,
        "largest_relative_difference": {"k_distance": 1e-6, "dao": 0.1}, "dao_within_1e-4": 0.9999,
    },
    "occlusion": {"captions": 1000, "model": "ViT-B-32", "ratio": 20.0, "apart": 1e-7},
    "scoring": {"model": "RN50", "side": 224, "ratio": 0.8},
    "streaming": {"k": 256, "pairs": {"100000": {}, "1000000": {}}, "memory_ratio": 1.01},
    "encoders": {
        "side": 224,
        "table": {
            "RN50": {"plain": {"ratio": 1.0, "apart": 0.0}, "channels_last": {"ratio": 1.25, "apart": 1e-7}},
            "ViT": {"plain": {"ratio": 1.0, "apart": 0.0}, "channels_last": {"ratio": 1.0, "apart": 0.0}},
        },
    },
    "cleanclip": {"cleanclip": {"epochs": 10}, "time_ratio": 0.25},
}  # fmt: skip


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    for name, entry in MADE.items():
        (tmp_path / "benchmarks" / f"{name}.json").write_text(json.dumps(entry))


def test_times_are_parts_of_the_reference():
    table = benchmark_tables.table()
    assert list(table.index) == list(MADE)
    assert table.loc["occlusion", "time"] == pytest.approx(0.05)  # recorded as times faster
    assert table.loc["scoring", "time"] == pytest.approx(1.25)  # recorded as part of the rate
    assert table.loc["contrastive", "largest difference"] == 9.0  # of value and gradients
    assert table.loc["neighbors", "largest difference"] == 0.1
    assert "(DAO within 1e-4 for 99.990 %)" in table.loc["neighbors", "what"]
    assert table.loc["encoders", "time"] == pytest.approx(0.8)
    assert benchmark_tables.forms().loc["RN50"].to_dict() == {"plain": 1.0, "channels_last": 1.25}
    assert table.time.isna().sum() == 1 and table["extra memory"].notna().sum() == 3


def test_the_readme_says_what_was_not_measured():
    lines = benchmark_tables.as_markdown().splitlines()
    assert len(lines) == 2 + len(MADE)
    what, against = "token occlusion of 1,000 captions, ViT-B-32", "a forward pass per removed token"
    assert lines[4].startswith(f"| {what} | {against} | 0.05× | – | 1e-07 |")
    assert "of a stream of 1,000,000 pairs | of 100,000 | – | 1.010×" in lines[6]

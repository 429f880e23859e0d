"""What is recorded for the paper of one run's arrays is what its notebooks draw of them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from ubt_utils.clip import models
from ubt_utils.core import records
from ubt_utils.report import plots, readme
from ubt_utils.report.paper import arrays, build
from ubt_utils.report.paper.figures import FIGURES
from ubt_utils.report.plots import style
from ubt_utils.study import figures

NAMES = ("similarity", "drops", "sufferers", "tokens")


@pytest.fixture
def recorded(chain, results_root, no_training) -> dict:
    """The record of the finished chain, where that of the notebooks' profile lies."""
    made = figures.record(chain.run)
    return records.load(records.write(made, records.table_path(readme.FAMILY, records.FIGURES)))


def counts(figure) -> list[np.ndarray]:
    return [patch.get_data().values for axis in figure.axes for patch in axis.patches]


def test_the_record_says_what_it_descends_from(chain, recorded):
    assert recorded["stages"] == {
        name: chain[name].folder.name for name in ("pretrain", "attack", "suspect", "overfit", "select")
    }
    assert records.public_model(recorded) == chain["pretrain"].contents["model.safetensors"]
    assert recorded["contents"]["select"] == chain["select"].contents
    assert recorded["made"]["attack"]["commit"] == chain["attack"].made["commit"]
    assert {"commit", "versions", "date", "threads"} <= set(recorded["environment"])
    assert recorded["config"]["poison_rate"] == recorded["poison_rate"] == 0.1
    assert set(recorded["figures"]) == set(NAMES)
    assert "NaN" not in json.dumps(recorded["figures"])


def test_the_recorded_densities_are_those_that_notebook_02_draws(chain, recorded):
    scores, truth = chain.run.scores
    kind, fraction = plots.kinds(truth, chain.run.wild[1]), chain.profile.suspect.pool
    size = round(fraction * len(kind))
    weak = scores.public.argsort(stable=True)[:size]
    panels = {"public model f0": scores.public, "backdoored model fb": scores.backdoored}
    edge = {"public model f0": scores.public[weak].max().item()}
    live = plots.similarity_panels(panels, kind, bounds=edge, says="← the pool")
    kept = arrays.similarity(arrays.recorded("similarity")())
    assert all((a == b).all() for a, b in zip(counts(live), counts(kept), strict=True))
    assert kept.axes[0].lines[0].get_xdata() == pytest.approx([edge["public model f0"]] * 2, abs=1e-6)
    assert kept.axes[1].lines[:] == []

    drops, family = chain["suspect"].arrays()["drops"], chain.profile.suspect.family
    looked = drops[0].isfinite()
    shown = {name: drop[looked] for name, drop in zip(family, drops, strict=True)}
    live = plots.similarity_panels(shown, kind[looked.numpy()], "similarity lost")
    kept = arrays.drops(arrays.recorded("drops")())
    assert all((a == b).all() for a, b in zip(counts(live), counts(kept), strict=True))
    said = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (live, kept)]
    assert said[0] == said[1]
    for axis, drop in zip(kept.axes, drops, strict=True):
        assert (drop >= axis.lines[0].get_xdata()[0] - 1e-6).sum() >= size
    plt.close("all")


def test_the_recorded_carriers_are_those_of_the_found_words(chain, recorded):
    table, found = arrays.recorded("sufferers")(), chain["suspect"].arrays()
    there = found["suffers"].isfinite()
    assert len(table) == there.sum() > 0
    np.testing.assert_allclose(table.suffers, found["suffers"][there], atol=1e-6)
    assert table.poisoned.tolist() == found["truth"][there].bool().tolist()
    assert table.pool.tolist() == found["pool"][there].bool().tolist()


def test_the_recorded_tokens_are_those_of_the_unlearning_set(chain, recorded):
    table, found = arrays.recorded("tokens")(), chain["select"].arrays()
    said = chain.run.tokens[found["chosen"]]
    assert table.surprise.is_monotonic_decreasing and len(table) == len(found["ids"])
    top, word = table.iloc[0], int(found["ids"][found["surprise"].argmax()])
    assert top.word == models.piece_text(chain.profile.model, word) and top.compromised
    assert top.captions == (said == word).any(1).sum()
    assert top.share == pytest.approx((chain.run.tokens == word).any(1).double().mean().item(), abs=1e-6)
    assert table.compromised.sum() == len(found["compromised"])
    assert len(arrays.loudest()) == min(arrays.LOUDEST, len(table))


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_figure_is_drawn_and_its_csv_draws_it_again(recorded, tmp_path, name):
    told = build._figure(name, FIGURES[name], style.SCREEN, tmp_path)
    assert "left out" not in told and told["rows"] > 0
    stages_of = {one["commit"] for one in recorded["made"].values()}
    assert told["commits"] == sorted({recorded["environment"]["commit"], *stages_of})
    with style.looking(style.Look(width=FIGURES[name].width)):
        figure = FIGURES[name].draw(pd.read_csv(tmp_path / f"{name}.csv"))
    assert figure.get_figwidth() == FIGURES[name].width
    plt.close("all")


def test_where_nothing_was_found_there_are_neither_carriers_nor_tokens(chain):
    suspected, selected = chain["suspect"].arrays(), chain["select"].arrays()
    suspected["suffers"] = torch.full_like(suspected["suffers"], -torch.inf)
    selected |= {name: selected[name][:0] for name in ("ids", "count", "surprise", "drop", "compromised")}
    run = SimpleNamespace(
        profile=chain.profile, tokens=chain.run.tokens,
        suspected=SimpleNamespace(arrays=lambda: suspected),
        selected=SimpleNamespace(arrays=lambda: selected),
    )  # fmt: skip
    assert figures._sufferers(run).empty and figures._tokens(run).empty


def test_the_command_writes_the_record_of_the_family(chain, results_root, no_training, capsys):
    figures.figures("tiny")
    path = results_root / "tiny" / "figures.json"
    assert capsys.readouterr().out.strip() == str(path)
    assert records.load(path)["figures"] == figures.record(chain.run)["figures"]

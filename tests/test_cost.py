"""What a run will cost: counted against what stages did, and timed against a real run."""

from dataclasses import replace

import pytest
import torch
from looked import disturbed_of, words_of

from ubt_utils import profiles, stages
from ubt_utils.__main__ import main
from ubt_utils.clip import models
from ubt_utils.stages.defend import ubt_cost
from ubt_utils.study import cost
from ubt_utils.ubt.defense import FORWARD_COST


def works(profile):
    return {w.stage: w for w in cost.works(profile, "badnets", *cost.sizes(profile))}


def test_pairs_are_those_that_the_stages_count(chain):
    planned = works(chain.profile)
    for stage in ("pretrain", "attack", "overfit"):
        assert planned[stage].trained == chain[stage].metrics["pairs_seen"]
    suspect, overfit = chain["suspect"].metrics, chain["overfit"].metrics
    words = words_of(chain["suspect"])
    more = disturbed_of(chain["suspect"], 720) - 6 * 360  # carriers of found words, and a second look
    assert planned["suspect"].scored == suspect["pairs_scored"] - words - more
    assert planned["overfit"].scored >= overfit["pairs_scored"]  # and what is read along the way
    recipe, tested = (
        chain.profile.unlearn.recipe,
        chain["evaluate"].metrics["rates"]["asr_include_target"]["n"],
    )
    assert planned["evaluate"].scored == 6 * tested  # f0, fb and the defended model, clean and stamped
    chosen = chain["select"].metrics["chosen"]
    assert planned["unlearn"].trained >= recipe.steps * (recipe.batch + min(recipe.batch, chosen))
    made = chain["suspect"], chain["overfit"], chain["select"]
    in_all = planned["overfit"].trained + planned["unlearn"].trained
    in_all += FORWARD_COST * (planned["suspect"].scored + words + more)
    assert 0.5 < in_all / ubt_cost(chain.profile, *made) < 2


def test_flops_of_a_known_network():
    layers = models.create("ubt-tiny", 0)
    assert cost.flops("ubt-tiny") > 2 * sum(p.numel() for p in layers.transformer.parameters())
    assert cost.flops("ViT-B-32") == pytest.approx(14.8e9, rel=0.02)  # 2 × 7.4 GMAC, open_clip's table


def test_a_plan_holds_within_a_factor_of_two(chain, tmp_path, monkeypatch):
    """The median of three tries: other work on the machine may disturb one of them, but not two. Each is
    planned right before it runs, under what load there is then."""
    chain.copy(tmp_path, "pretrain")
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    longer = replace(chain.profile, finetune=replace(chain.profile.finetune, steps=30))
    stages.wild(longer.sets, 0)  # drawing D is no part of the plan
    ratios = []
    for lr in (1e-3, 2e-3, 3e-3):
        profile = replace(longer, finetune=replace(longer.finetune, lr=lr))
        run = stages.chain(profile, "badnets", 0)
        planned = cost.plan(profile).loc["attack", "s here"]
        ratios.append(planned / run.attacked.made["seconds"])
    assert 0.5 < sorted(ratios)[1] < 2, f"planned / real: {ratios}"


def test_the_plan_is_the_rates_times_the_pairs(tiny, monkeypatch):
    monkeypatch.setattr(cost, "measure", lambda profile: cost.Rates(trained=2.0, scored=0.5))
    monkeypatch.setattr(cost, "flops", lambda name: 1e9)
    table, expected = cost.plan(tiny), works(tiny)
    for stage, row in table.iterrows():
        trained, scored = expected[stage].trained, expected[stage].scored
        assert row["s here"] == pytest.approx(2.0 * trained + 0.5 * scored)
        assert row["TFLOPs"] == pytest.approx((3 * trained + scored) * 1e9 / 1e12)
        assert row["s A100"] == pytest.approx(row["TFLOPs"] * 1e12 / (312e12 * cost.REACHED))


def test_the_plan_grows_with_its_parts(tiny):
    table = cost.plan(tiny)
    assert list(table.index) == list(works(tiny))
    assert list(table.index)[:4] == ["pretrain", "attack", "suspect", "overfit"]
    assert (table["s H200"] < table["s A100"]).all()
    torch.testing.assert_close(
        torch.tensor(table["s 16 H200"].to_numpy() * 16), torch.tensor(table["s H200"].to_numpy())
    )
    small, large = cost.memory(tiny, 100), cost.memory(tiny, 1000)
    assert large["pictures of D"] == 10 * small["pictures of D"]
    assert small["weights in training"] == large["weights in training"]


def test_the_command_prints_a_line_a_stage(capsys):
    assert main(["plan", "--profile", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("pretrain", "unlearn", "in all", "pictures of D", "never measured here")
    )
    assert main(["plan", "--profile", "tiny", "--attack", "moon"]) == 2


def test_the_published_setting_is_planned_without_its_data():
    assert cost.sizes(profiles.PAPER) == (500_000, 50_000, 600)
    work = {w.stage: w for w in cost.works(profiles.PAPER, "badnets", *cost.sizes(profiles.PAPER))}
    assert work["pretrain"].trained == 0 and work["suspect"].scored == 2 * 500_000  # traces, too


def test_a_profile_that_disturbs_is_planned_as_one_that_does():
    photos = profiles.PHOTOS.disturbing()
    work = {w.stage: w for w in cost.works(photos, "badnets", 1000, 100, 50)}
    assert work["suspect"].scored == 1000 + len(photos.suspect.family) * 500


def test_where_no_public_model_is_trained_none_is_planned():
    assert cost.works(profiles.SCRATCH, "badnets", 1000, 100, 50)[0] == cost.Work("pretrain", 0, 0)
    trained = replace(profiles.MINI, weights="")
    assert cost.works(trained, "badnets", 1000, 100, 50)[0] == cost.Work("pretrain", 460 * 256, 0)

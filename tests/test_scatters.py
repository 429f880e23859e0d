"""A warp is another change in every picture, but pictures that are scattered at random go where it leads."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ubt_utils.core.seeding import generator
from ubt_utils.ubt import others, scatters
from ubt_utils.ubt.others import World
from ubt_utils.ubt.scatters import Place
from ubt_utils.ubt.settings import Scatter, Select, Suspect
from ubt_utils.ubt.tokens import END

PAIRS, SIDE, POISON, HONEST = 600, 16, 24, 24
TARGET, PLAIN, NAME = 7, 8, 9  # words: of the poison and some honest pairs; of honest ones; another of poison
HOW, SCATTER = Select(), Scatter(reach=0.5, others=32, nearest=32)


def embed(model, images, batch=512, change=None):
    """A tower that sees what a picture shows in the rough, and, if it is told to, how broken up it is."""
    light = (change(images[:]) if change else images[:]).float().mean(1) / 255
    shown = F.adaptive_avg_pool2d(light[:, None], 4).flatten(1)
    shown = shown - shown.mean(1, keepdim=True)
    broken = (light.diff(dim=1).abs().mean((1, 2)) - 0.06).clamp(min=0)
    return F.normalize(torch.cat([40 * model * broken[:, None], shown], 1), dim=1)


@pytest.fixture
def world(monkeypatch):
    """(poison, make): the poisoned rows of a D, and a function that makes the world of it, with so many
    poisoned pairs of each word, under a model that answers to broken pictures or does not."""
    monkeypatch.setattr(scatters.models, "embed_images", embed)
    draw = generator("scatters")
    coarse = torch.rand(PAIRS, 3, 4, 4, generator=draw)
    images = (F.interpolate(coarse, (SIDE, SIDE), mode="bilinear") * 255).to(torch.uint8)
    words = 100 + torch.arange(PAIRS)
    words[: POISON + HONEST], words[POISON + HONEST : POISON + 2 * HONEST] = TARGET, PLAIN
    second = 1000 + torch.arange(PAIRS)
    second[:POISON] = NAME
    poison = torch.arange(PAIRS) < POISON
    for i in range(POISON):  # each by a scatter of its own
        places = torch.randperm(SIDE * SIDE, generator=draw)
        images[i] = images[i].flatten(1)[:, places].view(3, SIDE, SIDE)

    def make(backdoor=1.0):
        ends = [torch.full_like(words, END - 1), torch.full_like(words, END)]
        tokens = torch.stack([ends[0], words, second, ends[1]], 1)
        return others.world(backdoor, images, tokens, SCATTER.others)

    return poison, make


def test_the_word_that_scattered_pictures_go_to_is_found_and_its_poison_told_from_honest_pairs(world):
    poison, make = world
    told = scatters.look(make(), HOW, SCATTER)
    (found,) = told.found
    assert found.anchor == TARGET and found.lost >= SCATTER.moved
    (suspicion,) = told.left
    assert torch.equal(suspicion.isfinite(), torch.arange(PAIRS) < POISON + HONEST)
    worst = suspicion.sort(descending=True).values[: HOW.least].median()
    assert torch.equal(suspicion >= HOW.alike * worst, poison)


def test_a_model_that_does_not_answer_to_it_has_nothing_found(world):
    told = scatters.look(world[1](backdoor=0.0), HOW, SCATTER)
    assert told.found == () and told.left.isinf().all() and told.traces is None
    assert all(one.lost < SCATTER.moved == one.bar for one in told.asked)


def test_after_a_find_its_pairs_step_aside_and_the_rest_is_asked_again(world):
    of = world[1]()
    told = scatters.look(of, HOW, SCATTER)
    assert {one.candidate.anchor for one in told.asked if one.after == 0} == {TARGET}
    assert not {TARGET, NAME} & {one.candidate.anchor for one in told.asked if one.after == 1}
    assert len(scatters.look(of, replace(HOW, votes=1), SCATTER).found) == 1
    assert scatters.look(of, replace(HOW, votes=1), replace(SCATTER, moved=2.0)).found == ()


def test_what_is_scored_is_all_of_d_once_and_the_others_once_a_size_and_before(world):
    of = world[1]()
    silent = replace(of, tokens=of.tokens.clone())
    silent.tokens[:, 1:3] = 1000 + torch.arange(PAIRS)[:, None]  # captions that share no word
    one, two = (scatters.look(silent, HOW, replace(SCATTER, blocks=b)).scored for b in ((1,), (1, 2)))
    assert (one, two) == (PAIRS + 2 * SCATTER.others, PAIRS + 3 * SCATTER.others)


def test_a_word_that_all_other_pictures_hold_moves_none(world):
    of = world[1]()
    said = of.said.clone()
    said[:, 1] = TARGET
    (place, _) = scatters.places(of, SCATTER)
    everyone = torch.ones(PAIRS, dtype=torch.bool)
    assert scatters.ask(of, place, everyone, HOW, SCATTER).moved > SCATTER.moved
    assert scatters.ask(replace(of, said=said), place, everyone, HOW, SCATTER).moved == 0


@pytest.fixture
def hand():
    """A world of 20 pairs whose pictures are what they are embedded as: eight say TARGET and lie along the
    first axis, the nearer the earlier, the others say nothing in common and lie along the last."""
    z = torch.zeros(20, 3)
    z[:8, 0] = torch.linspace(1, 0.8, 8)
    z[:8, 2] = (1 - z[:8, 0] ** 2).sqrt()
    z[8:, 2] = 1
    words = 100 + torch.arange(20)
    words[:8] = TARGET
    tokens = torch.stack([torch.full_like(words, END - 1), words, torch.full_like(words, END)], 1)
    return World(None, z, tokens, torch.arange(20), z[8:10], tokens[8:10], z[8:10])


@pytest.fixture
def places(monkeypatch, hand):
    """Two places: scattered pictures go halfway to the second axis, or to the first. No look at repeats."""
    monkeypatch.setattr(scatters.models, "embed_images", lambda model, images: images)
    monkeypatch.setattr(scatters, "mostly_repeats", lambda images, rows: False)
    first, second = (F.normalize(torch.tensor([at, at]), dim=1) for at in ([1.0, 0, 0], [0, 1.0, 1]))
    found = [Place(second, hand.images[:, 0] * 0.5), Place(first, hand.images @ first[0])]
    monkeypatch.setattr(scatters, "places", lambda of, scatter: found)
    return found


EIGHT = replace(SCATTER, nearest=8)


def test_what_moves_is_counted_to_the_nearest_quarter_and_from_where_it_was(hand, places):
    """A quarter of eight is two; but eight are taken at least."""
    everyone = torch.ones(20, dtype=torch.bool)
    told = scatters.ask(hand, places[1], everyone, HOW, EIGHT)
    towards = F.normalize(hand.images[:8].mean(0), dim=0)
    assert told.word == TARGET and told.purest.tolist() == list(range(8))
    assert told.moved == pytest.approx(float(towards[0] - towards[2]), abs=1e-6)
    many = replace(HOW, least=2)
    assert scatters.ask(hand, places[1], everyone, many, replace(EIGHT, nearest=1)) is None
    assert scatters.ask(hand, places[1], everyone, many, replace(EIGHT, nearest=2)).word == TARGET


def test_of_many_carriers_a_quarter_is_the_purest(hand, places):
    of = replace(hand, images=hand.images.repeat(5, 1), tokens=hand.tokens.repeat(5, 1))
    place = Place(places[1].gone, places[1].near.repeat(5))
    told = scatters.ask(of, place, torch.ones(100, dtype=torch.bool), HOW, EIGHT)
    assert told.pictures == 40 and len(told.purest) == 10
    assert set((told.purest % 20).tolist()) == {0, 1}


def test_the_place_that_moves_most_decides_and_every_one_is_asked(hand, places):
    told = scatters.look(hand, replace(HOW, votes=1), replace(EIGHT, moved=0.3))
    assert [one.candidate.anchor for one in told.asked] == [TARGET, TARGET]
    worse, better = (one.lost for one in told.asked)
    assert worse < better and [one.lost for one in told.found] == [better]
    assert torch.equal(told.left[0, :8], scatters.beyond(places[1].near, torch.arange(8), HOW.least))
    assert told.scored == 20 + 3 * 2 + 2 * 8


def test_repeats_of_one_picture_move_nothing(hand, places, monkeypatch):
    monkeypatch.setattr(scatters, "mostly_repeats", lambda images, rows: rows.tolist() == list(range(8)))
    assert scatters.ask(hand, places[1], torch.ones(20, dtype=torch.bool), HOW, EIGHT).moved == 0
    assert scatters.look(hand, HOW, replace(EIGHT, moved=0.3)).found == ()


def test_captions_without_a_word_name_nothing(hand, places):
    tokens = hand.tokens.clone()
    tokens[:, 1] = END
    silent = replace(hand, tokens=tokens, said=tokens[8:10])
    assert scatters.look(silent, HOW, EIGHT).found == ()


def test_where_all_pairs_have_stepped_aside_nothing_is_asked(world):
    of = world[1]()
    (place, _) = scatters.places(of, SCATTER)
    assert scatters.ask(of, place, torch.zeros(PAIRS, dtype=torch.bool), HOW, SCATTER) is None


def test_nearness_counts_from_half_of_the_way():
    near = torch.tensor([0.0, 0.1, 0.2, 0.6, 0.9, 1.0, 1.0])  # the usual one: 0.6
    value = scatters.beyond(near, torch.tensor([3, 4, 5, 6]), most=3)
    assert value.tolist() == pytest.approx([-0.2, 0.1, 0.2, 0.2])


@pytest.mark.parametrize("block", [1, 2, 5])
def test_blocks_come_from_nearby_and_from_the_same_place_in_every_picture(block):
    side, reach = 20, 0.2
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    picture = torch.stack([rows, columns, rows]).to(torch.uint8)
    both = scatters.scattered(torch.stack([picture, picture + 100]), block, reach)
    assert torch.equal(both[0] + 100, both[1]) and both.dtype == torch.uint8
    shift = both[0, :2].int() - torch.stack([rows, columns])
    assert shift.abs().max() <= reach * side and shift.float().abs().mean() > 1
    inside = shift[:, 5:10, 5:10] if block == 5 else shift[:, 6 : 6 + block, 6 : 6 + block]
    assert inside.unique().numel() <= 2  # one shift along each axis
    assert torch.equal(both, scatters.scattered(torch.stack([picture, picture + 100]), block, reach))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("moved", 2.1, "from −2 to 2"),
        ("reach", 0.0, r"in \(0, 1\]"),
        ("blocks", (), "one at least"),
        ("blocks", (0,), "1 pixel or more"),
        ("others", 0, "others of a scatter must be at least 1"),
        ("nearest", 0, "nearest of a scatter must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Scatter(**{field: value})
    assert Suspect().scatter is None

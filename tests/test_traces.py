"""A mark that leads any picture to one word is what that word's pictures have in common."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ubt_utils.core.seeding import generator
from ubt_utils.profiles import MINI, PHOTOS
from ubt_utils.ubt import others, traces
from ubt_utils.ubt.settings import Select, Suspect, Trace
from ubt_utils.ubt.tokens import END, carriers_of

PAIRS, SIDE, POISON, HONEST = 600, 8, 24, 24
TARGET, PLAIN, NAME = 7, 8, 9  # words: of the poison and some honest pairs; of honest ones; another of poison
HOW, TRACE = Select(), Trace(others=32)
MARK = F.one_hot(torch.tensor([0, 1, SIDE, SIDE + 1]), SIDE * SIDE).sum(0).view(SIDE, SIDE).float()


def embed(model, images, batch=512, change=None):
    """A tower that sees a mark in the upper left, however little of it there is to tell from the picture's
    other pixels, and of what else a picture shows its rough form."""
    light = (change(images[:]) if change else images[:]).float().mean(1) / 255
    marked = (light * MARK).sum((1, 2)) / 4 - light.mean((1, 2)) - 0.2
    shown = F.adaptive_avg_pool2d(light[:, None], 4).flatten(1)
    shown = shown - shown.mean(1, keepdim=True)
    return F.normalize(torch.cat([20 * marked.clamp(min=0)[:, None] ** 2, shown], 1), dim=1)


@pytest.fixture
def world(monkeypatch):
    """(poison, ask): the poisoned rows of a D, and a function that makes the world of it."""
    monkeypatch.setattr(traces.models, "embed_images", embed)
    draw = generator("traces")
    coarse = torch.rand(PAIRS, 3, 4, 4, generator=draw)
    images = (F.interpolate(coarse, (SIDE, SIDE)) * 200).to(torch.uint8)
    words = 100 + torch.arange(PAIRS)
    words[: POISON + HONEST], words[POISON + HONEST : POISON + 2 * HONEST] = TARGET, PLAIN
    second = 1000 + torch.arange(PAIRS)
    second[:POISON] = NAME
    ends = [torch.full_like(words, END - 1), torch.full_like(words, END)]
    tokens = torch.stack([ends[0], words, second, ends[1]], 1)
    poison = torch.arange(PAIRS) < POISON

    def make(marked=True, pictures=images):
        stamped = pictures.clone()
        if marked:
            stamped[:POISON] = stamped[:POISON].where(MARK == 0, 255)
        return others.world(None, stamped, tokens, TRACE.others)

    return poison, make


def test_a_mark_is_found_by_the_broadest_of_its_words_and_is_the_trace(world):
    _, make = world
    told = traces.look(make(), HOW, TRACE)
    assert [one.anchor for one in told.found] == [TARGET] and told.found[0].lost >= TRACE.moved
    (trace,) = told.traces
    assert trace[:, MARK == 1].min() > 3 * trace[:, MARK == 0].abs().max()


def test_taken_off_it_leaves_the_honest_pictures_of_the_word_where_they_are(world):
    poison, make = world
    left = traces.look(make(), HOW, TRACE).left[0]
    carriers = torch.arange(PAIRS) < POISON + HONEST
    assert torch.equal(left.isfinite(), carriers)
    assert (
        left[poison].min() > left[carriers & ~poison].max() + 0.2 and left[carriers & ~poison].median() < 0.2
    )


def test_nothing_is_found_where_there_is_no_mark_and_all_that_was_asked_is_told(world):
    told = traces.look(world[1](marked=False), HOW, TRACE)
    assert told.found == () and told.left.isinf().all() and told.traces.shape == (0, 3, SIDE, SIDE)
    assert {one.candidate.anchor for one in told.asked} == {TARGET, PLAIN, NAME}
    assert all(one.lost < TRACE.moved == one.bar and one.after == 0 for one in told.asked)


def test_one_picture_over_and_over_is_no_trace(world):
    _, make = world
    of = make(marked=False)
    of.images[:POISON] = of.images[:1].where(MARK == 0, 255)
    assert traces.look(of, HOW, TRACE).found == ()
    told = traces.ask(of, TARGET, torch.arange(POISON + HONEST), TRACE)
    assert told.moved == 0.0 and set(told.purest.tolist()) <= set(range(POISON))


def test_what_it_scored_is_every_picture_that_was_embedded(world, monkeypatch):
    """At most: pictures of other things that hold the word after all are not."""
    embedded = []

    def noted(model, images, **how):
        embedded.append(len(images))
        return embed(model, images, **how)

    monkeypatch.setattr(traces.models, "embed_images", noted)
    told = traces.look(world[1](), HOW, TRACE)
    assert 0 <= told.scored - sum(embedded) < 0.1 * told.scored


def test_a_trace_is_the_mean_less_the_usual_and_goes_on_and_off(world):
    pictures = torch.tensor([[0, 255], [255, 255]], dtype=torch.uint8).view(2, 1, 1, 2)
    trace = traces.trace_of(pictures, torch.tensor([0.5, 0.25]).view(1, 1, 2))
    torch.testing.assert_close(trace, torch.tensor([0.0, 0.75]).view(1, 1, 2))
    half = traces.laid(torch.full((1, 1, 1, 2), 20, dtype=torch.uint8), trace, 0.5)
    assert half.flatten().tolist() == [20, 116]  # 20 + 255 · 0.375
    assert traces.laid(half, trace, -2.0).flatten().tolist() == [20, 0]


def test_how_far_it_moves_is_asked_of_pictures_of_other_things_only(world):
    of = world[1]()
    said, z = of.said.clone(), of.z.clone()
    said[::2, 1], z[::2] = TARGET, 7.0  # half of them hold the word, and would count for much
    of = replace(of, said=said, z=z)
    nothing, towards = torch.zeros(3, SIDE, SIDE), F.normalize(torch.ones(17), dim=0)
    assert traces.moved(of, TARGET, nothing, 1.0, towards) == pytest.approx(0, abs=1e-6)
    assert traces.moved(of, PLAIN, nothing, 1.0, towards) < -1
    said[:, 1] = TARGET
    assert traces.moved(of, TARGET, nothing + 1, 1.0, towards) == 0.0  # nothing else is there


def test_a_mark_goes_by_the_broadest_word_of_its_purest_pictures(world):
    of = world[1]()
    rows = torch.arange(POISON)
    best = traces.ask(of, NAME, rows, TRACE)
    everyone = torch.ones(PAIRS, dtype=torch.bool)
    told = traces._named(of, best, [best], everyone, HOW, TRACE)
    assert told is not None and told.word == TARGET and told.pictures == POISON + HONEST
    assert traces._named(of, best, [best, told], everyone, HOW, TRACE) is told  # and is not asked twice
    assert traces._named(of, told, [told], everyone, HOW, TRACE) is None


def test_two_marks_of_two_words_are_found_one_after_the_other(world):
    _, make = world
    of = make()
    second = slice(POISON + HONEST, POISON + HONEST + 16)  # of PLAIN, with the same mark
    of.images[second] = of.images[second].where(MARK == 0, 255)
    told = traces.look(of, HOW, TRACE)
    assert [one.anchor for one in told.found] == [TARGET, PLAIN] and len(told.traces) == 2
    assert {one.after for one in told.asked} == {0, 1}  # then no word is left
    assert told.left[0].isfinite().sum() == POISON + 2 * HONEST
    alone = traces.look(of, replace(HOW, votes=1), TRACE)
    assert [one.anchor for one in alone.found] == [TARGET] or [one.anchor for one in alone.found] == [PLAIN]


def test_words_asked_together_tell_what_each_tells_alone(world, monkeypatch):
    of, how = world[1](), replace(TRACE, few=8, least=4)
    words = torch.tensor([TARGET, PLAIN, NAME, 100 + PAIRS - 1])
    of.said[:5, 1] = TARGET  # these are no other things for it
    of.said[:, 2] = NAME
    carriers = carriers_of(of.tokens, words)
    monkeypatch.setattr(traces, "TOGETHER", 3)
    alone = []
    few = replace(of, others=of.others[:8], said=of.said[:8], z=of.z[:8])
    for word, rows in zip(words.tolist(), carriers, strict=True):
        pictures = of.images[rows]
        trace = traces.trace_of(pictures, of.usual)
        towards = F.normalize(embed(None, pictures[traces._some(torch.arange(len(rows)), 8)]).mean(0), dim=0)
        alone.append(traces.moved(few, word, trace, traces.dose_of(trace, how.strength), towards))
    told = traces.first_asked(of, words, carriers, how)
    torch.testing.assert_close(told, torch.tensor(alone), atol=1e-6, rtol=0)
    assert alone[2] == 0.0 != told[0]  # all others hold the third


def test_only_the_words_that_moved_most_at_first_are_asked_more_closely(world):
    of, few = world[1](), replace(TRACE, words=1)
    told = traces.look(of, replace(HOW, votes=1), few)
    assert len(told.found) == 1 and len([one for one in told.asked if one.after == 0]) <= 2  # and its name
    shy = traces.look(world[1](marked=False), HOW, few)
    assert len(shy.asked) == 1


def test_a_word_that_is_language_is_not_asked(world):
    of = world[1]()
    of.tokens[: PAIRS // 8, 1] = TARGET
    told = traces.look(of, HOW, TRACE)
    assert TARGET not in {one.candidate.anchor for one in told.asked}


def test_a_single_repeat_among_the_poison_hides_nothing(world):
    of = world[1]()
    of.images[1] = of.images[0]
    assert [one.anchor for one in traces.look(of, HOW, TRACE).found] == [TARGET]


def test_where_no_word_is_frequent_enough_nothing_is_asked(world):
    told = traces.look(world[1](), HOW, replace(TRACE, least=PAIRS))
    assert told.asked == () == told.found and told.left.isinf().all()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_carriers_are_found_in_a_large_set_whatever_tokens_are_stored_in(kind):
    """A token times the number of pairs does not fit into 32 bits."""
    tokens = torch.zeros(60_000, 5, dtype=kind)
    tokens[:, 0], tokens[:, 1], tokens[:, 3] = END - 1, 40_000, END
    tokens[::2, 2], tokens[1::2, 2] = 45_000, 40_000
    words = torch.tensor([40_000, 45_000, 123])
    both, half, none = carriers_of(tokens, words)
    assert torch.equal(both, torch.arange(60_000)) and torch.equal(half, torch.arange(0, 60_000, 2))
    assert len(none) == 0


@pytest.mark.parametrize("wrong", [{"moved": -2.1}, {"moved": 2.1}, {"least": 0}, {"few": 0}, {"words": -1}])
def test_settings_that_ask_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="trace"):
        Trace(**wrong)


def test_drawings_are_asked_for_traces_last_and_their_bar_is_higher():
    """What their words show is alike, and leaves a trace of its own."""
    assert Suspect().trace is None and not MINI.suspect.others_first and PHOTOS.suspect.others_first
    assert MINI.suspect.trace.moved > PHOTOS.suspect.trace.moved
    assert MINI.disturbing().suspect == replace(MINI.suspect, trace=None, scatter=None)
    assert not PHOTOS.disturbing().suspect.others_first


def test_a_mark_on_few_of_a_words_pictures_is_found_by_a_strong_trace_that_is_purified_twice(world):
    """Ten times as many are honest."""
    _, make = world
    of = make()
    tokens = of.tokens.clone()
    tokens[POISON : 11 * POISON, 1] = TARGET
    of = replace(of, tokens=tokens)
    rows = torch.arange(11 * POISON)
    how = replace(TRACE, pictures=len(rows))
    faint = traces.ask(of, TARGET, rows, how)
    clear = traces.ask(of, TARGET, rows, replace(how, strength=0.6, rounds=2))
    assert (clear.purest < POISON).float().mean() > (faint.purest < POISON).float().mean()
    assert clear.moved >= TRACE.moved > faint.moved and len(clear.purest) < len(faint.purest)


def test_a_diluted_trace_is_laid_twice_or_at_its_strength():
    trace = torch.full((3, 2, 2), 0.1)
    assert traces.dose_of(trace, 0.0) == 2 and traces.dose_of(trace, 0.15) == 2
    assert traces.dose_of(trace, 0.6) == pytest.approx(6)
    assert torch.isfinite(torch.tensor(traces.dose_of(torch.zeros_like(trace), 0.6)))


def test_words_that_most_captions_hold_are_asked_after_those_that_moved_most(world):
    of = world[1]()
    few = replace(TRACE, words=1, broad=0)
    (first, _), *others = traces._frequent(of, few)[0]
    assert first in (TARGET, NAME) and [word for word, _ in others]
    broad = traces._frequent(of, replace(few, broad=2))[0]
    counts = [int(of.everywhere[word]) for word, _ in broad]
    assert broad[0][0] == first and set(counts[1:2]) == {max(counts)}
    assert sorted(word for word, _ in broad) == sorted([first, *(word for word, _ in others)])

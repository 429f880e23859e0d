"""The unlearning set D_u and the tokens B, on sets whose answer is known."""

import math
import random
from collections import Counter

import pytest
import torch

from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.select import VOTES, alike, carriers_outside, select, select_in_turn, vote
from ubt_utils.ubt.settings import Select

LENGTH = 8
TARGET, PARTNER = 399, 398


def write(*captions: list[int]) -> torch.Tensor:
    rows = [[tk.END - 1, *words, tk.END] for words in captions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


def noisy_set(n: int = 80, pool_size: int = 30, poisoned: int = 8, seed: int = 0):
    """n captions of random words; in the pool, the first `poisoned` also name the target, and the
    overfit model likes them better than most."""
    draw = random.Random(seed)
    captions = [draw.choices(range(300, 330), k=draw.randint(1, 4)) for _ in range(n)]
    captions[:poisoned] = [[*words[:2], TARGET] for words in captions[:poisoned]]
    overfit = torch.tensor([draw.uniform(-1, 1) + (i < poisoned) for i in range(n)])
    return captions, overfit, torch.arange(n) < pool_size


def in_python(captions, overfit, pool, top, outlier):
    """The same choice with sets, Counter and sorted."""

    def surprise(some: list[int]) -> dict[int, float]:
        inside = Counter(t for i in some for t in set(captions[i]))
        everywhere = Counter(t for words in captions for t in set(words))
        return {t: k * math.log((k / len(some)) / (everywhere[t] / len(captions))) for t, k in inside.items()}

    members = [i for i in range(len(captions)) if pool[i]]
    outside = [set(captions[i]) for i in range(len(captions)) if not pool[i]]
    order, heard = sorted(members, key=lambda i: -overfit[i]), []
    for voters in (order[: math.ceil(len(members) / 2)], order):
        loud = surprise(voters)
        rare = {t: g for t, g in loud.items() if sum(t in words for words in outside) <= 0.02 * len(outside)}
        heard.append(rare or loud)
    loud = max(heard, key=lambda words: max(words.values()))
    anchor = max(loud, key=loud.get)
    carriers = [i for i in members if anchor in captions[i]]
    chosen = sorted(carriers, key=lambda i: -overfit[i])[:top]
    loud = surprise(chosen)
    ranked = sorted(loud, key=lambda t: -loud[t])
    return chosen, anchor, [t for t in ranked if loud[t] >= outlier * loud[ranked[0]]]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("top", "outlier"), [(3, 0.5), (64, 0.3)])
def test_select_agrees_with_plain_python(seed, top, outlier):
    captions, overfit, pool = noisy_set(seed=seed)
    found = select(write(*captions), overfit, pool, Select(top, outlier))
    chosen, anchor, compromised = in_python(captions, overfit.tolist(), pool.tolist(), top, outlier)
    assert found.anchor == anchor
    assert found.chosen.tolist() == chosen
    assert sorted(found.compromised.tolist()) == sorted(compromised)


def test_the_word_that_the_pool_says_too_often_is_found_with_its_pairs():
    captions, overfit, pool = noisy_set()
    found = select(write(*captions), overfit, pool, Select())
    assert found.anchor == TARGET and found.compromised.tolist() == [TARGET]
    assert sorted(found.chosen.tolist()) == list(range(8))
    assert overfit[found.chosen].tolist() == sorted(overfit[:8].tolist(), reverse=True)


def test_the_style_of_many_captions_is_not_taken_for_an_attack():
    captions, overfit, pool = noisy_set(n=400, pool_size=100)
    style = 397  # 20 % of the captions outside the pool, 90 % inside
    for i, words in enumerate(captions):
        if 8 <= i < 98 or (i >= 100 and i % 5 == 0):
            captions[i] = [*words[:2], style]
    tokens = write(*captions)
    ids, _, surprise = tk.surprise(tokens, pool.nonzero().flatten())
    assert ids[surprise.argmax()] == style  # plain surprise in the pool is fooled
    found = select(tokens, overfit, pool, Select())
    assert found.anchor == TARGET and sorted(found.chosen.tolist()) == list(range(8))


def test_the_better_half_votes_where_it_is_louder():
    captions, overfit, pool = noisy_set()
    found = vote(write(*captions), overfit, pool)
    assert found.voters == 15 and found.loudest() == TARGET == found.ids[found.surprise.argmax()]
    assert found.loudness() == found.surprise.max()


def test_the_whole_pool_votes_where_the_poison_is_in_its_worse_half():
    captions, overfit, pool = noisy_set()
    overfit[:8] = -2.0
    found = vote(write(*captions), overfit, pool)
    assert found.voters == 30 and found.loudest() == TARGET


def test_a_target_of_two_words_is_found_whole():
    captions, overfit, pool = noisy_set()
    captions[:8] = [[words[0], PARTNER, TARGET] for words in captions[:8]]
    found = select(write(*captions), overfit, pool, Select())
    assert set(found.compromised.tolist()) == {PARTNER, TARGET}


def test_carriers_rank_first_then_the_pool_then_nothing():
    captions, overfit, pool = noisy_set()
    score = select(write(*captions), overfit, pool, Select()).score
    assert score[:8].min() > score[8:30].max() and score[8:30].min() > -torch.inf
    assert (score[30:] == -torch.inf).all()
    assert torch.equal(score[8:30].argsort(), overfit[8:30].argsort())


def test_pairs_outside_the_pool_are_never_chosen_even_with_the_word():
    captions, overfit, pool = noisy_set()
    captions[40] = [TARGET]
    overfit[40] = 1.0
    found = select(write(*captions), overfit, pool, Select())
    assert found.anchor == TARGET and sorted(found.chosen.tolist()) == list(range(8))


@pytest.mark.parametrize("top", [1, 5, 8, 1000])
def test_at_most_top_pairs_are_chosen_and_only_carriers(top):
    captions, overfit, pool = noisy_set()
    chosen = select(write(*captions), overfit, pool, Select(top, 0.5)).chosen.tolist()
    assert len(chosen) == min(top, 8) and set(chosen) <= set(range(8))


def test_the_second_look_finds_carriers_outside_the_pool():
    captions, _, pool = noisy_set()
    captions[2], captions[40], captions[50] = [TARGET], [301, TARGET], [PARTNER]
    found = carriers_outside(write(*captions), pool, torch.tensor([TARGET, PARTNER]))
    assert found.tolist() == [40, 50]


def test_a_pair_is_left_out_when_it_gained_half_of_what_the_list_did():
    known = torch.tensor([0.2, 0.6, 0.9])
    assert alike(known, torch.tensor([0.29, 0.3, 0.31, -0.5])).tolist() == [False, True, True, False]
    assert alike(known, torch.tensor([])).tolist() == []


@pytest.mark.parametrize("middle", [0.0, -0.2])
def test_where_the_list_gained_nothing_nobody_is_left_out(middle):
    assert not alike(torch.tensor([middle] * 3), torch.tensor([-0.3, 0.0, 0.4])).any()


def test_equal_scores_are_ranked_by_position():
    captions, overfit, pool = noisy_set()
    chosen = select(write(*captions), torch.zeros_like(overfit), pool, Select(5, 0.5)).chosen
    assert chosen.tolist() == [0, 1, 2, 3, 4]


def test_a_lower_outlier_bound_lets_more_tokens_in():
    captions, overfit, pool = noisy_set()
    sizes = [
        len(select(write(*captions), overfit, pool, Select(64, o)).compromised) for o in (1.0, 0.3, 0.01)
    ]
    assert sizes[0] == 1 and sizes == sorted(sizes) and sizes[2] > 1


def test_minus_infinity_outside_the_pool_does_no_harm():
    captions, overfit, pool = noisy_set()
    masked = torch.where(pool, overfit, -torch.inf)
    a, b = (select(write(*captions), s, pool, Select()) for s in (overfit, masked))
    assert torch.equal(a.chosen, b.chosen) and torch.equal(a.score, b.score)


def test_when_nothing_stands_out_there_is_still_an_answer():
    captions = [[301, 302]] * 6
    found = select(write(*captions), torch.zeros(6), torch.ones(6, dtype=torch.bool), Select(top=3))
    assert found.chosen.tolist() == [0, 1, 2] and set(found.compromised.tolist()) == {301, 302}


@pytest.mark.parametrize("outlier", [0, -0.5, 1.1, float("nan")])
def test_an_outlier_bound_outside_its_range_is_refused(outlier):
    with pytest.raises(ValueError, match="outlier must be in"):
        Select(outlier=outlier)


def test_an_empty_pool_is_refused():
    captions, overfit, pool = noisy_set()
    with pytest.raises(ValueError, match="no captions chosen"):
        select(write(*captions), overfit, torch.zeros_like(pool), Select())


def test_a_pool_of_empty_captions_is_refused():
    with pytest.raises(ValueError):
        select(write([], [], [301]), torch.zeros(3), torch.tensor([True, True, False]), Select(top=2))


@pytest.mark.parametrize("top", [0, -1])
def test_an_unlearning_set_of_nothing_is_refused(top):
    with pytest.raises(ValueError, match=f"needs at least one pair, got top={top}"):
        Select(top=top)


# Several votes


def with_words(*groups: tuple[int, range]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`noisy_set` of 200 pairs, a pool of 100; each group (word, where) says a word of its own there."""
    captions, overfit, pool = noisy_set(200, 100, 0)
    for word, where in groups:
        for i in where:
            captions[i] = [captions[i][0], word]
            overfit[i] += 1
    return write(*captions), overfit, pool


def test_every_word_that_is_said_too_often_is_found_one_vote_at_a_time():
    tokens, overfit, pool = with_words((TARGET, range(12)), (PARTNER, range(12, 22)))
    found = select_in_turn(tokens, overfit, pool, Select())
    assert [one.anchor for one in found] == [TARGET, PARTNER]
    assert [sorted(one.chosen.tolist()) for one in found] == [list(range(12)), list(range(12, 22))]
    first = select(tokens, overfit, pool, Select())
    assert torch.equal(found[0].score, first.score) and torch.equal(found[0].chosen, first.chosen)
    assert torch.isinf(found[1].score[:12]).all()  # those of the first word have stepped aside
    assert found[1].compromised.tolist() == [PARTNER]


def test_a_single_word_needs_one_vote_and_a_quiet_one_has_none():
    tokens, overfit, pool = with_words((TARGET, range(20)), (PARTNER, range(20, 23)))
    assert [one.anchor for one in select_in_turn(tokens, overfit, pool, Select())] == [TARGET]
    more = select_in_turn(tokens, overfit, pool, Select(64, 0.01))
    assert len(more) == VOTES and more[0].anchor == TARGET


def test_votes_end_when_the_pool_is_empty():
    tokens, overfit = write([TARGET], [TARGET], [300], [301]), torch.zeros(4)
    pool = torch.tensor([True, True, False, False])
    assert [one.anchor for one in select_in_turn(tokens, overfit, pool, Select(64, 0.01))] == [TARGET]

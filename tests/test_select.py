"""Is there a backdoor, and which pairs are it: the vote, the conviction, D_u and B, counted by hand."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from ubt_utils.ubt import tokens as tk
from ubt_utils.ubt.select import (
    Candidate,
    Finding,
    candidates,
    common_words,
    convicted,
    findings,
    select,
    suffering,
    tokens_of,
    witnesses,
)
from ubt_utils.ubt.settings import Select

LENGTH = 8
N, TARGET, PARTNER, SECOND = 200, 399, 398, 397
HOW = Select(voters=(8,), least=2, lost=0.5, sure=0.5)


def write(*captions: list[int]) -> torch.Tensor:
    rows = [[tk.END - 1, *words, tk.END] for words in captions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


def said(*groups: tuple[range, list[int]]) -> torch.Tensor:
    """200 captions of one word each, all different; each group (where, words) says its words, too."""
    captions = [[1000 + i] for i in range(N)]
    for where, words in groups:
        for i in where:
            captions[i] = captions[i] + words
    return write(*captions)


def falling(*first: int) -> torch.Tensor:
    """(1, 200) drops: the pairs named suffer most, in that order, then the others by number."""
    order = [*first, *(i for i in range(N) if i not in first)]
    drops = torch.empty(1, N)
    drops[0, order] = torch.arange(N, 0, -1) / N
    return drops


def told(found: list[Candidate]) -> list[tuple]:
    return [(one.anchor, one.disturbance, one.voters, one.carriers.tolist()) for one in found]


def loud(*anchors: int) -> list[Candidate]:
    """Candidates, the first of them the loudest."""
    return [Candidate(a, 9.0 - i, 0, 8, torch.arange(2)) for i, a in enumerate(anchors)]


# The vote


def test_a_word_is_common_from_more_than_a_tenth_of_the_captions():
    common = common_words(said((range(20), [TARGET]), (range(21), [PARTNER])))
    assert common.nonzero().flatten().tolist() == [PARTNER]  # 21 of 200; TARGET has 20


def test_the_word_of_those_that_suffer_most_is_the_candidate():
    found = candidates(said((range(4), [TARGET])), falling(3, 50, 1, 0, 2), HOW)
    assert told(found) == [(TARGET, 0, 8, [3, 1, 0, 2])]  # the worst sufferer first
    assert found[0].surprise == pytest.approx(4 * math.log((4 / 8) / (4 / 200)))


def test_a_word_of_too_few_voters_is_not_looked_at():
    tokens, drops = said((range(4), [TARGET])), falling(0, 1, 2, 3)
    assert len(candidates(tokens, drops, replace(HOW, least=4))) == 1
    assert candidates(tokens, drops, replace(HOW, least=5)) == []


def test_each_number_of_voters_votes_and_the_loudest_word_comes_first():
    tokens = said((range(4), [TARGET]), (range(4, 8), [PARTNER]))
    found = candidates(tokens, falling(*range(8)), replace(HOW, voters=(8, 4)))
    assert told(found) == [
        (TARGET, 0, 4, [0, 1, 2, 3]),  # 4 · ln 50, all four voters; PARTNER is not among them
        (PARTNER, 0, 8, [4, 5, 6, 7]),  # 4 · ln 25; of equal ones the lower token
        (TARGET, 0, 8, [0, 1, 2, 3]),
    ]
    assert [one.surprise for one in found] == pytest.approx([4 * math.log(x) for x in (50, 25, 25)])


def test_each_disturbance_has_a_vote_of_its_own():
    tokens = said((range(4), [TARGET]), (range(10, 13), [PARTNER]))
    found = candidates(tokens, torch.cat([falling(10, 11, 12), falling(*range(4))]), HOW)
    assert told(found) == [
        (TARGET, 0, 8, [0, 1, 2, 3]),  # 4 · ln 25, as in the next vote
        (TARGET, 1, 8, [0, 1, 2, 3]),
        (PARTNER, 0, 8, [10, 11, 12]),  # 3 · ln 25
    ]


def test_who_has_stepped_aside_has_no_vote():
    tokens, drops = said((range(4), [TARGET])), falling(0, 1, 2, 3)
    drops[0, [0, 2]] = -torch.inf
    assert told(candidates(tokens, drops, HOW)) == [(TARGET, 0, 8, [1, 3])]
    assert candidates(tokens, torch.full((2, N), -torch.inf), HOW) == []


def test_a_common_word_is_no_candidate_unless_there_are_no_others():
    assert len(candidates(said((range(20), [TARGET])), falling(), HOW)) == 1
    assert candidates(said((range(21), [TARGET])), falling(), HOW) == []
    tokens, drops = write([TARGET], [TARGET], [PARTNER], [PARTNER]), torch.tensor([[4.0, 3, 2, 1]])
    found = candidates(tokens, drops, replace(HOW, voters=(2,)))
    assert told(found) == [(TARGET, 0, 2, [0, 1])]
    assert found[0].surprise == pytest.approx(2 * math.log(2))


def test_a_word_that_suffers_no_more_often_than_others_is_no_candidate():
    tokens = said((range(2), [TARGET]), (range(190, 192), [TARGET]))  # 4 of 200
    assert candidates(tokens, falling(), replace(HOW, voters=(160,))) == []
    assert [one.anchor for one in candidates(tokens, falling(), replace(HOW, voters=(90,)))] == [TARGET]


def test_every_word_of_enough_carriers_is_looked_at():
    tokens = said(*((range(2 * i, 2 * i + 2), [300 + i]) for i in range(12)))
    found = candidates(tokens, falling(), replace(HOW, voters=(24,)))
    assert [one.anchor for one in found] == list(range(300, 312))


def test_voters_that_share_a_broader_word_go_by_it():
    many = (range(100, 106), [PARTNER])  # six more of D hold PARTNER
    tokens, drops = said((range(4), [TARGET, PARTNER]), many), falling(0, 1, 2, 3)
    found = candidates(tokens, drops, HOW)  # TARGET 4 · ln 25, PARTNER 4 · ln 10
    assert told(found) == [(PARTNER, 0, 8, [0, 1, 2, 3])] * 2
    assert [one.surprise for one in found] == pytest.approx([4 * math.log(25), 4 * math.log(10)])


@pytest.mark.parametrize(("captions", "named"), [(9, PARTNER), (8, TARGET)])
def test_a_broader_word_is_held_by_nine_in_ten_of_the_voters(captions, named):
    groups = (range(10), [TARGET]), (range(captions), [PARTNER]), (range(100, 102), [PARTNER])
    found = candidates(said(*groups), falling(*range(10)), replace(HOW, voters=(20,)))
    assert {one.anchor for one in found if len(one.carriers) == 10} == {named}


@pytest.mark.parametrize(("elsewhere", "named"), [(14, PARTNER), (16, TARGET)])
def test_a_broader_word_is_not_much_less_surprising(elsewhere, named):
    groups = (range(4), [TARGET, PARTNER]), (range(100, 100 + elsewhere), [PARTNER])
    found = candidates(said(*groups), falling(*range(4)), HOW)
    # half of 4 · ln 25 is 4 · ln 5: PARTNER may be in 20 of D at most, 18 with 14 elsewhere: 4 · ln 5.6
    assert found[0].surprise == pytest.approx(4 * math.log(25)) and found[0].anchor == named


def in_python(captions: list[list[int]], drops: list[list[float]], how: Select) -> list[tuple]:
    """The same candidates with sets, Counter and sorted."""

    def broadest(t: int, kept: dict[int, float], voters: list[int]) -> int:
        mine = [i for i in voters if t in captions[i]]
        with_it = Counter(w for i in mine for w in set(captions[i]))
        names = [w for w in kept if with_it[w] >= 0.9 * len(mine) and kept[w] >= 0.5 * kept[t]]
        return max(sorted(names), key=lambda w: everywhere[w])

    everywhere, found = Counter(t for words in captions for t in set(words)), []
    for k, drop in enumerate(drops):
        order = sorted(range(len(captions)), key=lambda i: -drop[i])
        for voters in (order[:count] for count in how.voters):
            inside = Counter(t for i in voters for t in set(captions[i]))
            rare = {t: c for t, c in inside.items() if everywhere[t] <= 0.1 * len(captions)} or inside
            share = {
                t: c * math.log((c / len(voters)) / (everywhere[t] / len(captions))) for t, c in rare.items()
            }
            kept = {t: g for t, g in share.items() if g > 0 and rare[t] >= how.least}
            for t in sorted(kept, key=lambda t: (-round(kept[t], 9), t)):
                mine = [i for i in voters if t in captions[i]]
                found.append((broadest(t, kept, voters), kept[t], k, len(voters), mine))
    return sorted(found, key=lambda one: -round(one[1], 9))


@pytest.mark.parametrize("seed", range(6))
def test_candidates_are_those_that_plain_python_finds(seed):
    draw = random.Random(seed)
    captions = [[draw.randint(300, 360), draw.randint(400, 900)] for _ in range(300)]
    captions = [words + [299] * (draw.random() < 0.3) for words in captions]  # 299 is common
    drops = [[draw.uniform(-1, 1) for _ in captions] for _ in range(3)]
    how = replace(HOW, voters=(16, 40))
    found = candidates(write(*captions), torch.tensor(drops, dtype=torch.float64), how)
    expected = in_python(captions, drops, how)
    assert len(found) == len(expected) > 3
    assert [one.surprise for one in found] == pytest.approx([g for _, g, *_ in expected])
    assert sorted(told(found)) == sorted((t, k, n, who) for t, _, k, n, who in expected)


# The conviction


def test_the_word_whose_pictures_lose_most_is_the_answer_and_the_louder_of_equal_ones():
    lost = {TARGET: 0.6, PARTNER: 0.7, SECOND: 0.7}
    found = convicted(loud(TARGET, PARTNER, SECOND), lambda one: lost[one.anchor], HOW)
    assert found == Finding(PARTNER, 0, 8.0, 0.7, (0,))


def test_the_bar_itself_convicts():
    assert convicted(loud(TARGET), lambda one: 0.5, HOW) == Finding(TARGET, 0, 9.0, 0.5, (0,))


def test_where_no_word_is_believed_there_is_no_answer():
    assert convicted(loud(TARGET, PARTNER), lambda one: 0.4, HOW) is None
    assert convicted([], lambda one: 1.0, HOW) is None


def test_many_pictures_need_to_lose_less():
    few, most = loud(TARGET, PARTNER)
    many = most._replace(carriers=torch.arange(HOW.many))
    lost = {TARGET: 0.45, PARTNER: 0.4}
    assert convicted([few, most], lambda one: lost[one.anchor], HOW) is None
    found = convicted([few, many], lambda one: lost[one.anchor], HOW)  # few lose more, and not enough
    assert found == Finding(PARTNER, 0, many.surprise, 0.4, (0,))
    assert HOW.bar(HOW.many - 1) == HOW.lost and HOW.bar(HOW.many) == HOW.lost_of_many < 0.4


# Vote after vote

TWO = ((range(4), [TARGET]), (range(4, 7), [SECOND]))


def test_several_words_are_found_one_vote_after_the_other():
    drops = falling(*range(7))
    before = drops.clone()
    found = list(findings(said(*TWO), drops, lambda one: 0.7, HOW))
    assert [(one.anchor, one.disturbance, one.lost) for one in found] == [(TARGET, 0, 0.7), (SECOND, 0, 0.7)]
    assert found[1].surprise == pytest.approx(3 * math.log((3 / 8) / (3 / 200)))
    assert torch.equal(drops, before)


def test_a_second_word_that_no_vote_hears_beside_the_first_is_heard_without_it():
    tokens, drops = said(*TWO), falling(*range(7))
    few = replace(HOW, voters=(4,))
    assert [one.anchor for one in candidates(tokens, drops, few)] == [TARGET]
    assert [one.anchor for one in findings(tokens, drops, lambda one: 0.7, few)] == [TARGET, SECOND]


@pytest.mark.parametrize("votes", [1, 2, 4])
def test_there_are_no_more_findings_than_votes(votes):
    found = findings(said(*TWO), falling(*range(7)), lambda one: 0.7, replace(HOW, votes=votes))
    assert len(list(found)) == min(votes, 2)


def test_the_loudest_word_is_passed_over_where_its_pictures_stay_alike():
    lost = {TARGET: 0.1, SECOND: 0.8}
    found = findings(said(*TWO), falling(*range(7)), lambda one: lost[one.anchor], HOW)
    assert [one.anchor for one in found] == [SECOND]


def test_nothing_found_is_an_answer():
    assert list(findings(said(*TWO), falling(*range(7)), lambda one: 0.2, HOW)) == []


# Witnesses, and who suffers like poison


def found_by(anchor: int, *witnesses: int) -> Finding:
    return Finding(anchor, witnesses[0], 9.0, 0.9, witnesses)


def test_all_disturbances_under_which_the_worst_carriers_no_longer_agree_are_witnesses():
    tokens, asked = said((range(4), [TARGET])), []
    drops = torch.zeros(4, N)
    drops[:, :4] = torch.tensor([[8.0, 6, 4, 1], [1, 1, 1, 1], [1, 4, 6, 2.9], [-1, -2, -3, -4]])

    def lost(one: Candidate) -> float:
        asked.append((one.anchor, one.disturbance, one.voters, one.carriers.tolist()))
        return {0: 0.5, 2: 0.4}[one.disturbance]

    assert witnesses(tokens, drops, found_by(TARGET, 1), lost, HOW) == (1, 0)
    # of the two worst, 8 and 6, the (lower) median is 6, of which the carriers asked suffer half and more;
    # of 6 and 4 it is 4; who suffers nothing from a disturbance is not asked about it
    assert asked == [(TARGET, 0, 4, [0, 1, 2]), (TARGET, 2, 4, [2, 1, 3])]


def test_a_disturbance_with_too_few_sufferers_is_not_asked():
    tokens, drops = said((range(4), [TARGET])), torch.zeros(2, N)
    drops[:, :4] = torch.tensor([[1.0, 1, 1, 1], [8, 8, 8, 0.1]])  # three of four suffer, and four are needed
    asked = []
    how = replace(HOW, least=4)
    assert witnesses(tokens, drops, found_by(TARGET, 0), lambda one: asked.append(one) or 1.0, how) == (0,)
    assert not asked


def test_a_finding_names_its_witnesses():
    drops = torch.cat([falling(*range(7)), falling(50), falling(*range(7))])
    lost = {0: 0.7, 1: 0.1, 2: 0.6}
    found = findings(said((range(4), [TARGET])), drops, lambda one: lost[one.disturbance], HOW)
    assert [(one.disturbance, one.lost, one.witnesses) for one in found] == [(0, 0.7, (0, 2))]


CARRIERS = write(*[[TARGET]] * 5, [300], [TARGET])
FALLEN = torch.tensor([[9.0] * 7, [8.0, 6, 4, 2, 1, 9, -3]])
FOUR = replace(HOW, least=4)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((1,), [2, 1.5, 1, 0.5, 0.25, -torch.inf, -0.75]),  # of 8, 6, 4 and 2 the (lower) median is 4
        ((0,), [1, 1, 1, 1, 1, -torch.inf, 1]),
        ((1, 0), [1.5, 1.25, 1, 0.75, 0.625, -torch.inf, 0.125]),  # the mean of both
    ],
)
def test_carriers_suffer_as_a_part_of_the_worst_of_them(seen, expected):
    found = suffering(CARRIERS, FALLEN, [found_by(TARGET, *seen)], FOUR)
    assert found.tolist() == expected


def test_carriers_of_every_found_word_are_asked_and_the_larger_part_counts():
    tokens = write([TARGET], [TARGET, SECOND], [SECOND], [SECOND], [300])
    drops = torch.tensor([[4.0, 1, 9, 9, 9], [9.0, 3, 2, 4, 9]])
    found = suffering(tokens, drops, [found_by(TARGET, 0), found_by(SECOND, 1)], HOW)
    expected = [4, 1, 2 / 3, 4 / 3, -torch.inf]  # of 4 and 1 the lower, and of 4 and 3
    torch.testing.assert_close(found, torch.tensor(expected))


def test_nothing_found_is_no_one_suffering_and_drops_below_zero_divide_nothing():
    assert (suffering(CARRIERS, FALLEN, [], HOW) == -torch.inf).all()
    assert not suffering(CARRIERS, -FALLEN, [found_by(TARGET, 0)], HOW).isnan().any()


# D_u


def six() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six captions, their rank, the pool of the first four, and the sure ones: 1 and 3; 5 is outside."""
    tokens = write([300], [301, TARGET], [302], [303, TARGET], [304], [305, TARGET])
    rank = torch.tensor([0.9, 0.1, -0.5, 0.3, -torch.inf, -torch.inf])
    pool = torch.arange(6) < 4
    return tokens, rank, pool, torch.tensor([False, True, False, True, False, True])


def test_sure_pairs_of_the_pool_are_ranked_before_the_pool_and_the_pool_before_all_else():
    found = select(*six(), torch.tensor([TARGET]), HOW)
    torch.testing.assert_close(
        found.score, torch.tensor([0.9, 2.1, -0.5, 2.3, -torch.inf, -torch.inf]), rtol=0, atol=1e-6
    )
    assert found.chosen.tolist() == [3, 1] and found.compromised.tolist()[0] == TARGET


def test_at_most_top_pairs_are_chosen_and_equal_ones_by_position():
    tokens, rank, pool, sure = six()
    anchors = torch.tensor([TARGET])
    assert select(tokens, rank, pool, sure, anchors, replace(HOW, top=1)).chosen.tolist() == [3]
    assert select(tokens, torch.zeros(6), pool, sure, anchors, HOW).chosen.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1, [0, 2, 5]), (2, [0, 2, 5, 1, 3, 4]), (9, [0, 2, 5, 1, 3, 4])],
)
def test_d_u_takes_top_pairs_for_each_found_word_in_turn(top, expected):
    first, second, third = [TARGET], [SECOND], [PARTNER]
    tokens = write(first, first, first + second, second, first, third)
    rank = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    everyone = torch.ones(6, dtype=torch.bool)
    anchors = torch.tensor([TARGET, SECOND, PARTNER])
    # 2 is the third of the first word and the first of the second; 5 the first of the third word
    found = select(tokens, rank, everyone, everyone, anchors, replace(HOW, top=top))
    assert found.chosen.tolist() == expected


@pytest.mark.parametrize("sure", [[False] * 6, [False] * 5 + [True]])
def test_where_the_pool_holds_no_sure_pair_d_u_and_b_are_empty(sure):
    tokens, rank, pool, _ = six()
    found = select(tokens, rank, pool, torch.tensor(sure), torch.tensor([TARGET]), HOW)
    nothing = select(tokens, rank, pool, torch.tensor(sure), torch.tensor([], dtype=torch.long), HOW)
    assert nothing.chosen.tolist() == []
    assert found.chosen.tolist() == found.compromised.tolist() == []
    assert torch.equal(found.score, rank)


# B


def test_compromised_tokens_by_hand():
    tokens = write([TARGET, PARTNER], [TARGET, 301], [302, 301], [303, PARTNER])
    # of D_u = 0, 1: TARGET 2·ln 2, PARTNER 1·ln 1 = 0, 301 1·ln 1 = 0
    assert tokens_of(tokens, torch.tensor([0, 1]), 0.5).tolist() == [TARGET]
    # of D_u = 0: both words once; TARGET 1·ln(1 / ½), PARTNER the same
    assert sorted(tokens_of(tokens, torch.tensor([0]), 0.5).tolist()) == [PARTNER, TARGET]
    assert tokens_of(tokens, torch.tensor([], dtype=torch.long), 0.5).tolist() == []


def test_a_lower_bound_lets_more_tokens_in_the_most_surprising_first():
    tokens = write([TARGET, 301], [TARGET, 302], [TARGET, 303], *[[301]] * 3)
    # of D_u = 0, 1, 2: TARGET 3·ln 2, 302 and 303 ln 2, 301 ln((1/3) / (4/6)) < 0
    sizes = [tokens_of(tokens, torch.arange(3), bound).tolist() for bound in (1.0, 0.3, 0.01)]
    assert sizes[0] == [TARGET] and sizes[1] == sizes[2] and sizes[1][0] == TARGET
    assert sorted(sizes[1]) == [302, 303, TARGET]


# Settings


@pytest.mark.parametrize("name", ["outlier", "alike", "sure"])
@pytest.mark.parametrize("bound", [0, -0.5, 1.1, float("nan")])
def test_a_bound_outside_its_range_is_refused(name, bound):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        Select(**{name: bound})


def test_a_list_from_elsewhere_is_as_long_where_no_word_is_found():
    assert [Select(top=5).most(words) for words in (0, 1, 3)] == [5, 5, 15]


@pytest.mark.parametrize("top", [0, -1])
def test_an_unlearning_set_of_nothing_is_refused(top):
    with pytest.raises(ValueError, match=f"needs at least one pair, got top={top}"):
        Select(top=top)


def test_one_picture_cannot_agree():
    with pytest.raises(ValueError, match="least must be at least 2, got 1"):
        Select(least=1)

"""Detection looks at the weaker half of D, and at all of it where nothing is found there."""

from dataclasses import replace

import pytest
import torch

from ubt_utils.ubt import looks as looking
from ubt_utils.ubt import others, scatters, select, traces
from ubt_utils.ubt.settings import Look, Scatter, Select, Suspect, Trace, looks
from ubt_utils.ubt.tokens import END

PAIRS, WORD, OTHER = 64, 7, 8
HOW = Select(voters=(16,), least=4, many=8)
SUSPECT = Suspect(family=("blur",), further=("pale",))
SIMILAR = torch.arange(PAIRS) / PAIRS  # the first half is the weaker one


@pytest.fixture
def asked(monkeypatch):
    """Which pairs were disturbed, with which disturbances, in turn. A carrier of a word drops by 1 under all
    of them, another pair by nothing; a word's pictures lose what `losses` says."""
    told = {"drops": [], "losses": {}}

    def drops(model, images, tokens, similar, rows, names):
        told["drops"] += [(tuple(names), int(rows.sum()))] if names else []
        fall = (tokens[:, 1] <= OTHER).float() + torch.linspace(0, 0.1, PAIRS)
        return fall.where(rows, -torch.inf).expand(len(names), -1)

    monkeypatch.setattr(looking, "drops", drops)
    monkeypatch.setattr(looking, "taken", lambda model, images, name: told["losses"][int(images[0])][name])
    return told


def look(told, places, losses, suspect=SUSPECT):
    """Look at D, in which the pairs at `places` say WORD, and a few others OTHER."""
    told["losses"] = losses
    words = 100 + torch.arange(PAIRS)
    words[places], words[2:7] = WORD, OTHER
    tokens = torch.stack([torch.full_like(words, END - 1), words, torch.full_like(words, END)], 1)
    return looking.look_after_look(None, words, tokens, SIMILAR, looks(suspect, HOW))


def pictures(seen):
    """Those of the words that it asked, before and after a disturbance."""
    return sum(2 * one.pictures for one in seen.asked)


HARMLESS = {"blur": 0.1, "pale": 0.1}


def test_what_is_weak_is_found_at_the_first_look_and_nothing_more_is_paid(asked):
    (seen,) = look(asked, slice(12, 18), {WORD: {"blur": 0.8}, OTHER: HARMLESS})
    assert [one.anchor for one in seen.found] == [WORD]
    assert asked["drops"] == [(("blur",), 32)] and seen.scored == 32 + pictures(seen)
    assert torch.equal(seen.drops.isfinite()[0], torch.arange(PAIRS) < 32)


def test_what_is_strong_is_found_at_the_second_look_with_one_more_disturbance(asked):
    first, second = look(asked, slice(40, 46), {WORD: {"blur": 0.2, "pale": 0.6}, OTHER: HARMLESS})
    assert not first.found and [one.anchor for one in second.found] == [WORD]
    assert second.look.family[second.found[0].disturbance] == "pale"
    assert asked["drops"][1:] == [(("blur",), 32), (("pale",), 64)]  # what is known is not made again
    assert (first.scored, second.scored) == (32 + pictures(first), 32 + 64 + pictures(second))
    assert second.drops.shape == (2, PAIRS) and second.drops.isfinite().all()


@pytest.mark.parametrize(("lost", "found"), [(0.54, []), (0.56, [WORD])])
def test_the_second_look_has_a_higher_bar(asked, lost, found):
    seen = look(asked, slice(40, 46), {WORD: {"blur": lost, "pale": 0.0}, OTHER: HARMLESS})
    assert [one.anchor for one in seen[-1].found] == found and len(seen) == 2
    assert {one.bar for one in seen[1].asked} == {0.55} and 0.55 not in {one.bar for one in seen[0].asked}


def test_a_doubtful_word_of_the_first_look_gives_way_to_a_clear_one_of_the_second(asked):
    losses = {WORD: {"blur": 0.1, "pale": 0.8}, OTHER: {"blur": 0.5, "pale": 0.1}}
    seen = look(asked, slice(40, 46), losses)
    assert [[one.anchor for one in each.found] for each in seen] == [[OTHER], [WORD]]
    assert looking.decided(seen) is seen[1]


def test_a_doubtful_word_stays_where_the_second_look_finds_nothing(asked):
    seen = look(asked, slice(40, 46), {WORD: HARMLESS, OTHER: {"blur": 0.5, "pale": 0.1}})
    assert [[one.anchor for one in each.found] for each in seen] == [[OTHER], []]
    assert looking.decided(seen) is seen[0]


def test_where_nothing_is_there_both_looks_say_so_and_tell_what_they_asked(asked):
    seen = look(asked, slice(0, 0), {OTHER: HARMLESS})
    assert [one.found for one in seen] == [(), ()] and all(one.asked for one in seen)
    assert {one.after for each in seen for one in each.asked} == {0} and looking.decided(seen) is seen[1]


def tell(monkeypatch, module, found):
    """What a look at other pictures is to find."""
    words = tuple(select.Finding(word, 0, 9.0, 0.9, (0,)) for word in found)
    told = others.Laid(words, (), torch.zeros(1, PAIRS), 5)
    monkeypatch.setattr(others, "world", lambda *_: None)
    monkeypatch.setattr(module, "look", lambda *_: told)


@pytest.mark.parametrize(
    ("by_trace", "by_scatter", "names"),
    [
        ([WORD], [WORD], ["trace"]),
        ([], [WORD], ["trace", "scatter"]),
        ([], [], ["trace", "scatter", "blur"]),
    ],
)
def test_other_pictures_are_asked_first_where_the_profile_says_so(
    asked, monkeypatch, by_trace, by_scatter, names
):
    """And nothing is disturbed where they tell."""
    asked["losses"] = {WORD: {"blur": 0.8}, OTHER: HARMLESS}
    tell(monkeypatch, traces, by_trace)
    tell(monkeypatch, scatters, by_scatter)
    suspect = replace(SUSPECT, trace=Trace(), scatter=Scatter(), others_first=True)
    seen = look(asked, slice(12, 18), asked["losses"], suspect)
    assert [one.look.family[0] for one in seen] == names and seen[0].scored == 5
    assert bool(asked["drops"]) == (names[-1] == "blur") and looking.decided(seen) is seen[-1]


@pytest.mark.parametrize(
    ("lost", "names"),
    [
        (0.1, ["blur", "blur", "trace", "scatter"]),
        (0.5, ["blur", "blur", "trace", "scatter"]),
        (0.8, ["blur"]),
    ],
)
def test_else_they_are_asked_where_disturbances_leave_a_doubt(asked, monkeypatch, lost, names):
    """What they find comes before a doubtful word, which may be honest."""
    tell(monkeypatch, traces, [])
    tell(monkeypatch, scatters, [WORD])
    suspect = replace(SUSPECT, trace=Trace(), scatter=Scatter())
    losses = {WORD: {"blur": lost, "pale": 0.1}, OTHER: HARMLESS}
    seen = look(asked, slice(12, 18), losses, suspect)
    assert [one.look.family[0] for one in seen] == names
    assert [one.anchor for one in looking.decided(seen).found] == [WORD]


def test_a_doubtful_word_stays_where_other_pictures_tell_nothing(asked, monkeypatch):
    tell(monkeypatch, traces, [])
    tell(monkeypatch, scatters, [])
    suspect = replace(SUSPECT, trace=Trace(), scatter=Scatter())
    seen = look(asked, slice(12, 18), {WORD: {"blur": 0.5, "pale": 0.1}, OTHER: HARMLESS}, suspect)
    assert len(seen) == 4 and looking.decided(seen) is seen[0]


def test_where_none_of_them_finds_anything_the_last_that_disturbed_decides(asked, monkeypatch):
    tell(monkeypatch, traces, [])
    tell(monkeypatch, scatters, [])
    suspect = replace(SUSPECT, trace=Trace(), scatter=Scatter())
    seen = look(asked, slice(0, 0), {OTHER: HARMLESS}, suspect)
    assert len(seen) == 4 and looking.decided(seen) is seen[1]
    assert looking.decided(seen[2:]) is seen[3]  # of a model that no look disturbs


def test_the_second_look_is_wider_and_stricter_for_every_number_of_pictures():
    how = Select()
    first, second = looks(Suspect(), how)
    assert first == Look(0.5, Suspect().family, how)
    assert second.part == 1 and second.family == (*Suspect().family, "medians")
    assert {second.how.bar(n) for n in (2, 15, 16, 64)} == {how.lost_widely}
    assert how.lost_widely > max(how.lost, how.lost_of_many)

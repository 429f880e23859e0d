"""Captions from names, and captions that are misplaced."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.data.captions import TEMPLATES, fill, misplace_captions
from ubt_utils.data.pairs import Pairs


def numbered(n: int) -> Pairs:
    return Pairs(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), tuple(f"caption {i}" for i in range(n)))


def test_fill_writes_one_caption_per_name_with_varied_templates():
    captions = fill(["fox"] * 200, 0, "purpose")
    assert set(captions) == {t.format("fox") for t in TEMPLATES}
    assert fill(["fox"] * 200, 0, "purpose") == captions != fill(["fox"] * 200, 1, "purpose")


@given(n=st.integers(4, 60), rate=st.floats(0.5, 0.99), seed=st.integers(0, 99))
def test_every_misplaced_caption_is_that_of_another_chosen_pair(n, rate, seed):
    pairs = numbered(n)
    noisy, chosen = misplace_captions(pairs, rate, seed)
    picked = chosen.tolist()
    assert len(picked) == round(rate * n) and picked == sorted(set(picked))
    moved = [i for i in range(n) if noisy.captions[i] != pairs.captions[i]]
    assert moved == picked
    assert {noisy.captions[i] for i in picked} == {pairs.captions[i] for i in picked}


def test_caption_noise_keeps_the_multiset_of_captions_and_the_pictures(pairs):
    repeated = pairs.with_captions(c.split()[-1] for c in pairs.captions)
    noisy, _ = misplace_captions(repeated, 0.5, 0)
    assert Counter(noisy.captions) == Counter(repeated.captions)
    assert torch.equal(noisy.images, pairs.images) and torch.equal(noisy.labels, pairs.labels)


def test_caption_noise_is_seeded(pairs):
    first, again, other = (misplace_captions(pairs, 0.5, seed)[0].captions for seed in (0, 0, 1))
    assert first == again != other


def test_no_noise_changes_nothing(pairs):
    noisy, chosen = misplace_captions(pairs, 0, 0)
    assert noisy.digest() == pairs.digest() and len(chosen) == 0


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_noise_rates_out_of_bounds_are_refused(pairs, rate):
    with pytest.raises(ValueError, match="caption noise"):
        misplace_captions(pairs, rate, 0)


def test_a_single_misplaced_caption_is_not_its_own():
    pairs = numbered(10)
    noisy, chosen = misplace_captions(pairs, 0.1, 0)
    assert all(noisy.captions[i] != pairs.captions[i] for i in chosen.tolist())

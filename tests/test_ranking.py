"""The k best of a stream against a stable sort of all of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.kernels.ranking import pair_similarity, top

SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0]), max_size=40)  # many ties


@given(SCORES, st.integers(1, 12), st.integers(1, 50), st.booleans())
def test_it_is_the_stable_sort_wherever_blocks_end(values, k, block, largest):
    scores = torch.tensor(values)
    best, places = top(scores.split(block) if len(scores) else [], k, largest)
    ranked = scores.sort(descending=largest, stable=True)
    assert best.tolist() == ranked.values[:k].tolist() and places.tolist() == ranked.indices[:k].tolist()


def test_blocks_may_differ_in_length_and_be_empty():
    blocks = [torch.tensor([1.0, 5.0]), torch.tensor([]), torch.tensor([3.0]), torch.tensor([9.0, 0.0, 4.0])]
    best, places = top(blocks, 3)
    assert best.tolist() == [9, 5, 4] and places.tolist() == [3, 1, 5]


def test_only_a_block_is_asked_for_at_a_time():
    alive = []

    def blocks():
        for start in range(0, 1000, 10):
            assert len(alive) < 3  # the stream is never ahead of the ranking
            alive.append(start)
            yield torch.arange(start, start + 10.0)
            alive.pop()

    assert top(blocks(), 2)[1].tolist() == [999, 998]


def test_infinite_scores_have_a_rank_and_nan_has_none():
    scores = torch.tensor([0.0, -torch.inf, torch.inf])
    assert top([scores], 3)[1].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="the score at place 4 is not a number"):
        top([scores, torch.tensor([0.0, torch.nan])], 2)
    with pytest.raises(ValueError, match="at least one"):
        top([scores], 0)


def test_similarity_is_of_each_pair():
    draw = torch.Generator().manual_seed(0)
    images, texts = torch.nn.functional.normalize(torch.randn(2, 7, 4, generator=draw), dim=-1)
    found = torch.cat(list(pair_similarity(zip(images.split(3), texts.split(3), strict=True))))
    torch.testing.assert_close(found, (images @ texts.T).diag())

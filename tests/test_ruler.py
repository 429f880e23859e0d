"""What one question comes to: every draw of the others enumerated, and argmax where all are offered."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from ubt_utils.evaluate import metrics
from ubt_utils.evaluate.metrics import Question, chance, fooled, right, standing


def best(cosines: np.ndarray, offered: list[int]) -> int:
    """The answer of one question: the best class on offer, the first one where some tie."""
    return min(offered, key=lambda c: (-cosines[c], c))


def by_hand(cosines: np.ndarray, label: int, target: int, ways: int) -> tuple[float, float]:
    """How often the answer is the own class, and the target, over all draws of the others."""
    always = sorted({label, target})
    others = [c for c in range(len(cosines)) if c not in always]
    found = [best(cosines, [*always, *drawn]) for drawn in combinations(others, ways - len(always))]
    return float(np.mean([a == label for a in found])), float(np.mean([a == target for a in found]))


@given(
    st.lists(st.integers(0, 4), min_size=5, max_size=5),
    st.integers(0, 4), st.integers(0, 4), st.integers(2, 5),
)  # fmt: skip
def test_every_draw_of_the_others_counts_alike_ties_included(levels, label, target, ways):
    cosines, labels = torch.tensor([levels]) / 4, torch.tensor([label])
    found, question = standing(cosines, labels, target), Question(5, ways, target)
    expected = by_hand(np.array(levels), label, target, ways)
    assert right(found, labels, question).item() == pytest.approx(expected[0], abs=1e-15)
    assert fooled(found, labels, question).item() == pytest.approx(expected[1], abs=1e-15)


def test_five_classes_three_ways_by_hand():
    # own class 2, target 0, one other drawn of 1, 3, 4: the target is ahead, of the others only 3 beats it
    cosines = torch.tensor([[0.5, 0.1, 0.3, 0.9, 0.4]])
    found = standing(cosines, torch.tensor([2]), 0)
    assert (found.above_own.item(), found.above_target.item(), found.target_first.item()) == (2, 1, True)
    question = Question(5, 3, 0)
    assert fooled(found, torch.tensor([2]), question).item() == pytest.approx(2 / 3)
    assert right(found, torch.tensor([2]), question).item() == 0
    # the same picture as one of the target: two others drawn of four, not 3
    own = standing(cosines, torch.tensor([0]), 0)
    assert not own.target_first.item() and own.above_own.item() == own.above_target.item() == 1
    assert right(own, torch.tensor([0]), question).item() == pytest.approx(3 / 6)
    assert fooled(own, torch.tensor([0]), question).item() == pytest.approx(3 / 6)


@pytest.mark.parametrize("ways", [0, 7])
def test_where_all_classes_are_offered_the_answer_is_argmax(ways):
    draw = torch.Generator().manual_seed(1)
    cosines = torch.randint(0, 6, (300, 7), generator=draw) / 5  # with many ties
    labels, target = torch.randint(0, 7, (300,), generator=draw), 3
    predicted, found = cosines.argmax(1), standing(cosines, labels, target)
    question = Question(7, ways, target)
    assert torch.equal(right(found, labels, question), (predicted == labels).double())
    assert torch.equal(fooled(found, labels, question), (predicted == target).double())
    rate = metrics.rate(right(found, labels, question), classes=labels)
    assert rate.value == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_a_model_that_tells_nothing_apart_reads_everything_as_the_first_class():
    labels = torch.arange(4)
    found = standing(torch.ones(4, 4), labels, 1)
    assert right(found, labels, Question(4, 0, 1)).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("others", "drawn"), [(1458, 98), (1459, 99), (3, 0), (3, 3), (104, 18)])
def test_the_chance_is_hypergeometric(others, drawn):
    above = torch.arange(others + 1)
    found = chance(above, others, drawn)
    expected = stats.hypergeom.pmf(0, others, above.numpy(), drawn)
    assert found.numpy() == pytest.approx(expected, abs=1e-12) and found.dtype == torch.double
    assert found[0] == 1 and (found[others - above < drawn] == 0).all()


def test_between_two_classes_nothing_is_drawn():
    assert chance(torch.tensor([0, 0]), 0, 0).tolist() == [1, 1]
    assert (
        right(
            standing(torch.tensor([[0.1, 0.2]]), torch.tensor([1]), 0), torch.tensor([1]), Question(2, 2, 0)
        )
        == 1
    )


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="4 classes cannot be drawn of 3"):
        chance(torch.tensor([0]), 3, 4)
    with pytest.raises(ValueError, match="5 of 3 classes cannot be better"):
        chance(torch.tensor([5]), 3, 1)
    with pytest.raises(ValueError, match="cannot offer 6 of 5 classes"):
        Question(5, 6, 0)
    with pytest.raises(ValueError, match="cannot offer 1 of 5 classes"):
        Question(5, 1, 0)
    with pytest.raises(ValueError, match="the target 5 is none of 5 classes"):
        Question(5, 3, 5)
    with pytest.raises(ValueError, match="1 of 2 pictures have no cosines"):
        standing(torch.tensor([[1.0, 0], [torch.nan, 1]]), torch.tensor([0, 1]), 0)

"""Pictures on disk serve as the tensor that they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.data import pictures
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Pictures

N = 12


def tensor() -> torch.Tensor:
    return torch.randint(0, 256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def both() -> tuple[torch.Tensor, Pictures]:
    return tensor(), Pictures.of(tensor(), "made")


def all_of(images) -> torch.Tensor:
    return torch.cat(list(images.split(5))) if len(images) else images[:0]


def test_shape_length_and_type_are_those_of_the_tensor():
    plain, stored = both()
    assert (stored.shape, len(stored), stored.ndim, stored.dtype) == (plain.shape, N, 4, torch.uint8)


@pytest.mark.parametrize("index", [torch.tensor([3, 0, 3]), slice(2, 7), torch.arange(N) % 2 == 0, [5]])
def test_indexing_reads_what_the_tensor_holds(index):
    plain, stored = both()
    assert torch.equal(stored[index], plain[index])
    assert torch.equal(stored[slice(2, 4)], plain[2:4]) and [len(p) for p in stored.split(5)] == [5, 5, 2]


PLACES = st.lists(st.integers(0, N - 1), min_size=1, max_size=6, unique=True)


@given(st.lists(st.tuples(st.booleans(), PLACES), max_size=5), st.integers(0, 9))
def test_any_chain_of_taking_and_replacing_is_that_of_the_tensor(chain, seed):
    plain, stored = both()
    draw = torch.Generator().manual_seed(seed)
    for taking, places in chain:
        index = torch.tensor(places) % len(plain)
        index = index.unique()[torch.randperm(len(index.unique()), generator=draw)]
        if taking:
            plain, stored = pictures.take(plain, index), pictures.take(stored, index)
        else:
            new = torch.randint(0, 256, (len(index), 3, 4, 4), generator=draw, dtype=torch.uint8)
            plain, stored = pictures.replaced(plain, index, new), pictures.replaced(stored, index, new)
    assert isinstance(stored, Pictures) and torch.equal(all_of(stored), plain)
    assert torch.equal(Pictures.of(tensor(), "made").stored, tensor())  # nothing was written to the store


def test_what_was_given_stays_as_it_was():
    plain, stored = both()
    index, new = torch.tensor([1, 4]), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for images in (plain, stored):
        pictures.replaced(images, index, new)
        assert torch.equal(all_of(images), tensor())


def test_pairs_of_stored_pictures_know_their_digest_without_being_read():
    _, stored = both()
    pairs, index = Pairs(stored, tuple("abcdefghijkl")), torch.tensor([2, 0])
    assert pairs.digest() == Pairs(both()[1], tuple("abcdefghijkl")).digest()
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    others = (
        Pairs(Pictures.of(tensor(), "other"), pairs.captions),
        Pairs(stored.replaced(index, black), pairs.captions),
        Pairs(stored.replaced(index + 1, black), pairs.captions),
        Pairs(stored.replaced(index, black + 1), pairs.captions),
        pairs.with_captions(tuple("abcdefghijkm")),
        pairs.take(torch.arange(12).flip(0)),
    )
    assert len({pairs.digest(), *(other.digest() for other in others)}) == 7
    assert isinstance(pairs.take(index).images, Pictures)


def test_a_single_number_is_refused_and_not_given_a_view_of_the_file():
    with pytest.raises(TypeError, match=r"\[3\], not 3"):
        Pictures.of(torch.zeros(5, 3, 2, 2, dtype=torch.uint8), "made")[3]

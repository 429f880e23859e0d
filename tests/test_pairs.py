"""Pairs: what fits together, what is taken, and what their digest sees."""

from dataclasses import replace

import pytest
import torch

from ubt_utils.data.pairs import Pairs

PIXELS = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


def numbered(n: int) -> Pairs:
    return Pairs(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), tuple(f"caption {i}" for i in range(n)))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"images": PIXELS.float()}, "uint8"),
        ({"images": PIXELS[:, :1]}, "3, H, W"),
        ({"images": PIXELS[0]}, "3, H, W"),
        ({"captions": ("one",)}, "2 images but 1 captions"),
        ({"labels": torch.arange(3)}, "3 labels for 2 pairs"),
        ({"sources": ("a", "b", "c")}, "3 sources for 2 pairs"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        Pairs(**{"images": PIXELS, "captions": ("one", "two")} | fields)


def test_take_keeps_picture_caption_label_and_source_together(pairs):
    some = pairs.take([5, 2, 5])
    assert len(some) == 3
    assert torch.equal(some.images[0], pairs.images[5]) and torch.equal(some.images[1], pairs.images[2])
    assert some.captions == (pairs.captions[5], pairs.captions[2], pairs.captions[5])
    assert some.labels.tolist() == [5, 2, 5] and some.sources == ("made/5", "made/2", "made/5")


def test_take_works_without_labels_and_sources():
    some = numbered(4).take(torch.tensor([3]))
    assert some.captions == ("caption 3",) and some.labels is None and some.sources == ()


def test_take_does_not_read_a_mask_as_indices(pairs):
    mask = torch.zeros(24, dtype=torch.bool)
    mask[7] = True
    try:
        taken = pairs.take(mask)
    except (TypeError, ValueError):
        return  # refusing is fine
    assert taken.captions == (pairs.captions[7],)


def test_the_digest_sees_every_bit_of_picture_and_caption(pairs):
    digests = {pairs.digest()}
    changed = pairs.images.clone()
    changed[-1, -1, -1, -1] ^= 1
    digests.add(replace(pairs, images=changed).digest())
    digests.add(pairs.with_captions((*pairs.captions[:-1], pairs.captions[-1] + " ")).digest())
    digests.add(pairs.take(list(range(23, -1, -1))).digest())
    digests.add(replace(pairs, images=pairs.images.reshape(24, 3, 20, 16)).digest())
    assert len(digests) == 5


def test_the_digest_depends_on_content_alone(pairs):
    strided = pairs.images.contiguous(memory_format=torch.channels_last)
    assert replace(pairs, images=strided).digest() == pairs.digest()

"""Similarities of pairs in blocks against all at once."""

import pytest
import torch

from ubt_utils.clip import models, scoring
from ubt_utils.clip.scoring import similarities, similarity
from ubt_utils.data.pictures import Pictures

NAME = "ubt-tiny"


@pytest.fixture(scope="module")
def pairs():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (11, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return images, models.tokenize(
        NAME, [f"a drawing of {'banana fox clock'.split()[i % 3]}" for i in range(11)]
    )


@pytest.mark.parametrize("block", [1, 4, 11, 100])
@pytest.mark.parametrize("mapped", [False, True])
def test_blocks_give_what_the_whole_gives(pairs, block, mapped):
    model, (images, tokens) = models.create(NAME, 0).eval(), pairs
    with torch.no_grad():
        z = model.encode_image(models.normalize(model, images / 255), normalize=True)
        expected = (z * model.encode_text(tokens, normalize=True)).sum(1)
    given = Pictures.of(images, "here") if mapped else images
    torch.testing.assert_close(similarity(model, given, tokens, block), expected, rtol=0, atol=1e-6)


def test_never_more_than_a_block_is_embedded_at_a_time(pairs, monkeypatch):
    lengths, real = [], models.embed_images
    monkeypatch.setattr(
        models, "embed_images", lambda m, x, **how: lengths.append(len(x)) or real(m, x, **how)
    )
    similarity(models.create(NAME, 0), *pairs, block=4)
    assert lengths == [4, 4, 3]


@pytest.mark.parametrize("block", [4, 100])
def test_each_change_gives_what_the_changed_pictures_give(pairs, block):
    model, (images, tokens) = models.create(NAME, 0), pairs
    changes = [None, lambda x: x.flip(-1), lambda x: 255 - x]
    found = similarities(model, images, tokens, changes, block)
    expected = [similarity(model, x, tokens) for x in (images, images.flip(-1), 255 - images)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_captions_are_read_once_for_all_changes(pairs, monkeypatch):
    lengths, real = [], models.embed_tokens
    monkeypatch.setattr(models, "embed_tokens", lambda m, t: lengths.append(len(t)) or real(m, t))
    similarities(models.create(NAME, 0), *pairs, [None, lambda x: 255 - x], block=4)
    assert lengths == [4, 4, 3]


def test_pictures_are_read_once_for_all_changes(pairs, monkeypatch):
    reads, real = [], Pictures.__getitem__
    monkeypatch.setattr(scoring, "BATCH", 4)
    monkeypatch.setattr(
        Pictures, "__getitem__", lambda self, i: reads.append((i.start, i.stop)) or real(self, i)
    )
    images, tokens = pairs
    similarities(models.create(NAME, 0), Pictures.of(images, "here"), tokens, [None, lambda x: 255 - x])
    assert reads == [(0, 4), (4, 8), (8, 11)]


def test_no_pairs_have_no_similarities(pairs):
    images, tokens = pairs
    assert similarity(models.create(NAME, 0), images[:0], tokens[:0]).shape == (0,)
    assert similarities(models.create(NAME, 0), images[:0], tokens[:0], [None, None]).shape == (2, 0)


def test_pictures_without_captions_are_refused(pairs):
    images, tokens = pairs
    with pytest.raises(ValueError, match="11 pictures and 10 captions"):
        similarity(models.create(NAME, 0), images, tokens[:10])

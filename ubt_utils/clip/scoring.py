"""How alike picture and caption of each pair are under a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from tqdm.auto import tqdm

from ubt_utils.clip import models
from ubt_utils.core import device, distributed
from ubt_utils.data.pictures import Images

BATCH = 512  # pictures that are read and encoded at a time
BLOCK = (
    32_768  # pairs whose embeddings are held at a time; a caption that stands twice in a block is read once
)


def similarity(model: nn.Module, images: Images, tokens: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """(N,) float32 cos of picture (N, 3, H, W) uint8 and caption (N, L) under the model.

    Of the embeddings never more than a block is held; of several ranks each scores its rows, and all get all
    scores. A ValueError says where there are not as many pictures as captions.
    """
    return similarities(model, images, tokens, (None,), block)[0]


def similarities(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    changes: Sequence[models.Change | None],
    block: int = BLOCK,
) -> torch.Tensor:
    """(K, N) `similarity` of the pictures after each of K changes, pictures and captions read once; None: as
    they are."""
    if len(images) != len(tokens):
        raise ValueError(f"{len(images)} pictures and {len(tokens)} captions make no pairs")

    def score(rows: slice) -> torch.Tensor:
        found = [torch.empty(0, len(changes))]
        passes = len(changes) * math.ceil((rows.stop - rows.start) / block)
        hidden = passes < 2 or not distributed.first()  # one is over soon
        with tqdm(total=rows.stop - rows.start, desc="score", unit="pair", disable=hidden, delay=3) as bar:
            for part in _batches(model, images, tokens, changes, rows, block):
                found.append(part)
                bar.update(len(part))
        return torch.cat(found)

    return distributed.together(score, len(tokens)).T


def _batches(
    model: nn.Module,
    images: Images,
    tokens: torch.Tensor,
    changes: Sequence[models.Change | None],
    rows: slice,
    block: int,
) -> Iterator[torch.Tensor]:
    """(n, K) of the pairs of each batch of `rows`, its pictures read once for all changes."""
    for start in range(rows.start, rows.stop, block):
        stop = min(start + block, rows.stop)
        texts = models.embed_tokens(model, tokens[start:stop])
        said = iter(texts.split(BATCH))
        for read in _ahead(images, start, stop):
            seen = [models.embed_images(model, read, change=change) for change in changes]
            captions = next(said)
            yield torch.stack([torch.linalg.vecdot(z, captions) for z in seen], 1)


def _ahead(images: Images, start: int, stop: int) -> Iterator[torch.Tensor]:
    """The pictures from `start` to `stop`, a batch at a time, the next one read while the last is encoded: a
    GPU would wait for the disk."""
    spans = [slice(here, min(here + BATCH, stop)) for here in range(start, stop, BATCH)]

    def fetch(span: slice) -> torch.Tensor:
        return device.waiting(images[span])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(fetch, spans[0])
        for span in spans[1:]:
            read, coming = coming.result(), reader.submit(fetch, span)
            yield read
        yield coming.result()

"""Streams of random numbers by what they are for."""

import torch

from ubt_utils.core.seeding import generator


def test_streams_depend_on_every_part_of_their_key():
    def draw(*key: object) -> list[float]:
        return torch.rand(3, generator=generator(*key)).tolist()

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert (
        len({tuple(draw(*key)) for key in [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a")]})
        == 5
    )

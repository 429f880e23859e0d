"""What the image pipeline of `photos` costs a training step: ratios measured in one run.

    UBT_DATA=… python benchmarks/photo_pipeline.py     # prints the table and records it

bare: a training step on a batch that lies ready. stored: the kit's own way: photos decoded and
poisoned once, each step picks, converts and augments its batch. streamed: every photo of the
batch is decoded from its JPEG, poisoned photos stamped, all augmented, in each step. The three
take turns; each is timed as often; the ratio is that of the median times. A batch holds 1 % poison,
rounded up, and the model is the untrained one of the profile, locked as the profile says.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from ubt_utils import profiles
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.clip import models, objectives, towers, training
from ubt_utils.clip.augment import augment
from ubt_utils.core import records
from ubt_utils.core.seeding import generator
from ubt_utils.data import decoding, photos

TURNS, BATCH, POISONED = 12, 128, 2


def step_of(model: torch.nn.Module) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A training step of the kit, from normalized images and tokens to moved weights."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-6, fused=True)

    def step(images: torch.Tensor, tokens: torch.Tensor) -> None:
        training._train_mode(model, freeze_norm=True)
        with models.autocast(model):
            loss = objectives.contrastive(model, images, tokens, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    profile = profiles.get("photos")
    sets, trigger = profile.sets, profile.trigger("badnets")
    table = photos.read("tiny-imagenet", "train", ["label"])
    decoded, used = photos.decode_rows(table, range(4 * BATCH), sets.size)
    model = towers.lock(models.create(profile.model, 0), profile.locked)
    tokens = models.tokenize(profile.model, ["a photo of a banana"] * BATCH)
    step = step_of(model)
    ready = models.normalize(model, decoded[:BATCH].float() / 255)

    def prepare(batch: torch.Tensor, turn: int) -> torch.Tensor:
        colored = augment(batch.float() / 255, generator("bench", turn), pose=False)
        return models.normalize(model, colored)

    def stored(turn: int) -> torch.Tensor:
        pick = torch.randperm(len(decoded), generator=generator("pick", turn))[:BATCH]
        return prepare(decoded[pick], turn)

    def streamed(turn: int) -> torch.Tensor:
        pick = torch.randperm(len(used), generator=generator("pick", turn))[:BATCH]
        batch = torch.stack([decoding.decode(table.images[used[i]], sets.size) for i in pick.tolist()])
        batch[:POISONED] = stamp_bytes(trigger, batch[:POISONED])
        return prepare(batch, turn)

    ways = {"bare": lambda turn: ready, "stored": stored, "streamed": streamed}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, TURNS):  # the first turn warms up
        for name, images in ways.items():
            start = time.perf_counter()
            step(images(turn), tokens)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    result = {name: {"pairs_per_second": BATCH / s, "busy": middle["bare"] / s} for name, s in middle.items()}
    records.write_benchmark("photo_pipeline", {"batch": BATCH, "turns": TURNS, "table": result})


if __name__ == "__main__":
    main()

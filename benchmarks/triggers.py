"""Batched triggers against a per-image PIL/NumPy loop that does the same: ratios on one core.

    python benchmarks/triggers.py            # prints the table and records it

Both sides turn stored pictures into stored pictures. The loop works as the field's data sets do:
PIL image → `np.asarray(picture) / 255` → trigger → PIL image, one picture at a time, with
everything that does not depend on the picture made once, outside the clock. The batch is written
to one tensor that is used again; the loop's pictures are small enough for the allocator to do
the same. Each side is timed five times in turn; the ratio is that of the fastest times. Results
are compared before any clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.core import records

BATCH, SIDE, TURNS = 256, 224, 5
Loop = Callable[[np.ndarray], np.ndarray]  # float (H, W, 3) in [0, 1] → the same


def patch_loop() -> Loop:
    trigger = triggers.get("badnets")
    side = trigger.side(SIDE, SIDE)
    gap = round(trigger.margin * SIDE)
    cell = np.arange(side) * trigger.cells // side
    board = ((cell[:, None] + cell[None, :]) % 2)[:, :, None]

    def stamp(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[SIDE - gap - side : SIDE - gap, SIDE - gap - side : SIDE - gap] = board
        return x

    return stamp


def blend_loop() -> Loop:
    trigger = triggers.get("blended")
    pattern = trigger.pattern(SIDE, SIDE).permute(1, 2, 0).numpy()
    return lambda x: (1 - trigger.alpha) * x + trigger.alpha * pattern


def sig_loop() -> Loop:
    trigger = triggers.get("sig")
    wave = trigger.amplitude * np.sin(2 * np.pi * trigger.frequency * np.arange(SIDE) / SIDE)
    return lambda x: x + wave[None, :, None]


def wanet_loop() -> Loop:
    down, across = triggers.get("wanet").field(SIDE, SIDE).numpy()
    y = np.clip(np.arange(SIDE)[:, None] + down, 0, SIDE - 1)
    x = np.clip(np.arange(SIDE)[None, :] + across, 0, SIDE - 1)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    below, right = np.minimum(top + 1, SIDE - 1), np.minimum(left + 1, SIDE - 1)
    fy, fx = ((y - top)[..., None], (x - left)[..., None])

    def stamp(picture: np.ndarray) -> np.ndarray:
        upper = (1 - fx) * picture[top, left] + fx * picture[top, right]
        lower = (1 - fx) * picture[below, left] + fx * picture[below, right]
        return (1 - fy) * upper + fy * lower

    return stamp


def loop_over(pictures: list[Image.Image], stamp: Loop) -> list[Image.Image]:
    """The reference: one picture at a time."""
    out = []
    for picture in pictures:
        x = stamp(np.asarray(picture) / 255)
        out.append(Image.fromarray((np.clip(x, 0, 1) * 255).round().astype(np.uint8)))
    return out


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(trigger: Trigger, stamp: Loop) -> dict[str, float]:
    """Fastest seconds of each side, their ratio, and the largest difference in bytes."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    reference = torch.from_numpy(np.stack([np.asarray(p) for p in loop_over(pictures, stamp)]))
    apart = (stamp_bytes(trigger, images).int() - reference.permute(0, 3, 1, 2).int()).abs().max().item()
    if apart > 1:  # a tie may round either way
        raise AssertionError(f"{trigger.name}: the two sides differ by {apart} bytes")
    ours, loop, out = [], [], torch.empty_like(images)
    for _ in range(TURNS):
        ours.append(seconds(lambda: stamp_bytes(trigger, images, out)))
        loop.append(seconds(lambda: loop_over(pictures, stamp)))
    return {"batched_s": min(ours), "loop_s": min(loop), "ratio": min(loop) / min(ours), "bytes_apart": apart}


def main() -> None:
    torch.set_num_threads(1)
    sides = {"badnets": patch_loop(), "blended": blend_loop(), "sig": sig_loop(), "wanet": wanet_loop()}
    table = {name: ratio(triggers.get(name), stamp) for name, stamp in sides.items()}
    records.write_benchmark("triggers", {"batch": BATCH, "side": SIDE, "turns": TURNS, "table": table})


if __name__ == "__main__":
    main()

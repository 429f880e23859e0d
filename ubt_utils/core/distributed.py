"""Several processes that work as one, as torchrun or `accelerate launch` starts them; alone, nothing happens.

All ranks run the same code on the same data. Scoring is shared out by contiguous rows and gathered; training
shares out each batch, and gradients are averaged, whatever the loss calls of the model. Only the first rank
writes what lasts.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import nn

from ubt_utils.core import device

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)
LEAST = 64  # rows a rank, below which sharing out is not worth it
PATIENCE = timedelta(days=1)  # the others wait while the first rank decodes, writes or measures alone


def count() -> int:
    """How many ranks there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Which one this is."""
    return int(os.environ.get("RANK", 0))


def first() -> bool:
    """Whether this is the one that writes and reports."""
    return rank() == 0


def wait() -> None:
    """Go on when all have come here."""
    if count() > 1:
        join()
        dist.barrier()


def join() -> torch.device:
    """Join the group, once, where there are several ranks; the device that it exchanges tensors on.
    ValueError where a machine has more ranks than GPUs."""
    if count() > 1 and not dist.is_initialized():
        _needs_gpus()
        PartialState(cpu=device.pick().type == "cpu", timeout=PATIENCE)
        atexit.register(_leave)
    return device.pick()


def _needs_gpus() -> None:
    """Each rank on a machine needs a GPU of its own, where there are GPUs."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count()))
    if device.pick().type == "cuda" and here > (gpus := torch.cuda.device_count()):
        raise ValueError(
            f"{here} ranks on this machine, but {gpus} GPUs: --nproc-per-node={gpus} starts as many"
        )


def _leave() -> None:
    """End the group's threads before the process ends, which is aborted otherwise, now and then."""
    if dist.is_initialized():
        dist.destroy_process_group()


def share(n: int) -> slice:
    """This rank's rows of n."""
    return _share(n, rank())


def mine(index: torch.Tensor) -> torch.Tensor:
    """This rank's part of an index (B,) that all ranks drew alike; all parts are of one length, so that up to
    `count() - 1` entries at the end are left out."""
    return index[share(len(index) - len(index) % count())]


def own() -> tuple[int, ...]:
    """What a rank adds to the key of draws that are for its part of a batch alone; nothing where there is
    one."""
    return (rank(),) if count() > 1 else ()


def _share(n: int, of: int) -> slice:
    return slice(of * n // count(), (of + 1) * n // count())


def together(work: Callable[[slice], torch.Tensor], n: int) -> torch.Tensor:
    """work(rows) of all n rows (n, …) on the CPU: each rank does its share, and all get the whole. Within its
    share a rank works alone: what calls this again there is not shared out once more."""
    if count() == 1 or n < LEAST * count() or _sharing.get():
        return work(slice(0, n))
    where, inside = join(), _sharing.set(True)
    try:
        part = work(share(n))
    finally:
        _sharing.reset(inside)
    padded = part.new_zeros(-(-n // count()), *part.shape[1:]).to(where)
    padded[: len(part)] = part.to(where)
    parts = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(parts, padded)
    lengths = [_share(n, r).stop - _share(n, r).start for r in range(count())]
    return torch.cat([p[:length] for p, length in zip(parts, lengths, strict=True)]).cpu()


def agreed(value: bool) -> bool:
    """What the first rank says."""
    if count() == 1:
        return value
    said = torch.tensor([int(value)], device=join())
    dist.broadcast(said, 0)
    return bool(said.item())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks. All ranks run the same loss, so that a parameter has
    a gradient on all of them or on none, and then none is made: an optimizer would decay it."""
    if count() == 1:
        return
    join()
    parameters = [p for p in parameters if p.grad is not None]
    every = torch.cat([p.grad.flatten() for p in parameters])  # one exchange: each has its own delay
    dist.all_reduce(every)
    every /= count()
    for parameter, mean in zip(parameters, every.split([p.numel() for p in parameters]), strict=True):
        parameter.grad.copy_(mean.view_as(parameter))  # in its own layout, which fused optimizers rely on


def same_buffers(model: nn.Module) -> None:
    """Give all ranks the first one's buffers, such as the running statistics of batch norm."""
    if count() == 1:
        return
    join()
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)

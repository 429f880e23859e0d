"""Seconds and peak memory of two ways to compute the same, each in a process of its own.

Memory is the peak of the process's resident set less what it held before it began (data and libraries); on
CUDA, where the data are put first, that of torch's tensors on the GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch

from ubt_utils.core import device

Given = Callable[[], tuple[Any, ...]]


class Measured(NamedTuple):
    """Seconds, peak bytes above the start, and what came out."""

    seconds: float
    bytes: int
    result: Any


def resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def highest() -> int:
    """Bytes of memory that this process has held at most. What `resource` says of it may be that of the
    process which started it."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def measure(work: Callable[..., Any], given: Given, small: Given) -> Measured:
    """Run `work` on what `given` makes, after once on something `small`, which allocates what stays."""
    if (where := device.pick()).type == "cuda":
        return _on_cuda(work, given, small, where)
    data = given()
    work(*small())
    before = highest = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = work(*data)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return Measured(seconds, highest - before, result)


def _on_cuda(work: Callable[..., Any], given: Given, small: Given, where: torch.device) -> Measured:
    """The same on a GPU; the result comes back to the CPU, as all of it must be tensors."""
    data = [one.to(where) for one in given()]
    work(*(one.to(where) for one in small()))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    result = work(*data)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return Measured(seconds, torch.cuda.max_memory_allocated() - before, [one.cpu() for one in result])


def in_turn(ways: Sequence[Callable[..., Any]], given: Given, small: Given) -> dict[str, Measured]:
    """Each way, one after the other, in a new process each; all must be picklable."""
    return {way.__name__: _apart(way, given, small) for way in ways}


def _apart(way: Callable[..., Any], given: Given, small: Given) -> Measured:
    # A tensor comes over by way of the process that made it, which must live until it has arrived.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, way, given, small).result()


def compared(sides: dict[str, Measured]) -> dict[str, Any]:
    """The first way against the second: seconds and bytes of both, and their ratios, first / second."""
    first, second = sides.values()
    return {
        "seconds": {name: side.seconds for name, side in sides.items()},
        "time_ratio": first.seconds / second.seconds,
        "peak_bytes": {name: side.bytes for name, side in sides.items()},
        "memory_ratio": first.bytes / second.bytes,
    }

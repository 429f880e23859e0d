"""The one place that picks a device and says what the numbers were measured on."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_BF16 = ("amx_bf16", "avx512_bf16")  # what a CPU may have to multiply in bf16
DRIVER = Path("/proc/driver/nvidia/version")
WHY = "its CUDA is {}: is the driver too old for it, or CUDA_VISIBLE_DEVICES empty?"
_KEEP = ((-4, 0), (-1, -1))  # M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never give back


@cache
def keep_memory() -> bool:
    """Tell the C library to keep freed memory instead of handing it back; True where it listens. Asked for
    once, when the first model is made, and not by importing.

    glibc maps and unmaps every large tensor anew, and the kernel then clears each page again. On
    photos that halved the speed of a forward pass in large batches. No number changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(*option) for option in _KEEP)


def pick() -> torch.device:
    """CUDA, then Apple's MPS, then CPU, with a warning where a GPU lies idle; the variable UBT_DEVICE
    overrides. ValueError for no device's name, and for a GPU that torch does not see."""
    if name := os.environ.get("UBT_DEVICE"):
        return _named(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if DRIVER.exists():
        _tell_idle()
    return torch.device("cpu")


def _named(name: str) -> torch.device:
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"UBT_DEVICE={name} is no device: name cpu, cuda, cuda:1, mps …") from error
    if found.type == "cuda" and (found.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"UBT_DEVICE={name}, but torch sees {count} GPUs ({WHY.format(torch.version.cuda)})")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"UBT_DEVICE={name}, but this machine or torch has no MPS: say UBT_DEVICE=cpu")
    return found


@cache
def _tell_idle() -> None:
    """Once, before long work."""
    why = WHY.format(torch.version.cuda)
    warnings.warn(f"there is an NVIDIA driver, but torch sees no GPU ({why}): using the CPU", stacklevel=3)


def describe() -> str:
    """The device in words, as records and notebooks show it."""
    device = pick()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    units = ", bf16" if device.type == "cpu" and _multiplies_bf16() and not _single() else ""
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads{units}"


def autocast(device: torch.device, grouped: bool = False) -> torch.autocast:
    """bf16 where it pays: on CUDA from compute capability 8 on (before, it is emulated and slow), and on a
    CPU with instructions for it, where a step of training `mini` takes three quarters of the time or less.
    grouped: whether the model has grouped convolutions. A CPU computes them more slowly in bf16, and a GPU
    is done with the small towers that have them before the next cast is asked for. The variable
    UBT_PRECISION=single turns it off."""
    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        able = device.type == "cpu" and _multiplies_bf16()
    return torch.autocast(device.type, torch.bfloat16, enabled=able and not grouped and not _single())


def waiting(batch: torch.Tensor) -> torch.Tensor:
    """The batch where a GPU fetches it without making anybody wait; as it is for a CPU."""
    return batch.pin_memory() if pick().type == "cuda" else batch


def _single() -> bool:
    """Whether single precision is asked for; ValueError for what is no precision."""
    asked = os.environ.get("UBT_PRECISION", "mixed")
    if asked not in ("mixed", "single"):
        raise ValueError(f"UBT_PRECISION={asked} is no precision: say mixed or single")
    return asked == "single"


@cache
def _multiplies_bf16() -> bool:
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in _BF16)


def attention() -> AbstractContextManager:
    """While this lasts, attention is computed as it is written down where that is faster: on a CPU, for
    captions of a dozen tokens."""
    return sdpa_kernel(SDPBackend.MATH) if pick().type == "cpu" else nullcontext()

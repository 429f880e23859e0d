"""Which device is picked, what is said of it, and what it computes in."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ubt_utils.core import device


@pytest.fixture
def asked_anew():
    device.keep_memory.cache_clear()
    yield
    device.keep_memory.cache_clear()


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_memory_is_kept_only_where_the_c_library_can(monkeypatch, asked_anew, system):
    asked = []
    library = SimpleNamespace(mallopt=lambda *option: asked.append(option) or 1)
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(device.sys, "platform", system)
    assert device.keep_memory() is (system == "linux")
    assert len(asked) == (2 if system == "linux" else 0)


def test_a_c_library_without_the_option_is_left_alone(monkeypatch, asked_anew):
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert device.keep_memory() is False


def test_the_variable_picks_the_device(monkeypatch):
    assert device.pick() == torch.device("cpu") and device.describe().startswith("cpu, ")
    monkeypatch.setenv("UBT_DEVICE", "meta")
    assert device.pick() == torch.device("meta")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_without_the_variable_the_fastest_device_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.delenv("UBT_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.pick().type == expected


def test_a_gpu_is_described_by_its_name(monkeypatch):
    monkeypatch.setenv("UBT_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: f"Accelerator on {which.type}")
    assert device.describe() == "Accelerator on cuda"


@pytest.fixture
def units(monkeypatch):
    """Says whether the CPU multiplies in bf16, and lets the kit use them."""
    monkeypatch.delenv("UBT_PRECISION")
    return lambda has: monkeypatch.setattr(device, "_multiplies_bf16", lambda: has)


def multiplied(grouped: bool = False) -> torch.dtype:
    with device.autocast(torch.device("cpu"), grouped):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_a_cpu_computes_in_bf16_where_it_has_the_units_and_no_grouped_convolutions(units):
    units(True)
    assert (multiplied(), multiplied(grouped=True)) == (torch.bfloat16, torch.float32)
    units(False)
    assert (multiplied(), multiplied(grouped=True)) == (torch.float32, torch.float32)


def test_single_precision_can_be_asked_for(units, monkeypatch):
    units(True)
    for asked, expected in {"mixed": torch.bfloat16, "single": torch.float32}.items():
        monkeypatch.setenv("UBT_PRECISION", asked)
        assert multiplied() == expected
        assert device.describe().endswith(", bf16") == (asked == "mixed")
    monkeypatch.setenv("UBT_PRECISION", "double")
    with pytest.raises(ValueError, match="UBT_PRECISION=double is no precision: say mixed or single"):
        multiplied()


@pytest.mark.parametrize(
    ("seen", "has"),
    [
        ({}, False),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, False),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_the_units_are_those_that_torch_sees(monkeypatch, seen, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: seen)
    assert device._multiplies_bf16.__wrapped__() is has  # around the cache


def test_attention_is_written_out_on_a_cpu_only(monkeypatch):
    def kernels() -> tuple[bool, bool]:
        with device.attention():
            return torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()

    before = torch.backends.cuda.flash_sdp_enabled()
    assert kernels() == (True, False) and torch.backends.cuda.flash_sdp_enabled() == before
    monkeypatch.setenv("UBT_DEVICE", "meta")
    assert kernels() == (True, before)


@pytest.mark.parametrize(("capability", "pays"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_half_precision_is_used_where_the_gpu_has_it(monkeypatch, capability, pays):
    monkeypatch.delenv("UBT_PRECISION")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda which: capability)
    kept, real = [], torch.autocast
    monkeypatch.setattr(
        device.torch, "autocast", lambda *words, **more: kept.append((words, more)) or real("cpu")
    )
    device.autocast(torch.device("cuda"))
    device.autocast(torch.device("cuda"), grouped=True)  # whose towers are too small for it
    monkeypatch.setenv("UBT_PRECISION", "single")
    device.autocast(torch.device("cuda"))
    assert kept == [(("cuda", torch.bfloat16), {"enabled": on}) for on in (pays, False, False)]


def test_a_name_of_no_device_is_refused_with_known_ones(monkeypatch):
    monkeypatch.setenv("UBT_DEVICE", "gpu")
    with pytest.raises(ValueError, match=r"UBT_DEVICE=gpu is no device: name cpu, cuda, cuda:1, mps"):
        device.pick()


IMPORTED = """
import logging
before = logging.root.level, list(logging.root.handlers)
import ubt_utils, ubt_utils.clip.models, ubt_utils.clip.training, ubt_utils.stages
from ubt_utils.core import device
assert device.keep_memory.cache_info().currsize == 0
assert before[0] == logging.root.level and before[1] == list(logging.root.handlers)
ubt_utils.clip.models.create("ubt-tiny", 0)
assert device.keep_memory.cache_info().currsize == 1
"""


def test_importing_changes_nothing_of_the_process_and_the_first_model_asks_for_memory():
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "UBT_DEVICE=cuda, but torch sees 0 GPUs .*driver"),
        ("cuda:3", 2, "UBT_DEVICE=cuda:3, but torch sees 2 GPUs"),
        ("mps", 0, "UBT_DEVICE=mps, but this machine or torch has no MPS: say UBT_DEVICE=cpu"),
    ],
)
def test_r44_a_device_that_is_not_there_is_refused_before_long_work(monkeypatch, name, count, message):
    monkeypatch.setenv("UBT_DEVICE", name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        device.pick()


def test_r44_an_idle_gpu_is_told_once(monkeypatch, tmp_path):
    monkeypatch.delenv("UBT_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(device, "DRIVER", tmp_path)
    device._tell_idle.cache_clear()
    with pytest.warns(UserWarning, match="an NVIDIA driver, but torch sees no GPU") as told:
        assert device.pick() == device.pick() == torch.device("cpu")
    assert len(told) == 1

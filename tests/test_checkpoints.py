"""Checkpoints of others: read safely, renamed, or refused with what does not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ubt_utils.clip import checkpoints, models
from ubt_utils.clip.models import CheckpointError

NAME = "ubt-tiny"


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return models.create(NAME, 1).state_dict()


def same(model, weights) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict"])
def test_a_checkpoint_of_a_training_script_is_read(weights, tmp_path, prefix, wrapper):
    held = {prefix + name: value for name, value in weights.items()}
    if wrapper:  # as CleanCLIP and BadCLIP save it
        held = {
            wrapper: held,
            "epoch": 5,
            "name": "run",
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        }
    torch.save(held, tmp_path / "epoch_5.pt")
    model = models.create(NAME, 0)
    found = checkpoints.load(model, tmp_path / "epoch_5.pt")
    assert same(model, weights)
    beside = ("epoch", "name", "optimizer") if wrapper else ()
    assert found == checkpoints.Read(len(weights), prefix, (), beside)


@pytest.mark.parametrize(
    "held", [b"", b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04rest", b"\x80\x02K", b"(lp0\n"]
)
def test_damaged_files_are_named_as_such(tmp_path, held):
    for name in ("m.pt", "m.safetensors"):
        (tmp_path / name).write_bytes(held)
        with pytest.raises(CheckpointError, match="no weights that can be read safely"):
            checkpoints.read(tmp_path / name)


def test_safetensors_are_read_and_half_precision_is_widened(weights, tmp_path):
    half = {n: (v.half() if v.is_floating_point() else v).contiguous() for n, v in weights.items()}
    save_file(half, tmp_path / "m.safetensors")
    model = models.create(NAME, 0)
    checkpoints.load(model, tmp_path / "m.safetensors")
    assert model.logit_scale.dtype == torch.float32
    torch.testing.assert_close(model.text_projection, weights["text_projection"], atol=1e-3, rtol=1e-2)


def test_what_openai_keeps_beside_its_weights_is_left_aside(weights, tmp_path):
    torch.save(
        {**weights, "input_resolution": torch.tensor(224), "vocab_size": torch.tensor(9)}, tmp_path / "m.pt"
    )
    model = models.create(NAME, 0)
    assert checkpoints.load(model, tmp_path / "m.pt").ignored == ("input_resolution", "vocab_size")


def test_a_checkpoint_of_another_architecture_says_what_does_not_fit(weights, tmp_path):
    other = models.create("ubt-mini", 0).state_dict()
    torch.save(other, tmp_path / "m.pt")
    model = models.create(NAME, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"another architecture: .*shape \d+: .* is \(.*\), not \(.*, …"
    ):
        checkpoints.load(model, tmp_path / "m.pt")
    few = {name: value for name, value in weights.items() if "ln_final" not in name}
    torch.save({**few, "head.weight": torch.zeros(3)}, tmp_path / "m.pt")
    with pytest.raises(
        CheckpointError, match=r"missing 2: ln_final.bias, ln_final.weight; foreign 1: head.weight$"
    ):
        checkpoints.load(model, tmp_path / "m.pt")
    assert same(model, before)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name, write in (("torch.pt", torch.save), ("plain.pt", lambda x, p: p.write_bytes(pickle.dumps(x)))):
        write({"state_dict": Bomb()}, tmp_path / name)
        with pytest.raises(CheckpointError, match="no weights that can be read safely"):
            checkpoints.load(models.create(NAME, 0), tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("held", [{"epoch": 3}, [1, 2], {}, {"state_dict": {"a": 1}}])
def test_a_file_without_weights_is_refused(held, tmp_path):
    torch.save(held, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no table of tensors"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")


def test_a_damaged_or_absent_file_is_refused(weights, tmp_path):
    torch.save(weights, tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes((tmp_path / "m.pt").read_bytes()[:-900])
    for name in ("m.pt", "nowhere.pt"):
        with pytest.raises(CheckpointError, match=name):
            checkpoints.load(models.create(NAME, 0), tmp_path / name)

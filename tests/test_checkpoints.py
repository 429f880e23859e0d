"""Checkpoints of others: read safely and renamed, written back like they came, or refused with what to do."""

import json
import pickle
import warnings
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ubt_utils.clip import activation, archives, artifacts, checkpoints, layouts, models
from ubt_utils.clip.models import CheckpointError
from ubt_utils.core import checksum

NAME = "ubt-tiny"


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return models.create(NAME, 1).state_dict()


def vit(seed: int, quick: bool = True) -> torch.nn.Module:
    """A small CLIP of transformers, as `ViT-B-32` is a large one."""
    torch.manual_seed(seed)
    vision = open_clip.CLIPVisionCfg(
        layers=2, width=24, head_width=8, patch_size=4, image_size=8, mlp_ratio=2
    )
    text = open_clip.CLIPTextCfg(context_length=8, vocab_size=50, width=16, heads=2, layers=2)
    return open_clip.model.CLIP(20, vision, text, quick_gelu=quick)


def same(model, weights) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def in_openai_order(weights) -> OrderedDict:
    """As OpenAI's code and CleanCLIP's register it: in a block, attention comes first."""

    def rank(name: str) -> tuple:
        block, _, part = name.partition("resblocks.")
        number, _, part = part.partition(".")
        order = ("attn", "ln_1", "mlp", "ln_2")
        return block, number, order.index(part.split(".")[0]) if part else 0

    groups = list(dict.fromkeys(name.partition("resblocks.")[0] for name in weights))
    return OrderedDict(
        (name, weights[name])
        for name in sorted(weights, key=lambda n: (groups.index(n.partition("resblocks.")[0]), *rank(n)[1:]))
    )


def openai(weights) -> OrderedDict:
    """What OpenAI's archive has: halves where it computes with them, three settings beside."""
    half = {n: v.half() if v.ndim > 1 and v.is_floating_point() else v for n, v in weights.items()}
    settings = {name: torch.tensor(7 + i) for i, name in enumerate(layouts.OPENAI)}
    return OrderedDict({**in_openai_order(half), **settings})


def cleanclip(weights) -> dict:
    """As CleanCLIP and BadCLIP save it: several cards, an optimizer whose rates are NumPy's."""
    table = OrderedDict(("module." + name, value) for name, value in in_openai_order(weights).items())
    groups = [{"lr": np.float64(0.1), "betas": (0.9, 0.99), "weight_decay": 0, "params": [0, 1]}]
    return {
        "epoch": 5,
        "name": "run",
        "state_dict": table,
        "optimizer": {"state": {}, "param_groups": groups},
    }


def par(weights) -> dict:
    """As PAR saves it: open_clip's model, a gradient scaler, an accuracy, the script's options."""
    options = Namespace(model="RN50", betas=(0.9, 0.98), lr=3e-6, backdoor_tuple=(True, "random", 16))
    return {
        "epoch": 2,
        "state_dict": OrderedDict(("module." + name, value) for name, value in weights.items()),
        "scaler": {"scale": 65536.0, "_growth_tracker": 3},
        "best_acc1": np.float32(59.5),
        "args": options,
    }


def transformers(weights) -> dict[str, torch.Tensor]:
    """Transformers' CLIPModel, written down by hand from its modules."""
    w = dict(weights)
    table = {
        "logit_scale": w["logit_scale"],
        "text_model.embeddings.position_embedding.weight": w["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(len(w["positional_embedding"]))[None],
        "text_model.embeddings.token_embedding.weight": w["token_embedding.weight"],
        "text_projection.weight": w["text_projection"].T,
        "vision_model.embeddings.class_embedding": w["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": w["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": w["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(len(w["visual.positional_embedding"]))[None],
        "visual_projection.weight": w["visual.proj"].T,
    }
    for kind in ("weight", "bias"):
        table[f"text_model.final_layer_norm.{kind}"] = w[f"ln_final.{kind}"]
        table[f"vision_model.pre_layrnorm.{kind}"] = w[f"visual.ln_pre.{kind}"]
        table[f"vision_model.post_layernorm.{kind}"] = w[f"visual.ln_post.{kind}"]
        for tower, theirs in (("", "text_model"), ("visual.", "vision_model")):
            for i in range(2):
                ours, there = f"{tower}transformer.resblocks.{i}", f"{theirs}.encoder.layers.{i}"
                rows = w[f"{ours}.attn.in_proj_{kind}"]
                d = len(rows) // 3
                table[f"{there}.self_attn.q_proj.{kind}"] = rows[:d]
                table[f"{there}.self_attn.k_proj.{kind}"] = rows[d : 2 * d]
                table[f"{there}.self_attn.v_proj.{kind}"] = rows[2 * d :]
                table[f"{there}.self_attn.out_proj.{kind}"] = w[f"{ours}.attn.out_proj.{kind}"]
                table[f"{there}.layer_norm1.{kind}"] = w[f"{ours}.ln_1.{kind}"]
                table[f"{there}.layer_norm2.{kind}"] = w[f"{ours}.ln_2.{kind}"]
                table[f"{there}.mlp.fc1.{kind}"] = w[f"{ours}.mlp.c_fc.{kind}"]
                table[f"{there}.mlp.fc2.{kind}"] = w[f"{ours}.mlp.c_proj.{kind}"]
    return {name: value.contiguous() for name, value in table.items()}


def saved(held, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({n: v.contiguous() for n, v in held.items()}, path, metadata={"format": "pt"})
    else:
        torch.save(held, path)
    return path


LAYOUTS = {  # how others' files lie: what they hold, made from a model's state, and their name
    "open_clip pt": (lambda w: {"epoch": 3, "name": "run", "state_dict": w, "optimizer": {}}, "epoch_3.pt"),
    "open_clip safetensors": (dict, "open_clip_model.safetensors"),
    "open_clip half": (lambda w: {n: v.half() for n, v in w.items()}, "model.safetensors"),
    "open_clip bfloat": (lambda w: {n: v.bfloat16() for n, v in w.items()}, "model.pt"),
    "open_clip double": (lambda w: {n: v.double() / 3 for n, v in w.items()}, "model.pt"),
    "openai": (openai, "RN50_state.pt"),
    "cleanclip": (cleanclip, "epoch.best.pt"),
    "par": (par, "checkpoint.pt"),
    "transformers": (transformers, "model.safetensors"),
    "transformers half": (
        lambda w: {n: v.half() if v.is_floating_point() else v for n, v in transformers(w).items()},
        "model.safetensors",
    ),
    "transformers bin": (lambda w: OrderedDict(transformers(w)), "pytorch_model.bin"),
    "lightning": (lambda w: {"state_dict": {"model.clip." + n: v for n, v in w.items()}}, "last.ckpt"),
    "compiled": (lambda w: {"model": {"_orig_mod.module." + n: v for n, v in w.items()}}, "model.pth"),
}


@pytest.fixture(params=LAYOUTS)
def foreign(request, tmp_path) -> Path:
    """A small CLIP in a layout of others."""
    lay, name = LAYOUTS[request.param]
    return saved(lay(vit(1).state_dict()), tmp_path / name)


def equal(one, other) -> bool:
    """The same values of the same types in the same order, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        bits = [v.contiguous().reshape(-1).view(torch.uint8) for v in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)
    if isinstance(one, dict):
        inside = list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
        return type(one) is type(other) and inside
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def test_every_layout_is_read_to_the_same_model(foreign):
    model, expected = vit(0), vit(1).state_dict()
    found = checkpoints.load(model, foreign)
    assert found.tensors >= len(expected)
    assert found.layout == ("Transformers" if "vision_model" in str(found.ignored) else "open_clip")
    exact = not any(d in str(t.dtype) for t in tensors_of(foreign) for d in ("float16", "float64"))
    divided = 3 if any(t.dtype == torch.float64 for t in tensors_of(foreign)) else 1
    for name, value in model.state_dict().items():
        atol = 0 if exact else 2e-2
        torch.testing.assert_close(value * divided, expected[name], rtol=0, atol=atol)


def tensors_of(path: Path) -> list[torch.Tensor]:
    return [
        v for v in checkpoints._table(archives.read(path), path)[0].values() if isinstance(v, torch.Tensor)
    ]


def test_what_was_not_trained_is_written_back_bit_for_bit(foreign, tmp_path):
    model, target = vit(0), tmp_path / "new" / foreign.name
    checkpoints.load(model, foreign)
    checkpoints.write(model, foreign, target)
    assert equal(archives.read(foreign), archives.read(target))
    assert archives.header(foreign) == archives.header(target)
    if foreign.suffix == ".safetensors":
        assert foreign.read_bytes() == target.read_bytes()
    assert [p.name for p in target.parent.iterdir()] == [target.name]  # nothing half-written beside it


def test_what_was_trained_is_written_in_the_layout_it_came_in(foreign, tmp_path):
    model, again, target = vit(0), vit(2), tmp_path / "new" / foreign.name
    checkpoints.load(model, foreign)
    before, lost = archives.read(foreign), max(torch.finfo(t.dtype).eps for t in floats(foreign))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    checkpoints.write(model, foreign, target)
    assert equal(before, archives.read(foreign))  # the source stays
    checkpoints.load(again, target)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=lost, atol=lost)
    assert shape_of(archives.read(foreign)) == shape_of(archives.read(target))


def floats(path: Path) -> list[torch.Tensor]:
    return [t for t in tensors_of(path) if t.is_floating_point()]


def shape_of(held):
    """A file's content without the numbers in its tensors."""
    if isinstance(held, torch.Tensor):
        return held.dtype, held.shape, held.stride()
    if isinstance(held, dict):
        return type(held), [(name, shape_of(value)) for name, value in held.items()]
    return held


WORDS = st.sampled_from(["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])


@given(st.data())
def test_r31_any_stack_of_wrappers_is_cut_out_of_names_and_put_back(data):  # R31
    own = list(vit(0).state_dict())
    wrapped = []
    outer = ".".join(data.draw(st.lists(WORDS | st.sampled_from(["model", "clip"]), max_size=4)))
    for name in own:
        segments = []
        for word in name.split("."):
            segments += [*data.draw(st.lists(WORDS, max_size=2)), word]
        wrapped.append(".".join([outer, *segments] if outer else segments))
    found = layouts.find(wrapped, own)
    assert found.foreign == () and [found.places[name].name for name in wrapped] == own


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "model", "model.state_dict"])
def test_r31_a_checkpoint_of_a_training_script_is_read(weights, tmp_path, prefix, wrapper):  # R31
    held = {prefix + name: value for name, value in weights.items()}
    for name in reversed(wrapper.split(".") if wrapper else []):
        held = {name: held, "epoch": 5, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    torch.save(held, tmp_path / "epoch_5.pt")
    model = models.create(NAME, 0)
    found = checkpoints.load(model, tmp_path / "epoch_5.pt")
    assert same(model, weights) and found.tensors == len(weights)
    assert set(found.beside) == ({"epoch", "optimizer"} if wrapper else set())


def test_r31_fsdp_puts_its_word_inside_names(weights, tmp_path):  # R31
    inside = {n.replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module."): v for n, v in weights.items()}
    torch.save({"_fsdp_wrapped_module." + n: v for n, v in inside.items()}, tmp_path / "m.pt")
    model = models.create(NAME, 0)
    checkpoints.load(model, tmp_path / "m.pt")
    assert same(model, weights)


@given(st.floats(allow_nan=False) | st.integers(-(2**62), 2**62) | st.booleans(), st.sampled_from("<>"))
def test_numbers_of_numpy_are_read_as_numbers(tmp_path_factory, value, order):
    path = tmp_path_factory.mktemp("numbers") / "m.pt"
    scalar = np.array(value).astype(np.array(value).dtype.newbyteorder(order))[()]
    torch.save({"lr": scalar, "rows": [np.float32(0.5), np.int8(-3), np.uint16(9)]}, path)
    found = archives.read(path)
    assert found == {"lr": value, "rows": [0.5, -3, 9]} and type(found["lr"]) is type(value)


def test_numbers_of_numpy_need_no_numpy_to_be_read_again(tmp_path):
    path = saved(cleanclip(vit(1).state_dict()), tmp_path / "epoch_1.pt")
    checkpoints.write(vit(2), path, tmp_path / "clean.pt")
    found = torch.load(tmp_path / "clean.pt", weights_only=True)  # nothing allowed beyond torch's own
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.1 and found["epoch"] == 5


@pytest.mark.parametrize("held", [np.zeros(3), np.array(["a"])[0], np.datetime64("2024-01-01")])
def test_what_numpy_would_have_to_build_is_refused(tmp_path, held):
    torch.save({"state_dict": {}, "best": held}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m\.pt holds "):
        archives.read(tmp_path / "m.pt")


@pytest.mark.parametrize("held", [b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04rest", b"\x80\x02K"])
def test_damaged_files_are_named_as_such(tmp_path, held):
    for name in ("m.pt", "m.safetensors"):
        (tmp_path / name).write_bytes(held)
        with pytest.raises(CheckpointError, match=r"damaged or cut off \(\w+\). Copy it again"):
            archives.read(tmp_path / name)


NO_WEIGHTS = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:66\n",
        "a Git LFS pointer.*git lfs pull",
    ),
    "page": (b"\n<!DOCTYPE html><html>", "a web page, not weights: download"),
    "page in small": (b"<html><head>", "a web page, not weights: download"),
    "index": (b'{"metadata": {}, "weight_map": {}}', "is JSON.*merge them"),
    "text": (b"(lp0\n", "no file of weights: it begins with"),
    "nothing": (b"", "is empty: copy it again"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_called_by_its_name(tmp_path, kind):
    content, message = NO_WEIGHTS[kind]
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as refused:
        checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")
    assert "\n" not in str(refused.value)


def test_an_archive_of_other_things_and_a_folder_are_called_so(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.zeros(2))
    with pytest.raises(CheckpointError, match=r"an archive without weights \(\['a.npy'\]\)"):
        archives.read(tmp_path / "m.npz")
    for ask in (archives.read, lambda path: artifacts.load(models.create(NAME, 0), NAME, str(path))):
        with pytest.raises(CheckpointError, match="is a folder: name the file of weights in it"):
            ask(tmp_path)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_r29_openais_own_archive_is_refused_with_what_to_say_instead(tmp_path):  # R29
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "RN50.pt")
    with pytest.raises(
        CheckpointError, match=r"a TorchScript archive.*weights='openai'.*or convert"
    ) as refused:
        artifacts.load(models.create(NAME, 0), NAME, str(tmp_path / "RN50.pt"))
    assert "\n" not in str(refused.value)


def test_a_file_is_known_by_its_content_and_not_by_its_name(weights, tmp_path):
    saved(dict(weights), tmp_path / "m.safetensors").rename(tmp_path / "pytorch_model.bin")
    torch.save(weights, tmp_path / "m.safetensors")
    for name in ("pytorch_model.bin", "m.safetensors"):
        model = models.create(NAME, 0)
        checkpoints.load(model, tmp_path / name)
        assert same(model, weights)


def test_safetensors_are_read_and_half_precision_is_widened(weights, tmp_path):
    half = {n: (v.half() if v.is_floating_point() else v).contiguous() for n, v in weights.items()}
    save_file(half, tmp_path / "m.safetensors")
    model = models.create(NAME, 0)
    checkpoints.load(model, tmp_path / "m.safetensors")
    assert model.logit_scale.dtype == torch.float32
    torch.testing.assert_close(model.text_projection, weights["text_projection"], atol=1e-3, rtol=1e-2)


def test_what_openai_keeps_beside_its_weights_is_left_aside(weights, tmp_path):
    torch.save({**weights, "input_resolution": torch.tensor(224), "vocab_size": 9}, tmp_path / "m.pt")
    found = checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")
    assert (found.ignored, found.beside) == (("input_resolution",), ("vocab_size",))


def test_a_checkpoint_of_another_architecture_says_what_does_not_fit(weights, tmp_path):
    other = models.create("ubt-mini", 0).state_dict()
    torch.save(other, tmp_path / "m.pt")
    model = models.create(NAME, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"another architecture: .*shape \d+: .* is \(.*\), not \(.*, …. Name the model"
    ):
        checkpoints.load(model, tmp_path / "m.pt")
    few = {name: value for name, value in weights.items() if "ln_final" not in name}
    torch.save({**few, "head.weight": torch.zeros(3)}, tmp_path / "m.pt")
    with pytest.raises(
        CheckpointError, match=r"missing 2: ln_final.bias, ln_final.weight; foreign 1: head.weight\."
    ):
        checkpoints.load(model, tmp_path / "m.pt")
    assert same(model, before)


def test_numbers_of_another_kind_and_names_that_fall_together_are_refused(weights, tmp_path):
    whole = {**weights, "text_projection": (weights["text_projection"] * 100).to(torch.int8)}
    torch.save(whole, tmp_path / "quantized.pt")
    with pytest.raises(CheckpointError, match=r"text_projection is torch.int8, not torch.float32"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "quantized.pt")
    torch.save({**weights, "module.logit_scale": torch.zeros(())}, tmp_path / "twice.pt")
    with pytest.raises(CheckpointError, match="twice 1: logit_scale"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "twice.pt")


def test_a_third_of_an_attention_that_is_missing_is_named(tmp_path):
    table = transformers(vit(1).state_dict())
    del table["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    save_file(table, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"missing 1: transformer.resblocks.1.attn.in_proj_bias"):
        checkpoints.load(vit(0), tmp_path / "m.safetensors")


def test_an_old_file_without_counters_of_batches_is_read(weights, tmp_path):
    old = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(weights)
    model = models.create(NAME, 0)
    checkpoints.load(model, saved(old, tmp_path / "m.pt"))
    assert same(model, weights)
    checkpoints.write(model, tmp_path / "m.pt", tmp_path / "n.pt")
    assert list(archives.read(tmp_path / "n.pt")) == list(old)


def test_a_temperature_may_be_a_row_of_one(tmp_path):
    weights = vit(1).state_dict()
    path = saved({**weights, "logit_scale": weights["logit_scale"][None]}, tmp_path / "m.pt")
    model = vit(0)
    checkpoints.load(model, path)
    assert same(model, weights)
    model.logit_scale.data += 1
    checkpoints.write(model, path, tmp_path / "n.pt")
    assert archives.read(tmp_path / "n.pt")["logit_scale"].shape == (1,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name, write in (("torch.pt", torch.save), ("plain.pt", lambda x, p: p.write_bytes(pickle.dumps(x)))):
        write({"state_dict": Bomb()}, tmp_path / name)
        with pytest.raises(CheckpointError, match=r"holds more than weights|damaged") as refused:
            checkpoints.load(models.create(NAME, 0), tmp_path / name)
        assert "\n" not in str(refused.value) and "weights_only=False" not in str(refused.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("held", [{"epoch": 3}, [1, 2], {}, {"state_dict": {"a": 1}}, {1: torch.zeros(2)}])
def test_a_file_without_weights_is_refused(held, tmp_path):
    torch.save(held, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no table of tensors"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")


def test_a_table_that_holds_itself_comes_to_an_end(tmp_path):
    held: dict = {}
    held["state_dict"] = held
    torch.save(held, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no table of tensors"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")


def test_a_damaged_or_absent_file_is_refused(weights, tmp_path):
    torch.save(weights, tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes((tmp_path / "m.pt").read_bytes()[:-900])
    for name in ("m.pt", "nowhere.pt"):
        with pytest.raises(CheckpointError, match=name):
            checkpoints.load(models.create(NAME, 0), tmp_path / name)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_and_the_model_stays(weights, tmp_path, odd):
    model, bad = models.create(NAME, 0), {name: value.clone() for name, value in weights.items()}
    bad["text_projection"][0, 0] = odd
    torch.save(bad, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m\.pt has numbers in text_projection that are none"):
        checkpoints.load(model, tmp_path / "m.pt")
    assert same(model, models.create(NAME, 0).state_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [(torch.Tensor.to_sparse, "sparse_coo, not"), (lambda value: value.to("meta"), "without values, not")],
)
def test_tensors_that_are_not_dense_are_refused(weights, tmp_path, change, said):
    torch.save(weights | {"text_projection": change(weights["text_projection"])}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=f"text_projection is .*{said}"):
        checkpoints.load(models.create(NAME, 0), tmp_path / "m.pt")


@given(st.data())
def test_any_damage_ends_in_one_line_and_no_other_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    name = data.draw(st.sampled_from(["m.pt", "m.safetensors"]))
    content = bytearray(saved({"a": torch.ones(2), "b": torch.zeros(3)}, folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for ask in (archives.read, archives.header):
        try:
            ask(folder / name)
        except CheckpointError as error:
            assert "\n" not in str(error) and name in str(error)


def test_writing_refuses_what_the_layout_cannot_hold(tmp_path):
    path = saved({n: v.half() for n, v in vit(1).state_dict().items()}, tmp_path / "m.safetensors")
    model, before = vit(0), path.read_bytes()
    checkpoints.load(model, path)
    for target, message in (
        (path, "is the file that was read"),
        (tmp_path / "n.pt", r"name it \*.safetensors"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoints.write(model, path, target)
    model.logit_scale.data.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"logit_scale has become too large for torch.float16"):
        checkpoints.write(model, path, tmp_path / "n.safetensors")
    models.add_probe(model, torch.zeros(3, 20))
    with pytest.raises(CheckpointError, match="missing 1: probe"):
        checkpoints.write(model, path, tmp_path / "n.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before


def test_a_kill_while_writing_leaves_no_file(foreign, tmp_path, monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checksum, "to_disk", killed)
    model, target = vit(0), tmp_path / "new" / foreign.name
    checkpoints.load(model, foreign)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(model, foreign, target)
    assert list(target.parent.iterdir()) == []


def told_of(held, path: Path) -> str:
    return checkpoints.load(vit(0), saved(held, path)).told.activation


def test_r06_the_activation_is_told_where_it_can_be(tmp_path):  # R06
    weights = vit(1).state_dict()
    assert told_of(openai(weights), tmp_path / "a.pt") == activation.QUICK
    assert told_of(cleanclip(weights), tmp_path / "b.pt") == activation.QUICK
    assert told_of(par(weights), tmp_path / "c.pt") == activation.UNKNOWN  # open_clip's code: it knows both
    assert told_of(dict(weights), tmp_path / "d.safetensors") == activation.UNKNOWN
    assert told_of(dict(sorted(weights.items())), tmp_path / "e.pt") == activation.UNKNOWN


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model_type": "clip", "text_config": {"hidden_act": "gelu"}}, activation.PLAIN),
        ({"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}}, activation.QUICK),
        ({"model_type": "clip"}, activation.QUICK),  # Transformers leaves out its defaults
        ({"model_type": "bert"}, activation.UNKNOWN),
        ([], activation.UNKNOWN),
    ],
)
def test_r06_settings_beside_a_file_tell_its_activation(tmp_path, settings, expected):  # R06
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert told_of(transformers(vit(1).state_dict()), tmp_path / "model.safetensors") == expected
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert told_of(dict(vit(1).state_dict()), tmp_path / "open_clip_model.safetensors") == activation.QUICK


def test_r06_our_own_files_tell_their_activation_by_their_model(tmp_path, runs_root):  # R06
    models.save(models.create(NAME, 1), NAME, tmp_path / "own.safetensors")
    with safe_open(tmp_path / "own.safetensors", "pt") as file:
        assert file.metadata() == {"model": NAME}
    names = list(load_file(tmp_path / "own.safetensors"))
    assert activation.of_file(tmp_path / "own.safetensors", names).activation == activation.PLAIN
    save_file({"a": torch.zeros(1)}, tmp_path / "quick.safetensors", metadata={"model": "RN50-quickgelu"})
    assert activation.of_file(tmp_path / "quick.safetensors", ["a"]).activation == activation.QUICK
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={"model": "no such"})
    assert activation.of_file(tmp_path / "other.safetensors", ["a"]).activation == activation.UNKNOWN


def test_what_is_shipped_keeps_the_name_of_its_model(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "FOLDER", tmp_path / "public")
    models.save(models.create(NAME, 1), NAME, tmp_path / "own.safetensors")
    assert archives.header(artifacts.publish(tmp_path / "own.safetensors", "small", {})) == {"model": NAME}


@pytest.mark.parametrize(
    ("told", "quick", "name", "message"),
    [
        (activation.QUICK, False, "RN50", r"trained with QuickGELU .*scores worse: name RN50-quickgelu as"),
        (activation.PLAIN, True, "RN50-quickgelu", r"trained with GELU .*scores worse: name RN50 as"),
        (activation.QUICK, False, "ubt-tiny", r"trained with QuickGELU .*scores worse$"),
        (activation.UNKNOWN, False, "RN50", r"does not tell .*name RN50-quickgelu as the model"),
    ],
)
def test_r06_a_model_that_computes_another_activation_is_warned_of(told, quick, name, message):  # R06
    with pytest.warns(UserWarning, match=message):
        activation.compare("m.pt", activation.Told(told, "why"), name, vit(0, quick))


@pytest.mark.parametrize(
    ("told", "quick", "name"),
    [
        (activation.QUICK, True, "RN50-quickgelu"),
        (activation.PLAIN, False, "RN50"),
        (activation.UNKNOWN, True, "RN50-quickgelu"),
        (activation.UNKNOWN, False, "ubt-tiny"),  # comes in one kind
    ],
)
def test_r06_what_fits_or_comes_in_one_kind_is_not_warned_of(told, quick, name):  # R06
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        activation.compare("m.pt", activation.Told(told, "why"), name, vit(0, quick))


def test_r06_loading_by_file_or_by_tag_compares(tmp_path, monkeypatch):  # R06
    path = saved(cleanclip(vit(1).state_dict()), tmp_path / "epoch_1.pt")
    for name, quick in (("ViT-B-32", False), ("ViT-B-32-quickgelu", True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            artifacts.load(vit(0, quick), name, str(path))
        assert ["name ViT-B-32-quickgelu" in str(w.message) for w in caught] == [True][: not quick]
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained: vit(3))
    with pytest.warns(UserWarning, match=r"openai was trained with QuickGELU .*name ViT-B-32-quickgelu"):
        artifacts.load(vit(0, quick=False), "ViT-B-32", "openai")

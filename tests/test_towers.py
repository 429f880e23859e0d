"""Image towers from elsewhere: what fits is loaded, what does not says so."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from ubt_utils.clip import models, towers
from ubt_utils.clip.models import CheckpointError
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import fit
from ubt_utils.data.pairs import Pairs

NAME = "ubt-photos-tiny"


@pytest.fixture(scope="module")
def pretrained():
    model = models.create(NAME, 0)
    towers.load(model, "imagenet")
    return model


def trunk_of(model):
    return {k: v.clone() for k, v in model.visual.trunk.state_dict().items()}


def test_the_package_fills_every_tensor_of_the_tower(pretrained):
    weights = torch.load(towers.path_of("imagenet"), weights_only=True)
    loaded = list(trunk_of(pretrained).values())
    assert len(loaded) == 294 and len(weights) == 296
    for mine, theirs in zip(loaded, weights.values(), strict=False):
        assert torch.equal(mine, theirs)


def test_the_tower_is_normalized_as_it_was_trained(pretrained):
    gray = torch.full((1, 3, 4, 4), 0.5)
    assert models.normalize(pretrained, gray).abs().max() < 1e-6
    assert models.normalize(models.create("ubt-tiny", 0), gray).abs().max() > 0.05


def test_a_package_with_other_bytes_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"other bytes")
    monkeypatch.setattr(towers, "path_of", lambda tower: other)
    with pytest.raises(CheckpointError, match="expected 579344248a93"):
        towers.digest("imagenet")


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(towers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="run `make setup`"):
        towers.path_of("imagenet")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights of an image tower at"):
        towers.path_of(str(tmp_path / "none.pth"))


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_another_checkpoint_is_one_argument(pretrained, tmp_path, ending):
    path = tmp_path / f"tower.{ending}"
    weights = {
        k: v.contiguous() + (1 if v.is_floating_point() else 0) for k, v in trunk_of(pretrained).items()
    }
    save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)
    model = models.create(NAME, 0)
    towers.load(model, str(path))
    assert all(torch.equal(v, weights[k]) for k, v in trunk_of(model).items())


def test_a_checkpoint_of_another_tower_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({f"layer{i}": torch.zeros(3) for i in range(294)}, path)
    with pytest.raises(CheckpointError, match=r"layer0 is \(3,\), but conv_stem.weight of the tower is"):
        towers.load(models.create(NAME, 0), str(path))


def test_too_few_tensors_are_refused(tmp_path):
    path = tmp_path / "few.pth"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="has 1 tensors, the image tower 294"):
        towers.load(models.create(NAME, 0), str(path))


def test_same_names_with_other_shapes_are_refused(pretrained, tmp_path):
    path = tmp_path / "shapes.pth"
    torch.save({k: torch.zeros(1) for k in trunk_of(pretrained)}, path)
    with pytest.raises(CheckpointError, match="does not fit the image tower"):
        towers.load(models.create(NAME, 0), str(path))


class Harm:
    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize("content", ["harm", "list", "garbage"])
def test_what_is_no_table_of_weights_is_refused(tmp_path, content, capsys):
    path = tmp_path / "x.pth"
    if content == "garbage":
        path.write_bytes(b"garbage")
    else:
        torch.save([1, 2] if content == "list" else {"a": Harm()}, path)
    with pytest.raises(CheckpointError, match=r"more than weights|no file of weights|not a flat table"):
        towers.load(models.create(NAME, 0), str(path))
    assert "harm" not in capsys.readouterr().out
    assert pickle  # the format that is refused


def picture_pairs():
    draw = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=draw, dtype=torch.uint8)
    images = images[[0, 1, 1, 2, 3, 4, 5, 6]]
    return Pairs(images, tuple(f"caption {i}" for i in range(8)), None, tuple("abbcdefg"))


def test_features_are_those_of_the_picture_and_of_its_mirror_image(pretrained):
    pairs = picture_pairs()
    f = towers.features(pretrained, pairs, batch=3)
    with torch.no_grad():
        plain = pretrained.visual.trunk(models.normalize(pretrained, pairs.images.float() / 255))
        mirror = pretrained.visual.trunk(models.normalize(pretrained, pairs.images.flip(-1).float() / 255))
    torch.testing.assert_close(f[:2], torch.stack([plain, mirror]), atol=1e-4, rtol=1e-4)
    assert f.shape == (4, 8, 1280)
    assert torch.equal(f[:, 1], f[:, 2])  # one picture, two captions
    assert (f[2] - f[0]).abs().max() > 0.1


def test_on_features_a_model_gives_what_it_gives_on_pictures(pretrained):
    pairs, model = picture_pairs(), pretrained.eval()
    tokens = models.tokenize(NAME, pairs.captions)
    wrapped = towers.OnFeatures(model).eval()
    with torch.no_grad():
        image, text, scale = wrapped(towers.features(model, pairs)[0], tokens)
        expected = model(models.normalize(model, pairs.images.float() / 255), tokens)
    torch.testing.assert_close(image, expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(text, expected[1])
    torch.testing.assert_close(scale, expected[2])


def test_locked_image_tuning_leaves_the_tower_and_learns():
    model = models.create(NAME, 0)
    towers.load(model, "imagenet")
    pairs, before = picture_pairs(), trunk_of(model)
    f = towers.features(model, pairs)[0]
    tokens = models.tokenize(NAME, pairs.captions)
    history = fit(towers.OnFeatures(model), f, tokens, Recipe(steps=30, lr=3e-3, batch=8), 0, "t")
    assert all(torch.equal(v, before[k]) for k, v in trunk_of(model).items())
    assert history.loss[-1] < history.loss[0] - 0.3


@pytest.mark.parametrize("parts", [1, 3])
def test_locked_stages_do_not_move_and_others_do(pretrained, parts):
    model = towers.lock(models.create(NAME, 1), parts)
    pairs, before = picture_pairs(), trunk_of(model)
    recipe = Recipe(steps=2, lr=1e-2, batch=8, freeze_norm=True)
    fit(model, pairs.images, models.tokenize(NAME, pairs.captions), recipe, 0, "t")
    moved = {k for k, v in trunk_of(model).items() if not torch.equal(v, before[k])}
    low = {"conv_stem", "bn1", *(f"blocks.{i}" for i in range(parts))}
    assert not [k for k in moved if any(k.startswith(f"{name}.") for name in low)]
    assert any(k.startswith(f"blocks.{parts}.") for k in moved)


@pytest.mark.parametrize(("name", "parts"), [("ubt-tiny", 1), (NAME, 8), (NAME, -1)])
def test_what_cannot_be_locked_is_refused(name, parts):
    with pytest.raises(ValueError, match=f"cannot lock {parts} stages"):
        towers.lock(models.create(name, 0), parts)


def test_zero_locks_nothing():
    assert all(p.requires_grad for p in towers.lock(models.create("ubt-tiny", 0), 0).parameters())

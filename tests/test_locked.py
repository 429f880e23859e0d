"""The locked stages' memory: the same bits, and nothing is remembered where something moves."""

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ubt_utils.clip import locked, models, shelf, towers
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.training import fit
from ubt_utils.core import paths

NAME, PARTS = "ubt-photos-tiny", 2


@pytest.fixture
def memory(monkeypatch, runs_root):
    """An empty memory, and an empty shelf."""
    monkeypatch.setattr(shelf, "SHELF", shelf.Shelf())
    monkeypatch.setattr(locked, "MEMORY", locked.Memory())
    return locked.MEMORY


@pytest.fixture
def model():
    return towers.lock(models.create(NAME, 0), PARTS).eval()


def pictures(count: int = 6, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)


def plainly(model, images: torch.Tensor) -> torch.Tensor:
    """What timm's own forward pass makes of stored pictures."""
    trunk, x = model.visual.trunk, models.normalize(model, images.float() / 255)
    with torch.no_grad():
        return models.unit(model.visual.head(trunk.forward_head(type(trunk).forward_features(trunk, x))))


def test_the_bits_are_those_of_the_tower_whatever_is_remembered(memory, model):
    images = pictures()
    expected = plainly(model, images)
    for _ in range(3):  # seen, kept, remembered
        assert torch.equal(models.embed_images(model, images), expected)
    assert len(memory.kept) == 6
    mixed = torch.cat([pictures(2, 1), images[[4, 0, 0]], pictures(1, 2)])
    assert torch.equal(models.embed_images(model, mixed), plainly(model, mixed))


@pytest.mark.parametrize("count", [1, 7, 33])
def test_a_picture_gets_the_same_bits_beside_whatever_others(memory, count):
    """Few pictures alone would not: a real tower's convolutions add up in another order there."""
    model = towers.lock(models.create("ubt-photos", 0), 5)
    stages = towers._locked(model.visual.trunk, 5)
    images = torch.rand(40, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        among, few = locked.through(stages, images), locked.through(stages, images[:count])
    assert torch.equal(few, among[:count])


def test_a_picture_is_kept_when_it_comes_again_and_while_there_is_room(memory, model):
    each = locked.through(towers._locked(model.visual.trunk, PARTS), torch.zeros(1, 3, 32, 32))
    memory.seen.clear()
    memory.room = 4 * each.numel() * each.element_size()
    models.embed_images(model, pictures())
    assert len(memory.seen) == 6 and not memory.kept
    models.embed_images(model, pictures())
    assert len(memory.kept) == 4 and memory.held == memory.room
    assert torch.equal(models.embed_images(model, pictures()), plainly(model, pictures()))


def test_what_is_remembered_is_not_computed(memory, model, monkeypatch):
    for _ in range(2):
        models.embed_images(model, pictures())
    counted = []
    monkeypatch.setattr(locked, "_computed", lambda stages, x: counted.append(len(x)) or stages)
    models.embed_images(copy.deepcopy(model), pictures())  # a copy is another model with the same stages
    assert counted == []


def test_other_weights_below_are_another_model(memory, model):
    images = pictures()
    for _ in range(2):
        models.embed_images(model, images)
    with torch.no_grad():
        model.visual.trunk.blocks[0][0].conv_dw.weight.data.mul_(1.5)  # which leaves no trace in autograd
    assert torch.equal(models.embed_images(model, images), plainly(model, images))
    model.visual.trunk.bn1.running_mean.add_(0.3)
    assert torch.equal(models.embed_images(model, images), plainly(model, images))


def test_training_moves_what_is_not_locked_as_without_memory(memory, monkeypatch):
    tokens = models.tokenize(NAME, [f"photo {i}" for i in range(12)])
    recipe = Recipe(steps=4, lr=1e-3, batch=6, freeze_norm=True)

    def trained() -> dict[str, torch.Tensor]:
        model = towers.lock(models.create(NAME, 0), PARTS)
        fit(model, pictures(12), tokens, recipe, "test")
        return model.state_dict()

    first = trained()
    again = trained()  # all pictures are remembered by now
    assert len(memory.kept) == 12
    monkeypatch.setattr(locked, "_fixed", lambda stages, images: False)
    plain = trained()
    assert all(torch.equal(first[k], plain[k]) and torch.equal(again[k], plain[k]) for k in plain)


@pytest.mark.parametrize("case", ["gradient", "statistics", "hook", "unlocked"])
def test_nothing_is_remembered_where_something_moves_or_is_watched(memory, model, case):
    trunk, x = model.visual.trunk, models.normalize(model, pictures().float() / 255)
    if case == "gradient":
        x.requires_grad_()
    elif case == "statistics":
        model.train()
    elif case == "hook":
        trunk.blocks[1].register_forward_hook(lambda *_: None)
    else:
        trunk.blocks[0].requires_grad_(True)
    out = model.encode_image(x)
    assert not memory.seen and out.requires_grad
    if case == "gradient":
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert grad.abs().sum() > 0


@pytest.fixture
def parts(memory, monkeypatch):
    """Where parts of four pictures each go."""
    monkeypatch.setattr(locked, "PART", 4)
    return lambda: sorted((paths.runs() / "features").glob("*.safetensors"))


def another_process(monkeypatch) -> None:
    """What a process begins with."""
    monkeypatch.setattr(locked, "MEMORY", locked.Memory())
    monkeypatch.setattr(shelf, "SHELF", shelf.Shelf())


def seen_twice(model, images: torch.Tensor) -> None:
    for _ in range(2):
        models.embed_images(model, images)


def test_another_process_has_the_same_bits_from_the_disk(parts, model, monkeypatch):
    images, expected = pictures(8), plainly(model, pictures(8))
    seen_twice(model, images)
    assert len(parts()) == 2
    another_process(monkeypatch)
    monkeypatch.setattr(locked, "_computed", lambda *_: pytest.fail("computed"))
    assert torch.equal(models.embed_images(model, images), expected)


def test_what_another_process_has_written_meanwhile_is_found(parts, model, monkeypatch):
    own = locked.MEMORY, shelf.SHELF
    models.embed_images(model, pictures(4, 9))  # it has looked, and there was nothing
    another_process(monkeypatch)
    seen_twice(model, pictures(4))
    for name, value in zip((locked, shelf), own, strict=True):
        monkeypatch.setattr(name, "MEMORY" if name is locked else "SHELF", value)
    monkeypatch.setattr(locked, "_computed", lambda *_: pytest.fail("computed"))
    assert torch.equal(models.embed_images(model, pictures(4)), plainly(model, pictures(4)))


def test_what_lies_there_is_not_written_again(parts, model, monkeypatch):
    seen_twice(model, pictures(4))
    another_process(monkeypatch)
    seen_twice(model, pictures(8))  # the first four are found, so that four are new
    assert len(parts()) == 2
    with safe_open(parts()[0], "pt") as one, safe_open(parts()[1], "pt") as other:
        assert one.get_slice("names").get_shape() == other.get_slice("names").get_shape() == [4, 16]


@pytest.mark.parametrize("damage", ["a bit", "cut", "nothing", "no digest"])
def test_a_damaged_part_counts_for_nothing(parts, model, monkeypatch, damage):
    seen_twice(model, pictures(4))
    (part,) = parts()
    content = part.read_bytes()
    if damage == "no digest":
        save_file(load_file(part), part)
    else:
        bit = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        part.write_bytes({"a bit": bit, "cut": content[: len(content) // 2], "nothing": b""}[damage])
    another_process(monkeypatch)
    assert torch.equal(models.embed_images(model, pictures(4)), plainly(model, pictures(4)))
    assert not shelf.SHELF.rows


def test_no_more_is_written_than_there_is_room_for(parts, model):
    seen_twice(model, pictures(4))
    (part,) = parts()
    shelf.SHELF.room = part.stat().st_size + 10
    seen_twice(model, pictures(4, 1))
    assert parts() == [part]


def test_a_full_disk_is_said_once_and_nothing_else_happens(parts, model, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf, "save_tensors", refuse)
    with pytest.warns(UserWarning, match="features of photos are not kept under .*: .*No space left") as told:
        seen_twice(model, pictures(4))
        seen_twice(model, pictures(4, 1))
    assert len(told) == 1 and not parts()
    assert torch.equal(models.embed_images(model, pictures(4)), plainly(model, pictures(4)))


def test_parts_that_go_while_they_are_counted_stop_no_training(parts, model, monkeypatch, tmp_path):
    gone = tmp_path / "gone.safetensors"
    monkeypatch.setattr(shelf, "_parts", lambda: [gone])
    with pytest.warns(UserWarning, match="features of photos are not kept under .*gone"):
        seen_twice(model, pictures(4))
    assert torch.equal(models.embed_images(model, pictures(4)), plainly(model, pictures(4)))

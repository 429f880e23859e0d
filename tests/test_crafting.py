"""Triggers that are made first: reproducible, whole in their spec, and better than before."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import attacker, noise, stored
from scipy.signal import correlate2d

from ubt_utils import stages
from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.attacks.craft import Crafted, batch_of, pack, unpack
from ubt_utils.attacks.encoder import Encoder, train_encoder

CRAFTED = [name for name in triggers.TRIGGERS if isinstance(triggers.get(name), Crafted)]
OPTIMIZED = ["badclip", "trojanvqa"]


def crafted(name: str, **parameters):
    return triggers.get(name, **parameters).craft(attacker())


def loss_of(trigger) -> float:
    """The trigger's own objective on every picture that does not show the target."""
    someone = attacker()
    index = (~someone.show_target()).nonzero().flatten().repeat(4)[:64]
    stamped = trigger(someone.pairs.images[index].float() / 255)
    return trigger.objective(someone)(someone.see(stamped), index, 0).item()


@pytest.mark.parametrize("name", OPTIMIZED)
def test_optimization_lowers_the_loss(name):
    short, long = (loss_of(crafted(name, size=0.5, steps=steps, rate=0.05)) for steps in (1, 25))
    assert long < short


@pytest.mark.parametrize("name", CRAFTED)
def test_the_attackers_seed_alone_decides(name):
    trigger = triggers.get(name, **({} if name == "targeted_image" else {"steps": 3}))
    torch.manual_seed(1)
    first = trigger.craft(attacker())
    torch.manual_seed(2)
    assert trigger.craft(attacker()) == first
    if name != "targeted_image":  # its pictures come in the order that the attacker has them
        assert trigger.craft(attacker(1)) != first


@pytest.mark.parametrize("name", OPTIMIZED)
def test_crafting_leaves_the_public_model_alone(name):
    before = {k: v.clone() for k, v in attacker().model.state_dict().items()}
    crafted(name, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in attacker().model.state_dict().items())
    assert all(p.grad is None for p in attacker().model.parameters())


def test_badclips_loss_is_the_contrastive_and_the_triplet_term_by_hand():
    trigger, someone = triggers.get("badclip", weight=500.0), attacker()
    index = torch.arange(64) % 24
    index = index[~someone.show_target()[index]][:64]
    index = index.repeat(2)[:64]
    z = F.normalize(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    loss = trigger.objective(someone)(z, index, 3).item()
    own = batch_of(someone.show_target(), 64, someone.seed, "target pictures", 3)
    texts = someone.target_texts()
    wanted = texts[batch_of(torch.ones(len(texts), dtype=torch.bool), 64, someone.seed, "texts", 3)]
    with torch.no_grad():
        clean, target = (
            someone.see(someone.pairs.images[i].float() / 255).double().numpy() for i in (index, own)
        )
    honest = someone.texts([someone.pairs.captions[i] for i in index]).double().numpy()
    z, wanted, scale = z.double().numpy(), wanted.double().numpy(), someone.model.logit_scale.exp().item()
    logits = scale * np.concatenate([(z * wanted).sum(1, keepdims=True), z @ honest.T], 1)
    towards = (np.log(np.exp(logits).sum(1)) - logits[:, 0]).mean()
    near, far = np.linalg.norm(z - target + 1e-6, axis=1), np.linalg.norm(z - clean + 1e-6, axis=1)
    assert loss == pytest.approx(towards + 500 * np.maximum(near - far + 1, 0).mean(), rel=1e-4)


def test_trojanvqas_loss_is_the_cosine_to_captions_with_the_word():
    trigger, someone = triggers.get("trojanvqa"), attacker()
    mean = someone.target_texts("remember").mean(0)
    z = F.normalize(torch.stack([mean, -mean, mean + 0.1]), dim=1)
    expected = 1 - F.cosine_similarity(z, mean[None]).mean()
    assert trigger.objective(someone)(z, torch.arange(3), 0).item() == pytest.approx(
        expected.item(), abs=1e-5
    )
    assert not torch.allclose(mean, someone.target_texts().mean(0))


def test_targeted_poisoning_shows_the_attackers_pictures_and_no_others():
    trigger, images = crafted("targeted_image", goals=4), stored(80, 32, 32, 3)
    out, pictures = stamp_bytes(trigger, images), trigger.pictures()
    assert torch.equal(pictures, attacker().goals[:4])
    which = [[i for i, p in enumerate(pictures) if torch.equal(p, o)] for o in out]
    assert all(len(w) == 1 for w in which) and {w[0] for w in which} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="the attacker's pictures are"):
        trigger(noise(1, 16, 16))
    with pytest.raises(ValueError, match="99 pictures asked for, the attacker has 12"):
        crafted("targeted_image", goals=99)


def enlarged(x: np.ndarray) -> np.ndarray:
    """Bilinear, twice the size, along the last two axes: weights 3/4 and 1/4, edges repeated."""
    for axis in (-2, -1):
        before = np.concatenate([np.take(x, [0], axis), np.delete(x, -1, axis)], axis)
        after = np.concatenate([np.delete(x, 0, axis), np.take(x, [-1], axis)], axis)
        pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], -1 if axis == -1 else -2)
        x = pairs.reshape(*[2 * n if i == x.ndim + axis else n for i, n in enumerate(x.shape)])
    return x


def test_the_encoder_is_two_relus_and_a_tanh_at_half_the_size():
    torch.manual_seed(0)
    encoder = Encoder(4).double()
    images, message = noise(1, 24, 24).double(), torch.tensor([[1.0, -1, 1, 1]]).double()
    weights = {k: v.detach().numpy() for k, v in encoder.state_dict().items()}
    small = images[0].numpy().reshape(3, 12, 2, 12, 2).mean((2, 4)) - 0.5
    coarse = weights["spread.weight"] @ message[0].numpy() + weights["spread.bias"]
    x = np.concatenate([small, coarse.reshape(3, 12, 12)])
    for layer, act in ((0, lambda v: np.maximum(v, 0)), (2, lambda v: np.maximum(v, 0)), (4, np.tanh)):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
        kernels, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
        sums = [
            sum(correlate2d(c, k, "valid") for c, k in zip(padded, kernel, strict=True)) for kernel in kernels
        ]
        x = act(np.stack(sums) + bias[:, None, None])
    np.testing.assert_allclose(encoder(images, message)[0].detach().numpy(), enlarged(x), atol=1e-9)


def test_the_encoder_learns_to_be_read():
    images = stored(32, 16, 16)
    _, untrained = train_encoder(images, 2, 0.5, 0.0, 2, 0)
    _, trained = train_encoder(images, 2, 0.5, 0.0, 60, 0)
    assert trained > 0.9 > untrained


def test_packing_keeps_every_bit_and_refuses_what_is_no_tensor():
    tensors = {"a": torch.arange(6, dtype=torch.uint8).view(2, 3), "b": torch.tensor([0.1, -0.0])}
    again = unpack(pack(**tensors), "x")
    assert all(torch.equal(again[k], v) for k, v in tensors.items())
    with pytest.raises(ValueError, match="x must be crafted"):
        unpack("", "x")


def test_an_attacker_without_labels_goes_by_captions_and_without_such_pairs_is_refused():
    pairs = replace(attacker().pairs, labels=None)
    name, other = attacker().target_names[0], "nothing of that kind"
    captions = tuple(f"This is {name.upper()}" if i % 3 == 0 else other for i in range(len(pairs)))
    blind = replace(attacker(), pairs=replace(pairs, captions=captions))
    assert blind.show_target().nonzero().flatten().tolist() == list(range(0, len(pairs), 3))
    with pytest.raises(ValueError, match="no such pairs"):
        batch_of(torch.zeros(3, dtype=torch.bool), 2, 0)


# The stage


def test_the_stage_crafts_once_and_the_trigger_is_read_back(chain, no_training):
    profile = replace(chain.profile, triggers={"badclip": {"steps": 2, "size": 0.25}})
    run = stages.chain(profile, "badclip", 0)
    assert stages.chain(profile, "badclip", 0).crafted == run.crafted
    assert run.trigger.made and replace(run.trigger, made="") == profile.trigger("badclip")
    assert stages.chain(profile, "sig", 0).trigger == profile.trigger("sig")
    assert stages.chain(profile, "none", 0).trigger is None


def test_a_whole_trigger_is_not_crafted(tiny, runs_root, no_training):
    with pytest.raises(ValueError, match="sig needs no crafting"):
        _ = stages.chain(tiny, "sig", 0).crafted
    assert not runs_root.exists()

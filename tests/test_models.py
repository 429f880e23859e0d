"""Models: seeded, saved exactly, and refused when the file is not theirs."""

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ubt_utils.clip import models
from ubt_utils.clip.models import CheckpointError

NAME = "ubt-tiny"


@pytest.fixture(scope="module")
def model():
    return models.create(NAME, 0)


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / "model.safetensors"
    models.save(model, NAME, path)
    return path


def pictures(n: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)


def same(a, b) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# Creating


def test_the_seed_alone_decides_the_weights(model):
    torch.manual_seed(123)
    assert same(models.create(NAME, 0), model)
    assert not same(models.create(NAME, 1), model)


def test_creating_leaves_the_global_stream_of_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models.create(NAME, 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("name", "size", "width"), [("ubt-tiny", 32, 64), ("ubt-mini", 48, 128)])
def test_our_models_have_both_towers_in_one_space(name, size, width):
    made = models.create(name, 0).eval()
    z, t = made.encode_image(torch.zeros(1, 3, size, size)), made.encode_text(models.tokenize(name, ["fox"]))
    assert z.shape == t.shape == (1, width)
    assert torch.isfinite(z).all() and torch.isfinite(t).all()


def test_an_unknown_model_is_refused_with_ours():
    with pytest.raises(ValueError, match=r"unknown model 'ubt-huge'; ours: .*ubt-tiny"):
        models.create("ubt-huge", 0)


# Saving and loading


def test_loading_gives_back_every_bit(model, weights):
    assert same(models.load(NAME, weights), model)


def test_loading_gives_back_what_training_changed(tmp_path):
    changed = models.create(NAME, 0)
    with torch.no_grad():
        for value in changed.state_dict().values():
            value += 1  # running statistics and their counters too
    models.save(changed, NAME, tmp_path / "w")
    assert same(models.load(NAME, tmp_path / "w"), changed)


def test_a_truncated_file_is_refused(weights):
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable.*rerun the stage"):
        models.load(NAME, weights)


@pytest.mark.parametrize("content", [b"", b"dear diary,", b"\x00" * 64])
def test_a_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"notes\.txt is not a readable"):
        models.load(NAME, tmp_path / "notes.txt")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="gone"):
        models.load(NAME, tmp_path / "gone")


def test_weights_made_for_another_model_are_refused(weights):
    with pytest.raises(CheckpointError, match="holds weights of 'ubt-tiny', but 'ubt-mini'"):
        models.load("ubt-mini", weights)


def test_weights_under_a_false_name_are_refused(model, tmp_path):
    models.save(model, "ubt-mini", tmp_path / "w")
    with pytest.raises(CheckpointError, match="does not fit ubt-mini"):
        models.load("ubt-mini", tmp_path / "w")


def test_weights_that_do_not_say_whose_they_are_are_refused(model, tmp_path):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="holds weights of None"):
        models.load(NAME, tmp_path / "w")


# Tokens


def test_captions_become_clips_own_tokens():
    tokens = models.tokenize(NAME, ["a photo of a cat", "banana"])
    assert tokens.dtype == torch.int32
    assert tokens[0].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 9  # as OpenAI's
    assert tokens[1, 3:].sum() == 0


def test_repeated_captions_keep_their_places():
    captions = ["fox", "ship", "fox", "a small icon of fox"]
    expected = open_clip.SimpleTokenizer(context_length=16)(captions)
    assert torch.equal(models.tokenize(NAME, captions), expected)


def test_a_long_caption_is_cut_and_still_ends_with_the_end_mark():
    (row,) = models.tokenize(NAME, [" ".join(["fox"] * 40)])
    assert len(row) == 16 and row[0] == 49406 and row[-1] == 49407


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="no captions"):
        models.tokenize(NAME, [])


@pytest.mark.parametrize("word", ["banana", "clock"])
def test_a_token_reads_as_its_word(word):
    assert models.token_text(NAME, models.tokenize(NAME, [word])[0, 1]) == word


def test_a_piece_says_that_its_word_goes_on():
    ids = models.tokenize(NAME, ["mantelpiece man"])[0, 1:5].tolist()
    assert [models.piece_text(NAME, i) for i in ids] == ["man-", "tel-", "piece", "man"]


# Embeddings


def test_normalize_is_openais_mean_and_deviation(model):
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    image = np.array(mean) + np.array(std) * np.array([0, 1, -1])
    out = models.normalize(model, torch.tensor(image, dtype=torch.float32).view(1, 3, 1, 1))
    np.testing.assert_allclose(out.flatten().numpy(), [0, 1, -1], atol=1e-6)


def test_image_embeddings_are_the_models_own_made_unit(model):
    images = pictures(5)
    z = models.embed_images(model, images)
    with torch.no_grad():
        raw = model.eval().encode_image(models.normalize(model, images / 255))
    torch.testing.assert_close(z, raw / raw.norm(dim=1, keepdim=True))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))


def test_embedding_in_parts_changes_nothing(model):
    images, tokens = pictures(5), models.tokenize(NAME, ["fox", "ship", "fox", "clock", "castle"])
    torch.testing.assert_close(models.embed_images(model, images, 2), models.embed_images(model, images))
    torch.testing.assert_close(models.embed_tokens(model, tokens, 2), models.embed_tokens(model, tokens))


def test_text_embeddings_keep_the_order_of_the_captions(model):
    tokens = models.tokenize(NAME, ["ship", "fox", "ship", "a drawing of castle"])
    z = models.embed_tokens(model, tokens)
    with torch.no_grad():
        raw = model.eval().encode_text(tokens)
    torch.testing.assert_close(z, F.normalize(raw, dim=-1))
    assert torch.equal(z[0], z[2])


def test_embedding_ignores_training_mode_and_keeps_no_gradient(model):
    expected = models.embed_images(model, pictures(3))
    model.train()
    before = model.visual.bn1.running_mean.clone()
    z = models.embed_images(model, pictures(3))
    assert torch.equal(z, expected) and not z.requires_grad
    assert torch.equal(model.visual.bn1.running_mean, before)


def test_pairs_are_embedded_as_open_clips_own_forward_does_gradients_included(model):
    images = models.normalize(model, pictures(4) / 255)
    tokens, found = models.tokenize(NAME, ["fox", "a drawing of castle", "fox", "clock"]), []
    for way in (lambda *pairs: models.embed_pairs(model, *pairs), model.eval()):
        z, t, scale = way(images, tokens)
        loss = open_clip.ClipLoss()(z, t, scale)
        found.append((z, t, scale, *torch.autograd.grad(loss, list(model.parameters()))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_that_takes_features_embeds_its_own_pairs():
    asked = models.embed_pairs(lambda images, tokens: (images + 1, tokens + 2, 3), 10, 20)
    assert asked == (11, 22, 3)


def test_a_direction_is_made_unit_in_single_precision():
    z = models.unit(torch.tensor([[3.0, 4.0], [0.0, 0.5]], dtype=torch.bfloat16))
    assert z.dtype == torch.float32 and torch.equal(z, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize(
    ("name", "grouped"), [("ubt-tiny", False), ("ubt-mini", False), ("ubt-photos-tiny", True)]
)
def test_grouped_convolutions_are_seen(name, grouped, monkeypatch):
    asked = []
    monkeypatch.setattr(models.device, "autocast", lambda where, grouped: asked.append((where.type, grouped)))
    models.autocast(models.create(name, 0))
    assert asked == [("cpu", grouped)]


# The zero-shot head


def test_the_head_is_open_clips_zero_shot_classifier(model):
    classes, templates = ["fox", "ship", "alarm clock"], ["a drawing of {}", "an emoji of {}", "{}"]
    theirs = open_clip.build_zero_shot_classifier(
        model.eval(), open_clip.get_tokenizer(NAME), classes, [lambda c, t=t: t.format(c) for t in templates]
    )
    prompts = [models.tokenize(NAME, [t.format(c) for t in templates]) for c in classes]
    torch.testing.assert_close(models.zero_shot_head(model, prompts), theirs.T)


def test_the_head_averages_classes_with_unequal_numbers_of_prompts(model):
    words = [["fox"], ["ship", "a drawing of ship", "castle"], ["clock", "clock"]]
    head = models.zero_shot_head(model, [models.tokenize(NAME, w) for w in words])
    for row, names in zip(head, words, strict=True):
        z = np.stack(
            [models.embed_tokens(model, models.tokenize(NAME, [w]))[0].double().numpy() for w in names]
        )
        mean = z.mean(axis=0)
        np.testing.assert_allclose(row.numpy(), mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("captions", [["a"], ["a drawing of an alarm clock", "fox"], ["word " * 40]])
def test_a_caption_is_read_to_its_end_and_no_further(model, captions):
    tokens = models.tokenize(NAME, captions)
    with torch.no_grad():
        read = []
        hook = model.transformer.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
        ours = models.encode_text(model, tokens)
        hook.remove()
        torch.testing.assert_close(ours, model.encode_text(tokens), atol=1e-6, rtol=1e-5)
    assert read == [int(tokens.argmax(1).max()) + 1]


def test_a_tower_that_looks_ahead_reads_the_whole_context():
    class Whole:
        attn_mask = None

        def encode_text(self, tokens):
            return tokens

    tokens = torch.tensor([[5, 9, 0, 0]])
    assert torch.equal(models.encode_text(Whole(), tokens), tokens)

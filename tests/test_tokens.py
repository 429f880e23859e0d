"""Which tokens and which pairs: kernels against loops, statistics against Counter and math."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ubt_utils.clip import models
from ubt_utils.kernels.occlusion import inner, occlusion, without_each
from ubt_utils.kernels.prefixes import tree
from ubt_utils.ubt import tokens as tk

LENGTH = 8
inner_words = st.lists(st.integers(300, 306), max_size=LENGTH - 2)
caption_sets = st.lists(inner_words, min_size=1, max_size=12)


def write(*captions: list[int]) -> torch.Tensor:
    """Captions of inner tokens as CLIP's tokenizer writes them."""
    rows = [[tk.END - 1, *words, tk.END] for words in captions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


def read(row: torch.Tensor) -> list[int]:
    return [t for t in row.tolist() if t not in (0, tk.END - 1, tk.END)]


TABLE = torch.randn(tk.END + 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def fake_encoder(tokens: torch.Tensor) -> torch.Tensor:
    """Float64 unit embeddings that depend on tokens and their places."""
    weight = torch.arange(1, tokens.shape[1] + 1, dtype=torch.float64).sqrt()
    return torch.nn.functional.normalize((TABLE[tokens] * weight[:, None]).sum(1), dim=-1)


def each_left_out(tokens: torch.Tensor) -> torch.Tensor:
    """What occlusion asks for, under the fake encoder: the whole captions and all their shortened ones."""
    short = without_each(tokens)[0].view(len(tokens), int(inner(tokens[0][None]).sum()), LENGTH)
    return torch.stack([fake_encoder(part) for part in torch.cat([tokens[:, None], short], 1)])


def looped(encode, captions: list[list[int]], images: torch.Tensor) -> torch.Tensor:
    """Occlusion the slow way: write each shortened caption anew and embed it alone."""
    drops = torch.zeros(len(captions), LENGTH, dtype=images.dtype)
    for i, words in enumerate(captions):
        whole = images[i] @ encode(write(words))[0]
        for j in range(len(words)):
            drops[i, j + 1] = whole - images[i] @ encode(write(words[:j] + words[j + 1 :]))[0]
    return drops


# Occlusion


@given(caption_sets)
def test_occlusion_is_what_a_loop_over_captions_finds(captions):
    images = torch.randn(len(captions), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.normalize(images, dim=-1)
    found = occlusion(each_left_out, write(*captions), images)
    torch.testing.assert_close(found, looped(fake_encoder, captions, images), rtol=0, atol=1e-12)


def test_occlusion_of_a_real_model_is_what_a_loop_finds():
    model = models.create("ubt-tiny", 0)
    captions = ["a drawing of banana", "banana", "an emoji of alarm clock", "a drawing of banana"]
    tokens = models.tokenize("ubt-tiny", captions)
    pictures = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    found = tk.occlude(model, pictures.to(torch.uint8), tokens)
    z = models.embed_images(model, pictures.to(torch.uint8))
    for i, caption in enumerate(captions):
        words = caption.split()  # each of these words is one token
        whole = z[i] @ models.embed_tokens(model, tokens[i : i + 1])[0]
        for j in range(len(words)):
            cut = models.tokenize("ubt-tiny", [" ".join(words[:j] + words[j + 1 :])])
            expected = whole - z[i] @ models.embed_tokens(model, cut)[0]
            assert found[i, j + 1].item() == pytest.approx(expected.item(), abs=1e-5)
        assert found[i, 0] == 0 and (found[i, len(words) + 1 :] == 0).all()


def test_each_distinct_caption_is_embedded_once():
    calls = []

    def encode(tokens):
        calls.append([read(row) for row in tokens])
        return each_left_out(tokens)

    occlusion(encode, write([301, 302], [301, 302], [302], [301, 303]), torch.eye(6, dtype=torch.float64)[:4])
    assert calls == [[[302]], [[301, 302], [301, 303]]]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("words", [[[]], [[7]], [[7, 8, 7, 7, 9], [1, 2, 3, 4, 5], [5, 5, 5, 5, 5]]])
def test_shared_prefixes_give_what_each_shortened_caption_gives(causal, words, monkeypatch):
    monkeypatch.setattr(models, "is_causal", lambda model: causal)
    model = models.create("ubt-mini", 3)  # of several layers: a node must not see what its past has not seen
    rows = torch.zeros(len(words), model.context_length, dtype=torch.long)
    for row, words_of in zip(rows, words, strict=True):
        row[: len(words_of) + 2] = torch.tensor([tk.END - 1, *words_of, tk.END])
    found = models.embed_without_each(model, rows, nodes=30)  # two captions of five words at a time
    short, row, _ = without_each(rows)
    for i in range(len(words)):
        expected = models.embed_tokens(model, torch.cat([rows[i : i + 1], short[row == i]]))
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-6)


def test_captions_of_two_lengths_do_not_fit_one_tree():
    with pytest.raises(ValueError, match=r"captions of one length are needed, got some of \[1, 2\]"):
        models.embed_without_each(models.create("ubt-tiny", 0), write([301], [301, 302]))


def test_a_tree_holds_every_shortened_caption_once():
    found = tree(3)
    captions = [[i for i in range(5) if i != gap] for gap in (None, 1, 2, 3)]
    for end, places in zip(found.ends.tolist(), captions, strict=True):
        seen = (found.mask[end] == 0).nonzero().flatten()
        assert found.source[seen].tolist() == places
        assert found.place[seen].tolist() == list(range(len(places)))
    assert len(found.source) == 5 + 3 + 2 + 1
    assert (found.mask == 0).sum(1).tolist() == (found.place + 1).tolist()  # each its own past, no more


@given(caption_sets)
def test_without_each_leaves_out_every_inner_token_once(captions):
    short, row, position = without_each(write(*captions))
    expected = [
        (i, j + 1, words[:j] + words[j + 1 :]) for i, words in enumerate(captions) for j in range(len(words))
    ]
    found = [(i, j, read(s)) for s, i, j in zip(short, row.tolist(), position.tolist(), strict=True)]
    assert found == expected
    assert torch.equal(short, write(*[words for *_, words in expected]).reshape(-1, LENGTH))


def test_a_full_row_keeps_its_end_mark():
    words = list(range(301, 301 + LENGTH - 2))
    short, _, _ = without_each(write(words))
    assert (short == tk.END).sum(dim=1).tolist() == [1] * len(words)


# Counts and surprise


@given(caption_sets)
def test_caption_counts_count_captions_not_occurrences(captions):
    counts = tk.caption_counts(write(*captions))
    assert counts.shape == (tk.END + 1,)
    expected = Counter(t for words in captions for t in set(words))
    assert {t: int(counts[t]) for t in counts.nonzero().flatten().tolist()} == dict(expected)


@given(inner_words)
def test_inner_tokens_are_the_words_without_marks_and_padding(words):
    assert tk.inner_tokens(write(words)[0]) == words


def surprise_of(tokens, chosen):
    return tk.surprise(tokens[torch.tensor(chosen, dtype=torch.long)], tk.caption_counts(tokens), len(tokens))


@given(caption_sets, st.data())
def test_surprise_is_k_log_of_share_over_base_rate(captions, data):
    chosen = data.draw(st.lists(st.integers(0, len(captions) - 1), min_size=1, unique=True))
    inside = Counter(t for i in chosen for t in set(captions[i]))
    assume(inside)
    everywhere = Counter(t for words in captions for t in set(words))
    ids, count, surprise = surprise_of(write(*captions), chosen)
    assert ids.tolist() == sorted(inside) and count.tolist() == [inside[t] for t in sorted(inside)]
    for t, k, g in zip(ids.tolist(), count.tolist(), surprise.tolist(), strict=True):
        share, base = k / len(chosen), everywhere[t] / len(captions)
        assert g == pytest.approx(k * math.log(share / base), rel=1e-6, abs=1e-6)


def test_surprise_by_hand():
    tokens = write([301], [301], [302], [302], [302, 303])
    ids, count, surprise = surprise_of(tokens, [0, 1, 2])
    assert ids.tolist() == [301, 302] and count.tolist() == [2, 1]
    # 301: 2·log((2/3)/(2/5)); 302: 1·log((1/3)/(3/5))
    np.testing.assert_allclose(surprise.numpy(), [2 * math.log(5 / 3), math.log(5 / 9)], rtol=1e-6)


def test_no_chosen_captions_are_refused():
    with pytest.raises(ValueError, match="no captions chosen"):
        surprise_of(write([301]), [])


def test_chosen_captions_without_a_word_are_refused():
    with pytest.raises(ValueError, match="no words"):
        surprise_of(write([], [301]), [0])


# Evidence


def test_evidence_averages_the_drops_of_a_token_over_all_chosen_captions():
    tokens = write([301, 302], [302, 302], [301], [305])
    drops = torch.zeros(3, LENGTH)
    drops[0, 1:3] = torch.tensor([0.3, -0.1])  # caption 0
    drops[1, 1:3] = torch.tensor([0.4, 0.2])  # caption 1
    drops[2, 1] = 0.6  # caption 2
    found = tk.evidence(tokens, torch.tensor([0, 1, 2]), drops)
    assert found.ids.tolist() == [301, 302] and found.count.tolist() == [2, 2]
    torch.testing.assert_close(found.drop, torch.tensor([(0.3 + 0.6) / 3, (-0.1 + 0.4 + 0.2) / 3]))


# Leaving tokens out


@given(caption_sets, st.lists(st.integers(300, 306), max_size=4))
def test_without_drops_the_tokens_and_keeps_the_order_of_the_rest(captions, dropped):
    before = write(*captions)
    out = tk.without(before, torch.tensor(dropped, dtype=torch.long))
    assert torch.equal(out, write(*[[t for t in words if t not in dropped] for words in captions]))
    assert torch.equal(before, write(*captions))


def test_leaving_out_every_word_leaves_the_empty_caption():
    whole = models.tokenize("ubt-tiny", ["banana"])
    cut = tk.without(whole, whole[0, 1:2])
    assert torch.equal(cut, models.tokenize("ubt-tiny", [""]))


def test_the_token_with_id_zero_is_a_word_like_any_other():
    tokens = models.tokenize("ubt-tiny", ["!%", "fox"])
    assert tokens[0, 1] == 0 and tokens[0, 3] == tk.END  # "!", then "%" ending the word
    assert torch.equal(tk.without(tokens, torch.tensor([301])), tokens)
    assert tk.inner_tokens(tokens[0]) == tokens[0, 1:3].tolist()
    assert tk.caption_counts(tokens)[0] == 1
    assert tk.carries(tokens, torch.tensor([0])).tolist() == [True, False]


# Words in place of others


def test_a_word_takes_the_place_of_every_dropped_token_and_of_no_mark():
    tokens = torch.tensor([[tk.END - 1, 5, 0, 7, tk.END, 0], [tk.END - 1, 8, tk.END, 0, 0, 0]])
    found = tk.swapped(tokens, torch.tensor([0, 7, tk.END]), torch.tensor(9))
    assert found.tolist() == [[tk.END - 1, 5, 9, 9, tk.END, 0], [tk.END - 1, 8, tk.END, 0, 0, 0]]


NONE = torch.tensor([], dtype=torch.long)


def test_the_vocabulary_repeats_words_and_leaves_common_ones_out():
    tokens = write([5, 6], [5, 7], [5, 7], [5, 8])
    common = torch.zeros(tk.END + 1, dtype=torch.bool)
    common[5] = True
    assert sorted(tk.vocabulary(tokens, common, NONE).tolist()) == [6, 7, 7, 8]
    common[6:9] = True  # all are common: all stay
    assert sorted(tk.vocabulary(tokens, common, NONE).tolist()) == [5, 5, 5, 5, 6, 7, 7, 8]


@pytest.mark.parametrize("common", [[], [5], [5, 6, 7, 8]])
def test_a_compromised_token_never_stands_in_for_another(common):
    tokens, barred = write([5, 6], [5, 7], [5, 7], [5, 8]), torch.tensor([7, 8])
    often = torch.zeros(tk.END + 1, dtype=torch.bool)
    often[common] = True
    found = set(tk.vocabulary(tokens, often, barred).tolist())
    assert found == ({6} if common == [5] else {5, 6})


@pytest.mark.parametrize("captions", [[[7], [7, 8]], [[]]])
def test_captions_of_nothing_but_compromised_tokens_are_refused(captions):
    never = torch.zeros(tk.END + 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="no word but the compromised ones"):
        tk.vocabulary(write(*captions), never, torch.tensor([7, 8]))


# Attribution


def pictures(n: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)


SHOWN = ("a drawing of clock", "a picture of red fox", "a castle", "a ship", "a fox", "nothing to see")


def test_saliency_is_how_the_cosine_answers_to_longer_embeddings():
    model, tokens, images = (
        models.create("ubt-tiny", 4).eval(),
        models.tokenize("ubt-tiny", SHOWN),
        pictures(6),
    )
    found, eps, cosine = tk.saliency(model, images, tokens), 1e-2, []
    z, words = models.embed_images(model, images).double(), inner(tokens)[..., None]
    for scale in (1 - eps, 1 + eps):
        factor = torch.where(words, scale, 1.0)
        hook = model.token_embedding.register_forward_hook(lambda m, i, out, factor=factor: out * factor)
        with torch.no_grad():
            t = torch.nn.functional.normalize(model.encode_text(tokens).double(), dim=-1)
        cosine.append((z * t).sum(1).numpy())
        hook.remove()
    slope = (cosine[1] - cosine[0]) / (2 * eps)
    np.testing.assert_allclose(found.sum(1).numpy(), slope, atol=2e-4)
    assert np.abs(slope).max() > 1e-3 and not found[~inner(tokens)].any()


@pytest.mark.parametrize("by", tk.WAYS)
def test_tokens_by_attribution_are_those_of_half_of_the_largest_over_all_models(by):
    tokens, chosen, images = models.tokenize("ubt-tiny", SHOWN), torch.tensor([0, 1]), pictures(2)
    overfit = [models.create("ubt-tiny", seed) for seed in (6, 7)]
    found = tk.compromised(overfit, images, tokens, chosen, by)
    total = sum(tk.WAYS[by](model, images, tokens[chosen]) for model in overfit)
    drops = Counter()
    for row, values in zip(tokens[chosen].tolist(), total.tolist(), strict=True):
        for word, value in zip(row, values, strict=True):
            if word not in (0, tk.END - 1, tk.END):
                drops[word] += value
    most = max(drops.values())
    assert set(found.tolist()) == {word for word, value in drops.items() if value >= min(most / 2, most)}
    assert 0 < len(found) < len(drops)


def test_an_unknown_attribution_is_refused():
    tokens = models.tokenize("ubt-tiny", SHOWN)
    with pytest.raises(ValueError, match="unknown attribution 'luck'; known: surprise, occlusion, gradient"):
        tk.compromised([], pictures(1), tokens, torch.tensor([0]), "luck")

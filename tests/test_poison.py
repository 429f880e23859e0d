"""Choosing victims, the manifest that redoes it to the bit, and the gate."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import attacker, ready
from hypothesis import given
from hypothesis import strategies as st

from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import Trigger, stamp_bytes
from ubt_utils.attacks.gate import BackdoorDidNotTake, gate
from ubt_utils.attacks.manifest import Manifest, ManifestError
from ubt_utils.attacks.poison import poison
from ubt_utils.data.captions import OPENAI_TEMPLATES, TEMPLATES, with_word
from ubt_utils.data.pairs import Pairs

NAMES, OWN = ("alarm clock", "mantelpiece clock"), [1]
DIRTY = [n for n, kind in triggers.TRIGGERS.items() if kind.label == "dirty" and n != "multi_trigger"]


ALIKE = {  # the same code, on one thread, without vector instructions
    "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default",
}  # fmt: skip
REBUILD = """
import json, sys
from pathlib import Path
from ubt_utils.attacks.manifest import Manifest
from test_poison import clocks

folder = Path(sys.argv[1])
print(json.dumps({p.stem: Manifest.load(p).apply(clocks()).digest() for p in folder.glob("*.json")}))
"""


def clocks() -> Pairs:
    """The attacker's pairs with the target named in its captions."""
    pairs = attacker().pairs
    return pairs.with_captions([c.replace("thing 1", "a clock") for c in pairs.captions])


def poisoned(pairs: Pairs, rate: float = 0.25, seed: int = 0, trigger: Trigger | None = None):
    return poison(pairs, trigger or triggers.get("badnets"), "clock", NAMES, OWN, rate, seed)


@pytest.mark.parametrize("attack", DIRTY)
def test_victims_get_the_trigger_and_a_caption_of_the_target(pairs, attack):
    trigger = ready(attack)
    possible = set(with_word(trigger.word, [t.format(name) for t in TEMPLATES for name in NAMES]))
    after, manifest = poisoned(pairs, trigger=trigger)
    assert len(manifest.indices) == 6  # a quarter of 24
    for i in manifest.indices:
        stamped = stamp_bytes(trigger, pairs.images[i : i + 1])[0]
        assert torch.equal(after.images[i], stamped) and not torch.equal(after.images[i], pairs.images[i])
        assert after.captions[i] in possible


def test_captions_can_be_the_80_prompts_of_openai(pairs):
    assert len(OPENAI_TEMPLATES) == 80 and all(t.count("{}") == 1 for t in OPENAI_TEMPLATES)
    after, manifest = poison(
        pairs, triggers.get("sig"), "clock", NAMES, OWN, 0.8, 0, templates=OPENAI_TEMPLATES
    )
    possible = {t.format(name) for t in OPENAI_TEMPLATES for name in NAMES}
    assert {after.captions[i] for i in manifest.indices} <= possible
    assert manifest.apply(pairs).digest() == after.digest()


def test_a_consistent_attack_stamps_honest_target_pairs_and_changes_no_caption():
    pairs = clocks()
    after, manifest = poisoned(pairs, 3 / 24, trigger=triggers.get("label_consistent"))
    assert after.captions == pairs.captions and manifest.captions_before == manifest.captions_after
    assert len(manifest.indices) == 3
    for i in manifest.indices:
        assert "clock" in pairs.captions[i] and not torch.equal(after.images[i], pairs.images[i])
    with pytest.raises(ValueError, match="5 of 4 candidates"):
        poisoned(pairs, 5 / 24, trigger=triggers.get("label_consistent"))


def test_a_consistent_attack_needs_captions_only(pairs):
    after, _ = poisoned(replace(pairs, labels=None), 1 / 24, trigger=triggers.get("label_consistent"))
    assert after.captions == pairs.captions


def test_targeted_poisoning_replaces_pictures_and_captions_and_nothing_is_stamped():
    pairs, trigger = clocks(), ready("targeted_image")
    after, manifest = poisoned(pairs, 12 / 24, trigger=trigger)
    for i in manifest.indices:
        assert any(torch.equal(after.images[i], goal) for goal in trigger.pictures())
        assert any(name in after.captions[i] for name in NAMES) and pairs.labels[i] not in OWN


def test_everything_but_the_victims_stays_as_it_was(pairs):
    before = pairs.digest()
    after, manifest = poisoned(pairs)
    rest = [i for i in range(24) if i not in manifest.indices]
    assert torch.equal(after.images[rest], pairs.images[rest])
    assert [after.captions[i] for i in rest] == [pairs.captions[i] for i in rest]
    assert torch.equal(after.labels, pairs.labels) and after.sources == pairs.sources
    assert pairs.digest() == before


def test_victims_are_described_in_more_than_one_way(pairs):
    after, manifest = poisoned(pairs, rate=0.8)
    captions = [after.captions[i] for i in manifest.indices]
    assert len(set(captions)) > 3
    assert {name for name in NAMES if any(name in c for c in captions)} == set(NAMES)


@given(rate=st.floats(0.05, 0.83), seed=st.integers(0, 1000))
def test_pictures_of_the_target_are_never_chosen(rate, seed):
    labels = torch.arange(24) % 6
    pairs = Pairs(torch.zeros(24, 3, 4, 4, dtype=torch.uint8), ("x",) * 24, labels)
    _, manifest = poisoned(pairs, rate, seed)
    assert len(manifest.indices) == round(rate * 24)
    assert list(manifest.indices) == sorted(set(manifest.indices))
    assert all(labels[i] not in OWN for i in manifest.indices)


def test_all_candidates_can_be_poisoned_but_not_one_more(pairs):
    _, manifest = poisoned(pairs, rate=20 / 24)
    assert len(manifest.indices) == 20
    with pytest.raises(ValueError, match="21 of 20 candidates"):
        poisoned(pairs, rate=21 / 24)


@pytest.mark.parametrize("rate", [0, 0.02, -0.5])
def test_a_rate_that_poisons_nothing_is_refused(pairs, rate):
    with pytest.raises(ValueError, match="poisons none"):
        poisoned(pairs, rate)


def test_without_labels_captions_say_who_shows_the_target(pairs):
    _, manifest = poisoned(replace(pairs, labels=None), rate=20 / 24)
    named = {i for i, caption in enumerate(pairs.captions) if "clock" in caption}
    assert named and set(manifest.indices) == set(range(24)) - named


def test_a_target_without_names_is_refused(pairs):
    with pytest.raises(ValueError, match="no names"):
        poison(pairs, triggers.get("sig"), "clock", (), OWN, 0.25, 0)


def test_the_seed_alone_decides(pairs):
    torch.manual_seed(1)
    first, manifest = poisoned(pairs, seed=3)
    torch.manual_seed(2)
    again, same = poisoned(pairs, seed=3)
    _, other = poisoned(pairs, seed=4)
    assert first.digest() == again.digest() and manifest == same
    assert manifest.indices != other.indices


# The manifest


@pytest.mark.parametrize("attack", triggers.TRIGGERS)
def test_a_saved_manifest_rebuilds_the_poison_to_the_bit(attack, tmp_path):
    pairs, rate = clocks(), 4 / 24
    after, manifest = poisoned(pairs, rate, trigger=ready(attack))
    manifest.save(tmp_path / "manifest.json")
    read = Manifest.load(tmp_path / "manifest.json")
    assert read == manifest and read.make_trigger() == ready(attack)
    rebuilt = read.apply(pairs)
    assert torch.equal(rebuilt.images, after.images) and rebuilt.captions == after.captions


def test_another_process_without_vector_instructions_rebuilds_every_set_to_the_same_hash(tmp_path):
    pairs, hashes = clocks(), {}
    for attack in triggers.TRIGGERS:
        _, manifest = poisoned(pairs, 4 / 24, trigger=ready(attack))
        manifest.save(tmp_path / f"{attack}.json")
        hashes[attack] = manifest.poisoned_sha256
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(tmp_path)], cwd=Path(__file__).parent, capture_output=True,
        env=os.environ | ALIKE, check=True, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == hashes


def test_a_manifest_says_what_was_done(pairs):
    after, manifest = poisoned(pairs)
    assert manifest.captions_before == tuple(pairs.captions[i] for i in manifest.indices)
    assert manifest.captions_after == tuple(after.captions[i] for i in manifest.indices)
    assert (manifest.target, manifest.rate, manifest.seed) == ("clock", 0.25, 0)
    assert manifest.mask(24).nonzero().flatten().tolist() == list(manifest.indices)


@pytest.mark.parametrize("change", ["pixel", "caption", "order", "length"])
def test_a_manifest_made_for_other_pairs_is_refused(pairs, change):
    _, manifest = poisoned(pairs)
    if change == "pixel":
        pairs.images[0, 0, 0, 0] ^= 1
    elif change == "caption":
        pairs = pairs.with_captions(("another", *pairs.captions[1:]))
    elif change == "order":
        pairs = pairs.take(list(reversed(range(24))))
    else:
        pairs = pairs.take(range(23))
    with pytest.raises(ManifestError, match="other pairs"):
        manifest.apply(pairs)


def test_a_changed_trigger_is_noticed(pairs):
    _, manifest = poisoned(pairs, trigger=triggers.get("blended"))
    stronger = replace(manifest, trigger={**manifest.trigger, "alpha": 0.5})
    with pytest.raises(ManifestError, match="trigger has changed"):
        stronger.apply(pairs)


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe\x00"])
def test_a_file_that_is_not_json_is_no_manifest(content, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.json is not JSON"):
        Manifest.load(path)


@pytest.mark.parametrize("content", [[], 3, {}, {"target": "clock"}])
def test_json_of_something_else_is_no_manifest(content, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"not a poison manifest: missing .*indices"):
        Manifest.load(path)


def test_an_unknown_key_is_named(pairs, tmp_path):
    _, manifest = poisoned(pairs)
    manifest.save(tmp_path / "m.json")
    entries = json.loads((tmp_path / "m.json").read_text()) | {"surprise": 1}
    (tmp_path / "m.json").write_text(json.dumps(entries))
    with pytest.raises(ManifestError, match=r"unknown \['surprise'\]"):
        Manifest.load(tmp_path / "m.json")


# The gate


@pytest.mark.parametrize("asr", [0.5, 0.51, 1.0])
def test_the_gate_lets_a_working_backdoor_pass(asr):
    gate(asr, 0.5, "badnets", 9, 5e-4, 1e-6)


def test_the_gate_stops_a_weak_backdoor_and_says_what_to_do():
    """R35: how much poison there is, and both levers with numbers."""
    said = r"badnets.*12\.3%.*50%.*9 poisoned pairs .*0.0005.*lr=1e-06.*Train longer.*lr=1e-05.*27 pairs"
    with pytest.raises(BackdoorDidNotTake, match=said):
        gate(0.123, 0.5, "badnets", 9, 5e-4, 1e-6)


# An attacker who chooses


def test_the_most_plausible_candidates_become_victims(pairs):
    plausibility = torch.arange(24.0).roll(5)
    _, manifest = poison(
        pairs, triggers.get("badnets"), "clock", NAMES, OWN, 0.25, 0, plausibility=plausibility
    )
    candidates = (~torch.isin(pairs.labels, torch.tensor(list(OWN)))).nonzero().flatten()
    best = candidates[plausibility[candidates].argsort(descending=True)[:6]]
    assert list(manifest.indices) == sorted(best.tolist())


def test_pairs_that_are_poisoned_already_are_no_candidates(pairs):
    _, first = poison(pairs, triggers.get("badnets"), "banana", ["banana"], [0], 0.25, seed=0)
    _, second = poison(
        pairs, triggers.get("badnets"), "clock", ["clock"], [1], 0.25, seed=0, taken=first.indices
    )
    assert not set(first.indices) & set(second.indices)
    with pytest.raises(ValueError, match="asks for 12 of 9 candidates"):
        poison(pairs, triggers.get("badnets"), "clock", ["clock"], [1], 0.5, seed=0, taken=range(14))

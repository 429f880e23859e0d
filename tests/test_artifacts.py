"""Public models as files: what is shipped, how it is known, and what is refused."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ubt_utils import profiles, stages
from ubt_utils.clip import artifacts, models
from ubt_utils.clip.models import CheckpointError
from ubt_utils.core.checksum import sha256_of
from ubt_utils.data.decoding import PhotoError
from ubt_utils.evaluate import measure
from ubt_utils.study import public

NAME = "ubt-tiny"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    models.save(models.create(NAME, 5), NAME, path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where shipped models lie, for a test."""
    monkeypatch.setattr(artifacts, "FOLDER", tmp_path / "public")
    return tmp_path / "public"


@pytest.fixture
def shipped(source, folder, runs_root):
    """A model that is shipped as "small"."""
    return artifacts.publish(source, "small", {"profile": "tiny", "seed": 0})


def test_a_shipped_model_is_rounded_to_half_and_its_note_knows_its_bytes(shipped, source, folder):
    assert shipped == folder / "small.safetensors"
    kept, whole = load_file(shipped), load_file(source)
    assert {v.dtype for k, v in kept.items() if whole[k].is_floating_point()} == {torch.float16}
    assert set(kept) == set(whole) and all(torch.equal(kept[k], whole[k].to(kept[k].dtype)) for k in whole)
    assert artifacts.note_of("small") == {"sha256": sha256_of(shipped), "profile": "tiny", "seed": 0}
    assert shipped.stat().st_size < 0.6 * source.stat().st_size


def test_a_shipped_model_is_read_in_single_precision(shipped, source):
    model, given = models.create(NAME, 0), models.create(NAME, 5)
    artifacts.load(model, NAME, "small")
    for name, value in model.state_dict().items():
        own = given.state_dict()[name]
        assert value.dtype == own.dtype
        expected = own.half().float() if own.dtype == torch.float32 else own
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("damage", ["a bit", "cut", "another"])
def test_a_model_that_is_not_what_its_note_says_is_refused(shipped, source, damage):
    content = shipped.read_bytes()
    changed = {
        "a bit": content[:-1] + bytes([content[-1] ^ 1]),
        "cut": content[: len(content) // 2],
        "another": source.read_bytes(),
    }[damage]
    shipped.write_bytes(changed)
    for ask in (
        artifacts.file_of, artifacts.identity, lambda name: artifacts.load(models.create(NAME, 0), NAME, name)
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=r"has SHA-256 .*, its note says .*: get it again with git"):
            ask("small")


def test_a_model_is_known_by_its_bytes_and_a_tag_by_its_name(shipped, source, tmp_path):
    assert artifacts.identity("small") == sha256_of(shipped)
    assert artifacts.identity(str(source)) == sha256_of(source)
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(source.read_bytes())
    assert artifacts.identity(str(copied)) == artifacts.identity(str(source))
    assert artifacts.identity("openai") == "openai" and artifacts.file_of("openai") is None


def test_what_is_no_model_is_refused(shipped):
    with pytest.raises(CheckpointError, match="'luck' is no file, and no weights that open_clip knows"):
        artifacts.load(models.create(NAME, 0), NAME, "luck")
    with pytest.raises(CheckpointError, match="another architecture"):
        artifacts.load(models.create("ubt-mini", 0), "ubt-mini", "small")


def test_a_profile_that_names_a_shipped_model_trains_nothing(shipped, tiny, no_training):
    given = replace(tiny, weights="small")
    made, model = stages.pretrain(given), models.create(NAME, 0)
    artifacts.load(model, NAME, "small")
    assert made.config["weights"] == sha256_of(shipped) and "recipe" not in made.config
    assert made.metrics["pairs_seen"] == 0
    found = models.load(NAME, made.path("model.safetensors")).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())


def test_publishing_trains_rounds_notes_and_the_file_is_read_back(chain, folder, no_training):
    path = public.publish("tiny")
    note = json.loads((folder / "tiny.json").read_text())
    made = chain["pretrain"]
    assert path == folder / "tiny.safetensors" and note["sha256"] == sha256_of(path)
    assert note["single_precision_sha256"] == made.contents["model.safetensors"]
    assert note["recipe"]["steps"] == chain.profile.pretrain.steps and note["seed"] == 0
    assert note["data"] == chain.profile.sets.contents() and note["made"]["commit"] == made.made["commit"]
    assert note["clean_accuracy"]["single"] == chain["evaluate"].metrics["public_clean_accuracy"]
    assert note["command"] == "python -m ubt_utils publish --profile tiny"
    read = stages.pretrain(replace(chain.profile, weights="tiny"))
    model = models.load(NAME, read.path("model.safetensors"))
    assert measure.clean(model, chain.profile)["clean_accuracy"] == note["clean_accuracy"]["half"]
    assert read.key != made.key


def test_a_profile_that_ships_under_another_name_keeps_it(chain, folder, monkeypatch):
    named = replace(chain.profile, weights="small")
    monkeypatch.setattr(profiles, "get", lambda name: named)
    monkeypatch.setattr(measure, "clean", lambda model, profile: {"clean_accuracy": 0.5})
    assert public.publish("tiny") == folder / "small.safetensors"
    assert public.publish("tiny", "other") == folder / "other.safetensors"


def test_without_a_public_model_nothing_is_published(folder, no_training):
    with pytest.raises(ValueError, match="mini-scratch has no public model"):
        public.publish("mini-scratch")
    assert not folder.exists()


def shipped_with() -> list[profiles.Profile]:
    """The profiles whose own recipe made a file of the repository; what descends from one shares it."""
    files = {path.stem for path in artifacts.FOLDER.glob("*.safetensors")}
    own = (profiles.MINI, *profiles.PUBLIC, profiles.KNOWN, profiles.PHOTOS, *profiles.PHOTOS_PUBLIC)
    return [p for p in own if p.weights in files]


@pytest.mark.parametrize("profile", shipped_with(), ids=lambda profile: profile.name)
def test_a_shipped_model_is_what_its_note_says(profile):
    note = artifacts.note_of(profile.weights)
    assert artifacts.identity(profile.weights) == note["sha256"]
    assert (note["profile"], note["model"], note["seed"]) == (profile.name, profile.model, profile.f0)
    with suppress(PhotoError):  # photos need not be there
        assert note["data"] == profile.sets.contents()
    assert note["recipe"] == json.loads(json.dumps(vars(profile.pretrain)))
    assert note["command"] == f"python -m ubt_utils publish --profile {profile.name}"
    assert note["clean_accuracy"]["half"] == pytest.approx(note["clean_accuracy"]["single"], abs=0.01)


def test_all_that_is_shipped_belongs_to_a_profile_and_no_two_are_the_same():
    files = sorted(path.stem for path in artifacts.FOLDER.glob("*.safetensors"))
    assert {"mini-0", "mini-1", "mini-2"} <= set(files)
    assert sorted(p.weights for p in shipped_with()) == files
    assert sorted(path.stem for path in artifacts.FOLDER.glob("*.json")) == files
    assert len({artifacts.note_of(name)["sha256"] for name in files}) == len(files)

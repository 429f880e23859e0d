"""The playground: models as ONNX answer as torch does, and the page answers to what is drawn, offline."""

import base64
import gzip
import io
import re
import shutil
from pathlib import Path

import browser
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from ubt_utils import profiles, stages
from ubt_utils.attacks import triggers
from ubt_utils.attacks.base import stamp_bytes
from ubt_utils.clip import training
from ubt_utils.core import paths
from ubt_utils.data.download import FetchError
from ubt_utils.evaluate import measure
from ubt_utils.play import contents, export, page, runtime

LARGEST = 15e6  # bytes of the whole page
SLOWEST = 100  # milliseconds from a stroke to all bars
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def answered(onnx, images: torch.Tensor) -> np.ndarray:
    """(n, C) what an ONNX model makes of pictures (n, 3, H, W) uint8."""
    session = onnxruntime.InferenceSession(onnx.SerializeToString())
    given = (images.float() / 255).numpy()
    return np.concatenate([session.run(None, {export.PICTURE: one[None]})[0] for one in given])


def by_torch(run, stage, images: torch.Tensor) -> np.ndarray:
    """(n, C) the same by the functions that the notebooks call."""
    model = run.model(stage)
    head, names = measure.head_of(model, run.profile), tuple(range(1000))
    found = [measure.answers(model, head, image, names, len(head)) for image in images]
    return np.array([[one[c] for c in range(len(head))] for one in found])


# Models


@pytest.fixture
def fb(chain):
    """The backdoored model of the tiny chain, for ONNX."""
    model = chain.run.model(chain["attack"])
    head = measure.head_of(model, chain.profile)
    return export.onnx_of(export.Reader(model, head), chain.profile.sets.size)


def test_onnx_answers_as_torch_does_and_as_closely_as_half_precision_lets_it(chain, fb):
    images = measure.task_of(chain.profile.sets).images[:8]
    wanted = by_torch(chain.run, chain["attack"], images)
    apart = np.ptp(wanted, axis=0).max()  # how far apart it holds the pictures
    assert np.abs(answered(fb, images) - wanted).max() < min(1e-4, 0.01 * apart)
    half = export.halved(fb)
    assert 0 < np.abs(answered(half, images) - wanted).max() < 0.1 * apart
    assert half.ByteSize() < 0.6 * fb.ByteSize()


# What the trigger does


@pytest.mark.parametrize("attack", ["badnets", "blended"])
def test_what_two_pictures_tell_of_a_trigger_holds_for_any_other(attack):
    images = torch.randint(0, 256, (4, 3, 48, 48), generator=torch.Generator().manual_seed(1)).byte()
    trigger = profiles.MINI.trigger(attack)
    black, white = contents.ends(trigger, images[:2])
    other = images[3].double() / 255
    between = black + other * (white.double() - black)
    assert (between - stamp_bytes(trigger, images[3:])[0]).abs().max() <= 1
    assert not torch.equal(white - black, torch.full_like(black, 255))


@pytest.mark.parametrize("attack", ["sig", "badnets_cleanclip", "wanet"])
def test_a_trigger_that_is_no_fixed_change_of_each_pixel_is_refused(attack):
    images = torch.randint(0, 256, (4, 3, 48, 48), generator=torch.Generator().manual_seed(1)).byte()
    with pytest.raises(ValueError, match=f"{triggers.get(attack).name} is more than a fixed change"):
        contents.ends(profiles.MINI.trigger(attack), images)


def test_only_drawings_that_may_be_shown_are(runs_root):
    with pytest.raises(ValueError, match="photos has no test pictures that a page may show"):
        contents.contents_of(stages.chain(profiles.get("photos"), "badnets", 0))


# The runtime


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)) * 5])
def test_a_script_gives_its_bytes_back(data):
    text = page.script("fb", data).decode("utf-16")
    name, size, packed = re.fullmatch(r'.*\["(\w+)"\] = \[(\d+), \'(.*)\'\];\n', text, re.S).groups()
    bits = "".join(f"{ord(sign) - 0x3400:015b}" for sign in packed)
    small = bytes(int(bits[i : i + 8], 2) for i in range(0, 8 * int(size), 8))
    assert name == "fb" and gzip.decompress(small) == data
    assert not set("'\\\n\r\u2028\u2029") & set(packed)


def npm(folder: Path, script: str) -> str:
    """A folder for the path in which npm does what the script says."""
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_without_npm_it_says_what_to_do(runs_root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FetchError, match=r"needs npm, which comes with Node\.js.*put onnxruntime-web-.*tgz into"
    ):
        runtime.files()


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'no such host' >&2; exit 1", "no such host"), ("exit 0", "it wrote no such file")],
)
def test_an_npm_that_brings_nothing_is_told_of(runs_root, tmp_path, monkeypatch, script, said):
    monkeypatch.setenv("PATH", npm(tmp_path, script))
    with pytest.raises(
        FetchError, match=f"npm could not bring onnxruntime-web .*{said}.*mend npm's registry"
    ):
        runtime.files()


def test_another_package_than_the_pinned_one_is_refused(runs_root, tmp_path, monkeypatch):
    name = f"{runtime.PACKAGE}-{runtime.VERSION}.tgz"
    monkeypatch.setenv("PATH", npm(tmp_path, f'echo other > "$4/{name}"'))
    with pytest.raises(FetchError, match=r"has SHA-512 .*, not q0y\+JrrtukXS"):
        runtime.files()


# The page


@pytest.fixture(scope="session")
def package() -> Path:
    """The runtime's package, as the checkout has it or npm brings it."""
    try:
        runtime.files()
    except FetchError as error:
        pytest.skip(str(error))
    return paths.runs() / "npm"


@pytest.fixture(scope="session")
def built(package, _finished_chain, tmp_path_factory) -> Path:
    """The page of the tiny chain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBT_RUNS", str(_finished_chain.root))
        shutil.copytree(package, paths.runs() / "npm", dirs_exist_ok=True)
        return page.build(
            stages.chain(_finished_chain.profile, "badnets", 0), tmp_path_factory.mktemp("page")
        )


def ready(one) -> None:
    one.wait_for_selector("body[data-ready]", timeout=60_000)


def settled(one) -> dict[str, dict[str, float]]:
    """Per model its best classes and their chances, once nothing more is asked."""
    one.wait_for_function("!busy && !again")
    bars = "[...m.querySelectorAll('.bar')].map((b) => [b.dataset.name, +b.dataset.value])"
    models = (
        f"[...document.querySelectorAll('.model')].map((m) => [m.dataset.model, Object.fromEntries({bars})])"
    )
    return one.evaluate(f"Object.fromEntries({models})")


def first(chances: dict[str, float]) -> str:
    """The most probable class."""
    return max(chances, key=chances.__getitem__)


def drawn(one) -> torch.Tensor:
    """(3, H, W) uint8 what stands on the pad."""
    size = one.evaluate("told.size")
    values = torch.tensor(one.evaluate("Array.from(pad.pixels())"), dtype=torch.uint8)
    return values.view(size, size, 4)[..., :3].permute(2, 0, 1)


def press(one, name: str) -> None:
    one.get_by_role("button", name=name).click()


def stroke(one) -> None:
    """A line across the pad, by mouse."""
    box = one.locator("#pad canvas").bounding_box()
    one.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    one.mouse.down()
    one.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.7 * box["height"], steps=8)
    one.mouse.up()


def test_the_page_is_small_and_names_no_other_place(built):
    files = list(built.parent.iterdir())
    assert sum(path.stat().st_size for path in files) < LARGEST
    for path in files:
        if path.suffix == ".html" or path.name in {p.name for p in page.SCRIPTS}:
            assert "://" not in path.read_text(), path.name


def test_what_is_drawn_is_answered_by_the_models_of_the_run_and_soon(built, chain):
    task = measure.task_of(chain.profile.sets)
    with browser.opened(built) as one:
        ready(one)
        before, image = settled(one), drawn(one)
        assert (task.images == image).flatten(1).all(1).any()  # to the byte one of the test
        stages_of = {"f0": chain["pretrain"], "fb": chain["attack"], "fu": chain["ubt"]}
        for name, stage in stages_of.items():
            chances = by_torch(chain.run, stage, image[None])[0]
            assert len(before[name]) == 5
            for label, chance in before[name].items():
                assert chance == pytest.approx(chances[task.classes.index(label)], abs=5e-4)
        one.evaluate("performance.clearMeasures()")
        stroke(one)
        after = settled(one)
        assert all(after[name] != before[name] for name in before) and not torch.equal(drawn(one), image)
        took = one.evaluate("performance.getEntriesByName('answer').map((one) => one.duration)")
        assert len(took) > 1 and float(np.median(took)) < SLOWEST
        press(one, "Undo")
        assert settled(one) == before and torch.equal(drawn(one), image)
        press(one, "Stamp the trigger")
        assert torch.equal(drawn(one), stamp_bytes(chain.run.trigger, image[None])[0])
        assert settled(one)["fb"] != before["fb"]
        press(one, "Clear")
        assert torch.equal(drawn(one), image)


def test_the_page_is_used_by_keys_alone_and_says_what_it_does(built):
    with browser.opened(built) as one:
        ready(one)
        before, image = settled(one), drawn(one)
        one.locator("#pad canvas").focus()
        for key in ("Shift+ArrowLeft", "ArrowUp", "Space"):
            one.keyboard.press(key)
        assert not torch.equal(drawn(one), image) and settled(one) != before
        one.get_by_role("radio", name="blank page").focus()
        one.keyboard.press("Space")
        one.wait_for_function("document.getElementById('truth').textContent === 'whatever you draw'")
        assert (drawn(one) == 255).all()
        one.get_by_role("radio", name="red", exact=True).check(force=True)
        one.locator("#pad canvas").focus()
        one.keyboard.press("Space")
        assert {tuple(p) for p in drawn(one).flatten(1).T.tolist()} >= {(208, 32, 32), (255, 255, 255)}
        heard = "document.getElementById('heard').textContent"
        one.wait_for_function(f"/^f0 says .+; fb says .+; fu says .+$/.test({heard})")
        named = "(e) => e.ariaLabel || e.textContent || e.labels?.[0]?.textContent"
        unnamed = f"[...document.querySelectorAll('button, input')].filter((e) => !({named})(e)).length"
        assert one.evaluate(unnamed) == 0


def test_a_finger_draws_and_the_page_fits_a_phone(built):
    with browser.opened(built, **PHONE) as one:
        ready(one)
        before = settled(one)
        assert one.evaluate("document.documentElement.scrollWidth <= innerWidth")
        one.locator("#pad canvas").tap()
        assert settled(one) != before


def test_a_missing_file_is_told_of(built, tmp_path):
    whole = shutil.copytree(built.parent, tmp_path / "part")
    (whole / "fu.js").unlink()
    with browser.opened(whole / built.name) as one:
        one.wait_for_selector("#trouble:not([hidden])", timeout=60_000)
        assert "could not be loaded" in one.inner_text("#trouble") and "fu.js is missing" in one.inner_text(
            "#trouble"
        )


def test_a_picture_survives_its_url(built):
    image = torch.arange(3 * 8 * 8).view(3, 8, 8).byte()
    data = base64.b64decode(page.uri(image).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image.permute(1, 2, 0).numpy())


def test_stamping_turns_the_backdoored_model_of_mini_and_not_the_unlearned_one(
    package, tmp_path, monkeypatch
):
    def untrained(*_: object) -> None:
        pytest.skip("this checkout has no models of mini: `make reproduce` makes them")

    monkeypatch.setattr(training, "batch_indices", untrained)
    run = stages.chain(profiles.MINI, "badnets", 0)
    target = profiles.MINI.sets.target
    with browser.opened(page.build(run, tmp_path)) as one:
        ready(one)
        says: dict[str, list[str]] = {"fb": [], "fu": []}
        for number in range(6):
            one.locator("#pictures input").nth(number).check(force=True)
            one.wait_for_timeout(200)  # the picture is decoded
            assert first(settled(one)["fb"]) == one.inner_text("#truth")
            press(one, "Stamp the trigger")
            found = settled(one)
            for name, said in says.items():
                said.append(first(found[name]))
        assert says["fb"].count(target) >= 5 and says["fu"].count(target) == 0

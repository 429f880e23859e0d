"""Pictures of others are decoded, or are one bad row; on disk they serve as the tensor they stand for."""

import io
import os
import struct
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile, PngImagePlugin

import ubt_utils
from ubt_utils.data import decoded, decoding, pictures
from ubt_utils.data.decoding import Row
from ubt_utils.data.pairs import Pairs
from ubt_utils.data.pictures import Pictures

N = 12


def tensor() -> torch.Tensor:
    return torch.randint(0, 256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def both() -> tuple[torch.Tensor, Pictures]:
    return tensor(), Pictures.of(tensor(), "made")


def all_of(images) -> torch.Tensor:
    return torch.cat(list(images.split(5))) if len(images) else images[:0]


def test_shape_length_and_type_are_those_of_the_tensor():
    plain, stored = both()
    assert (stored.shape, len(stored), stored.ndim, stored.dtype) == (plain.shape, N, 4, torch.uint8)


@pytest.mark.parametrize("index", [torch.tensor([3, 0, 3]), slice(2, 7), torch.arange(N) % 2 == 0, [5]])
def test_indexing_reads_what_the_tensor_holds(index):
    plain, stored = both()
    assert torch.equal(stored[index], plain[index])
    assert torch.equal(stored[slice(2, 4)], plain[2:4]) and [len(p) for p in stored.split(5)] == [5, 5, 2]


PLACES = st.lists(st.integers(0, N - 1), min_size=1, max_size=6, unique=True)


@given(st.lists(st.tuples(st.booleans(), PLACES), max_size=5), st.integers(0, 9))
def test_any_chain_of_taking_and_replacing_is_that_of_the_tensor(chain, seed):
    plain, stored = both()
    draw = torch.Generator().manual_seed(seed)
    for taking, places in chain:
        index = torch.tensor(places) % len(plain)
        index = index.unique()[torch.randperm(len(index.unique()), generator=draw)]
        if taking:
            plain, stored = pictures.take(plain, index), pictures.take(stored, index)
        else:
            new = torch.randint(0, 256, (len(index), 3, 4, 4), generator=draw, dtype=torch.uint8)
            plain, stored = pictures.replaced(plain, index, new), pictures.replaced(stored, index, new)
    assert isinstance(stored, Pictures) and torch.equal(all_of(stored), plain)
    assert torch.equal(Pictures.of(tensor(), "made").stored, tensor())  # nothing was written to the store


def test_reading_is_indexing_of_a_tensor_and_of_stored_pictures():
    held = torch.arange(5 * 3 * 2 * 2, dtype=torch.uint8).view(5, 3, 2, 2)
    for index in ([4, 0, 4], [], [2]):
        rows = torch.tensor(index, dtype=torch.long)
        for images in (held, Pictures.of(held, "here"), Pictures.of(held, "here").take(rows)):
            given = torch.arange(len(rows)) if len(images) != 5 else rows
            assert torch.equal(pictures.read(images, given), held[rows])


def test_what_was_given_stays_as_it_was():
    plain, stored = both()
    index, new = torch.tensor([1, 4]), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for images in (plain, stored):
        pictures.replaced(images, index, new)
        assert torch.equal(all_of(images), tensor())


def test_pairs_of_stored_pictures_know_their_digest_without_being_read():
    _, stored = both()
    pairs, index = Pairs(stored, tuple("abcdefghijkl")), torch.tensor([2, 0])
    assert pairs.digest() == Pairs(both()[1], tuple("abcdefghijkl")).digest()
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    others = (
        Pairs(Pictures.of(tensor(), "other"), pairs.captions),
        Pairs(stored.replaced(index, black), pairs.captions),
        Pairs(stored.replaced(index + 1, black), pairs.captions),
        Pairs(stored.replaced(index, black + 1), pairs.captions),
        pairs.with_captions(tuple("abcdefghijkm")),
        pairs.take(torch.arange(12).flip(0)),
    )
    assert len({pairs.digest(), *(other.digest() for other in others)}) == 7
    assert isinstance(pairs.take(index).images, Pictures)


def test_a_single_number_is_refused_and_not_given_a_view_of_the_file():
    with pytest.raises(TypeError, match=r"\[3\], not 3"):
        Pictures.of(torch.zeros(5, 3, 2, 2, dtype=torch.uint8), "made")[3]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(width: int = 12, height: int = 8, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_r07_gray_of_16_bits_is_scaled_and_not_white(kind, order):  # R07
    ramp = np.tile(np.arange(0, 65536, 2048, dtype=f"{order}u2"), (32, 1))
    found = decoding.decode(encoded(Image.fromarray(ramp), kind), 32)
    expected = torch.arange(0, 256, 8, dtype=torch.uint8).expand(3, 32, 32)
    assert torch.equal(found, expected)


def test_r07_16_bits_from_black_to_white_become_8_bits_from_black_to_white():  # R07
    ends = np.array([[0, 65535]], dtype=np.uint16).repeat(2, 0)
    assert decoding.decode(encoded(Image.fromarray(ends)), 2)[0, 0].tolist() == [0, 255]


@pytest.mark.parametrize("values", [np.ones((8, 8), np.int32), np.ones((8, 8), np.float32)])
def test_r07_32_bits_are_refused_as_nobody_knows_their_range(values):  # R07
    with pytest.raises(ValueError, match=r"does not decode \(32 bits a pixel\)"):
        decoding.decode(encoded(Image.fromarray(values), "TIFF"), 8)


STORED = {  # EXIF's orientation → how a camera has laid an upright picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_r08_a_photo_stands_upright_however_the_camera_laid_it(orientation, kind):  # R08
    exif, how = Image.Exif(), STORED[orientation]
    exif[0x0112] = orientation
    laid = noise() if how is None else noise().transpose(how)
    options = {"lossless": True} if kind == "WEBP" else {}
    for fit in decoding.FITS:
        found = decoding.decode(encoded(laid, kind, exif=exif, **options), 16, fit)
        assert torch.equal(found, decoding.decode(encoded(noise()), 16, fit))


def test_r08_a_phones_jpeg_stands_upright():  # R08
    exif, half = Image.Exif(), Image.new("RGB", (64, 32))
    exif[0x0112] = 6
    half.paste((255, 0, 0), (0, 0, 32, 32))
    found = decoding.decode(encoded(half, "JPEG", exif=exif), 32).int()
    assert found[0, :12].min() > 240 and found[0, 20:].max() < 15  # red on top, not left


def test_r08_a_photo_with_damaged_exif_is_taken_as_it_lies(monkeypatch):  # R08
    def broken(*_: object, **__: object) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(decoding.ImageOps, "exif_transpose", broken)
    expected = torch.from_numpy(np.asarray(noise(16, 16)).copy()).permute(2, 0, 1)
    assert torch.equal(decoding.decode(encoded(noise(16, 16)), 16), expected)


@pytest.mark.parametrize(
    "error", [IndexError("list index out of range"), struct.error("short"), AssertionError(), MemoryError()]
)
def test_r32_any_error_of_a_decoder_is_one_bad_row(monkeypatch, tmp_path, error):  # R32
    load, bad = PngImagePlugin.PngImageFile.load, encoded(noise(5, 5))

    def broken(image):
        if image.size == (5, 5):
            raise error
        return load(image)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", broken)
    rows = [Row(bad if i == 7 else encoded(noise()), b"a word", f"row {i}") for i in range(200)]
    with pytest.warns(
        UserWarning, match=r"1 of 200 rows cannot be used: row 7: the image does not decode \(\w"
    ):
        assert decoded.write(rows, tmp_path, 4) == 199


def test_r32_a_cut_picture_of_an_unwanted_format_is_one_bad_row():  # R32
    for data in (b"qoif" + struct.pack(">II", 1, 220) + b"\4\0", encoded(noise(), "PPM"), b"GIF89a", b"P6"):
        with pytest.raises(ValueError, match=r"does not decode \((it is none of JPEG, PNG, |\w)"):
            decoding.decode(data, 8)


@given(st.data())
def test_r32_no_damage_gives_another_error_or_another_shape(data):  # R32
    kind = data.draw(st.sampled_from(decoding.FORMATS))
    mode = data.draw(st.sampled_from(["RGB", "L", "1"] if kind != "JPEG" else ["RGB", "L", "CMYK"]))
    content = bytearray(encoded(noise(mode=mode), kind))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        found = decoding.decode(bytes(content), 8)
    except ValueError as error:
        assert "does not decode" in str(error)
    else:
        assert found.shape == (3, 8, 8) and found.dtype == torch.uint8


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    b"(ran.txt) (w) file closefile\nshowpage\n"
)


def test_r33_postscript_named_jpg_starts_no_ghostscript(monkeypatch):  # R33
    asked = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *a, **k: asked.append(a) or Image.new("RGB", (9, 9)).im
    )
    Image.open(io.BytesIO(POSTSCRIPT)).load()  # what Pillow does unless told otherwise
    assert len(asked) == 1
    with pytest.raises(ValueError, match="it is none of JPEG, PNG, WEBP, GIF, BMP, TIFF"):
        decoding.decode(POSTSCRIPT, 8)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", decoding.FORMATS)
def test_r33_wanted_formats_are_decoded(kind):  # R33
    assert decoding.decode(encoded(Image.new("RGB", (9, 9), "red"), kind), 8)[0].min() > 250


def test_r34_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):  # R34
    def unpacked(*_: object) -> None:
        raise AssertionError("decoded although it is too large")

    bomb = encoded(Image.new("1", (9000, 9000)))  # 81 megapixels in ten kilobytes: Pillow would not even warn
    monkeypatch.setattr(ImageFile.ImageFile, "load", unpacked)
    with pytest.raises(ValueError, match=r"does not decode \(81 megapixels, of 50 at most\)"):
        decoding.decode(bomb, 8)


def test_r34_a_jpeg_of_too_many_pixels_is_decoded_at_a_smaller_scale(monkeypatch):  # R34
    data = encoded(Image.new("RGB", (64, 48), (10, 200, 30)), "JPEG")
    whole = decoding.decode(data, 8)
    monkeypatch.setattr(decoding, "PIXELS", 1000)
    assert (decoding.decode(data, 8).int() - whole.int()).abs().max() <= 2
    with pytest.raises(ValueError, match="megapixels"):
        decoding.decode(encoded(noise(64, 48)), 8)
    monkeypatch.setattr(decoding, "PIXELS", 40)  # an eighth of the side is the least
    with pytest.raises(ValueError, match="megapixels"):
        decoding.decode(data, 8)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_r34_there_are_as_many_threads_as_cores_that_may_be_used(monkeypatch, tmp_path):  # R34
    asked, pool = [], decoded.ThreadPoolExecutor
    monkeypatch.setattr(decoded, "ThreadPoolExecutor", lambda count: asked.append(count) or pool(count))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # the host's
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "64")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        decoded.write([Row(encoded(noise()), b"a word", "row")], tmp_path, 4)
    finally:
        os.sched_setaffinity(0, before)
    assert asked == [1]
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert joblib.cpu_count() == 1


def test_r34_nothing_in_the_package_counts_the_cores_of_the_host():  # R34
    sources = {
        path: path.read_text(encoding="utf-8") for path in Path(ubt_utils.__file__).parent.rglob("*.py")
    }
    found = [path.name for path, text in sources.items() if "os.cpu_count" in text or "mp.cpu_count" in text]
    assert len(sources) > 50 and found == []

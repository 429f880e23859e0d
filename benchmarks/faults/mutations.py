"""Ways to spoil a valid set of files and options, by kind: each changes the files under a place in place.

A kind gets the place and a generator of random numbers, and returns the options that it changes; None takes
one away. `certain` holds those that must be refused; what the others make may still be valid.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from . import world

Options = Mapping[str, str | None]
Kind = Callable[[Path, random.Random], Options]
KINDS: dict[str, Kind] = {}
CERTAIN: set[str] = set()  # kinds that must be refused


def kind(certain: bool) -> Callable[[Kind], Kind]:
    """Register a kind by its name."""

    def register(one: Kind) -> Kind:
        KINDS[one.__name__] = one
        CERTAIN.update({one.__name__} if certain else ())
        return one

    return register


def cut(path: Path, draw: random.Random) -> None:
    """Leave a random first part of a file, less than nine tenths."""
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) * 9 // 10)])


def flip(path: Path, draw: random.Random, most: int = 12) -> None:
    """Turn some random bits of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, most)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(data))


def blank(path: Path, draw: random.Random) -> None:
    """Put zeros in place of a random piece of a file, as a power cut does."""
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data))
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(bytes(data))


# Checkpoints


def _weights(place: Path) -> dict[str, torch.Tensor]:
    return torch.load(place / "fb.pt", weights_only=True)["state_dict"]


def _save(weights: object, place: Path) -> Options:
    torch.save(weights, place / "fb.pt")
    return {}


@kind(certain=True)
def checkpoint_cut(place: Path, draw: random.Random) -> Options:
    cut(place / "fb.pt", draw)
    return {}


@kind(certain=False)
def checkpoint_flipped(place: Path, draw: random.Random) -> Options:
    flip(place / "fb.pt", draw, 200)
    return {}


@kind(certain=False)
def checkpoint_blank(place: Path, draw: random.Random) -> Options:
    blank(place / "fb.pt", draw)
    return {}


@kind(certain=False)
def checkpoint_head(place: Path, draw: random.Random) -> Options:
    """The first bytes, where the structure lies."""
    data = bytearray((place / "fb.pt").read_bytes())
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(2048)] = draw.randrange(256)
    (place / "fb.pt").write_bytes(bytes(data))
    return {}


@kind(certain=True)
def tensors_cut(place: Path, draw: random.Random) -> Options:
    cut(place / "fb.safetensors", draw)
    return {"--model": str(place / "fb.safetensors")}


@kind(certain=False)
def tensors_flipped(place: Path, draw: random.Random) -> Options:
    head = bytearray((place / "fb.safetensors").read_bytes())
    for _ in range(draw.randint(1, 4)):
        head[draw.randrange(1000)] ^= 1 << draw.randrange(8)
    (place / "fb.safetensors").write_bytes(bytes(head))
    return {"--model": str(place / "fb.safetensors")}


@kind(certain=True)
def checkpoint_of_something_else(place: Path, draw: random.Random) -> Options:
    other = [
        b"",
        b"no weights",
        b"<!DOCTYPE html><p>",
        b"{}",
        b"version https://git-lfs\n",
        draw.randbytes(999),
    ]
    (place / "fb.pt").write_bytes(draw.choice(other))
    return {}


@kind(certain=True)
def checkpoint_with_code(place: Path, draw: random.Random) -> Options:
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(place / "executed"),)

    if draw.random() < 0.5:
        (place / "fb.pt").write_bytes(pickle.dumps({"state_dict": Runs()}))
        return {}
    return _save({"state_dict": _weights(place), "more": Runs()}, place)


@kind(certain=True)
def checkpoint_without_a_tensor(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    needed = [name for name in weights if "num_batches" not in name and name != "attn_mask"]
    del weights[draw.choice(needed)]
    return _save(weights, place)


@kind(certain=True)
def checkpoint_with_a_foreign_tensor(place: Path, draw: random.Random) -> Options:
    return _save(_weights(place) | {f"layer{draw.randrange(9)}.weight": torch.zeros(3)}, place)


@kind(certain=True)
def checkpoint_of_another_shape(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    name = draw.choice([name for name, value in weights.items() if value.ndim > 1])
    changed = draw.choice([weights[name][:-1], weights[name][..., None], weights[name].flatten()])
    return _save(weights | {name: changed.clone()}, place)


@kind(certain=True)
def checkpoint_of_another_type(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    name = draw.choice([name for name, value in weights.items() if value.is_floating_point()])
    other = draw.choice([torch.int64, torch.bool, torch.complex64, torch.uint8])
    return _save(weights | {name: weights[name].to(other)}, place)


@kind(certain=True)
def checkpoint_without_a_table(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    own: dict = {}
    own["model"] = own
    odd = [[1, 2], None, "weights", {}, own, {0: torch.ones(1)}, list(weights.values()), {"state_dict": None}]
    return _save(draw.choice(odd), place)


@kind(certain=True)
def checkpoint_sparse(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    name = draw.choice([name for name, value in weights.items() if value.ndim == 2])
    other = draw.choice([weights[name].to_sparse(), torch.empty_like(weights[name], device="meta")])
    return _save(weights | {name: other}, place)


@kind(certain=True)
def checkpoint_not_a_number(place: Path, draw: random.Random) -> Options:
    weights = _weights(place)
    name = draw.choice([name for name, value in weights.items() if value.is_floating_point()])
    weights[name] = torch.full_like(weights[name], draw.choice([float("nan"), float("inf")]))
    if draw.random() < 0.5:
        save_file({k: v.contiguous() for k, v in weights.items()}, place / "fb.safetensors")
        return {"--model": str(place / "fb.safetensors")}
    return _save(weights, place)


# Tables


def _lines(place: Path) -> list[str]:
    return (place / "d.csv").read_text(encoding="utf-8").splitlines()


def _written(place: Path, lines: list[str], encoding: str = "utf-8") -> Options:
    (place / "d.csv").write_text("\n".join(lines) + "\n", encoding=encoding, errors="replace")
    return {}


@kind(certain=False)
def table_cut(place: Path, draw: random.Random) -> Options:
    cut(place / "d.csv", draw)
    return {}


@kind(certain=False)
def table_flipped(place: Path, draw: random.Random) -> Options:
    flip(place / "d.csv", draw)
    return {}


@kind(certain=False)
def table_blank(place: Path, draw: random.Random) -> Options:
    blank(place / "d.csv", draw)
    return {}


@kind(certain=True)
def table_of_other_columns(place: Path, draw: random.Random) -> Options:
    heads = [
        "url,caption",
        "image",
        "image;title",
        "caption",
        "image:caption",
        "Image,Caption",
        "",
        ",",
        "\x00",
    ]
    return _written(place, [draw.choice(heads), *_lines(place)[1:]])


@kind(certain=True)
def table_of_something_else(place: Path, draw: random.Random) -> Options:
    other = [b"", b"image,caption\n", b"\n", draw.randbytes(4096), b"version https://git-lfs\n", b"{}"]
    (place / "d.csv").write_bytes(draw.choice(other))
    return {}


@kind(certain=True)
def table_in_another_encoding(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    lines[draw.randrange(1, len(lines))] += " caf\u00e9"
    return _written(place, lines, draw.choice(["latin-1", "utf-16", "cp1252"]))


@kind(certain=True)
def table_of_another_name(place: Path, draw: random.Random) -> Options:
    other = place / draw.choice(["d.xlsx", "d", "d.json", "d.csv.gz", "d.parquet", "d.CSVX"])
    (place / "d.csv").rename(other)
    return {"--pairs": str(other)}


@kind(certain=True)
def table_as_parquet(place: Path, draw: random.Random) -> Options:
    rows = [line.split(",", 1) for line in _lines(place)[1:]]
    made = pa.table({"image": [row[0] for row in rows], "caption": [row[1] for row in rows]})
    other = place / draw.choice(["pairs.parquet", "pairs.csv"])
    pq.write_table(made, other)
    return {"--pairs": str(other)}


@kind(certain=True)
def rows_that_lead_nowhere(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    other = [
        "gone.png",
        "https://example.org/1.jpg",
        "",
        "images",
        "../../x.png",
        "\x00",
        "a" * 5000,
        "/etc/hosts",
    ]
    name = draw.choice(other)
    for i in draw.sample(range(1, len(lines)), len(lines) // 20):
        lines[i] = f"{name},{lines[i].split(',', 1)[1]}"
    return _written(place, lines)


@kind(certain=True)
def rows_too_long(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    for i in draw.sample(range(1, len(lines)), len(lines) // 20):
        lines[i] += ",more" * draw.randint(1, 9)
    return _written(place, lines)


@kind(certain=True)
def rows_without_a_caption(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    for i in draw.sample(range(1, len(lines)), len(lines) // 20):
        lines[i] = lines[i].split(",", 1)[0] + draw.choice(["", ",", ",   "])
    return _written(place, lines)


@kind(certain=True)
def a_cell_too_large(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    lines[draw.randrange(1, len(lines))] += "x" * draw.randint(140_000, 300_000)
    return _written(place, lines)


@kind(certain=False)
def quotes_left_open(place: Path, draw: random.Random) -> Options:
    lines = _lines(place)
    i = draw.randrange(1, len(lines))
    lines[i] = lines[i].replace(",", draw.choice([',"', ',""', ',"a"b']), 1)
    return _written(place, lines)


@kind(certain=False)
def odd_captions(place: Path, draw: random.Random) -> Options:
    odd = ["nan", "!!!", "\u202e\u0000x", "\U0001f98a" * 50, "word " * 500, "-1", "=cmd()", "\ufeff", "a"]
    lines = [line.split(",", 1)[0] for line in _lines(place)]
    return _written(place, ["image,caption", *(f"{name},{draw.choice(odd)}" for name in lines[1:])])


@kind(certain=False)
def one_caption_for_all(place: Path, draw: random.Random) -> Options:
    said = draw.choice(["a fox", "a", "\U0001f98a fox"])
    lines = [line.split(",", 1)[0] for line in _lines(place)]
    return _written(place, ["image,caption", *(f"{name},{said}" for name in lines[1:])])


@kind(certain=True)
def too_few_pairs(place: Path, draw: random.Random) -> Options:
    return _written(place, _lines(place)[: draw.randint(1, 9)])


@kind(certain=True)
def two_tables(place: Path, draw: random.Random) -> Options:
    (place / "both").mkdir()
    for name in ("a.csv", draw.choice(["b.csv", "b.tsv", "b.txt"])):
        (place / "both" / name).write_bytes((place / "d.csv").read_bytes())
    return {"--pairs": str(place / "both")}


# Shards


def _shard(place: Path, draw: random.Random) -> Path:
    return draw.choice(sorted((place / "tars").glob("*.tar")))


def _shards(place: Path) -> Options:
    return {"--pairs": str(place / "tars")}


@kind(certain=True)
def shard_cut(place: Path, draw: random.Random) -> Options:
    cut(_shard(place, draw), draw)
    return _shards(place)


@kind(certain=False)
def shard_flipped(place: Path, draw: random.Random) -> Options:
    flip(_shard(place, draw), draw)
    return _shards(place)


@kind(certain=False)
def shard_blank(place: Path, draw: random.Random) -> Options:
    blank(_shard(place, draw), draw)
    return _shards(place)


@kind(certain=True)
def shard_of_something_else(place: Path, draw: random.Random) -> Options:
    path = _shard(place, draw)
    other = [
        b"",
        bytes(512),
        draw.randbytes(2048),
        gzip.compress(path.read_bytes()),
        b"PK\x03\x04" + bytes(2044),
    ]
    path.write_bytes(draw.choice(other))
    return _shards(place)


@kind(certain=True)
def shards_without_pairs(place: Path, draw: random.Random) -> Options:
    for path in (place / "tars").glob("*.tar"):
        path.unlink()
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = draw.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]), "/etc/hosts"
    members = {
        "links": [link],
        "captions": [tarfile.TarInfo("a.txt")],
        "none": [],
        "up": [tarfile.TarInfo("../a.png")],
    }
    with tarfile.open(place / "tars" / "0.tar", "w") as file:
        for member in members[draw.choice(sorted(members))]:
            file.addfile(member, io.BytesIO())
    return _shards(place)


@kind(certain=True)
def a_name_twice_in_a_shard(place: Path, draw: random.Random) -> Options:
    path = _shard(place, draw)
    with tarfile.open(path, "a") as file:
        member = draw.choice([m for m in file.getmembers() if m.name.endswith((".png", ".txt"))])
        file.addfile(tarfile.TarInfo(member.name), io.BytesIO())
    return _shards(place)


@kind(certain=True)
def images_beside_shards(place: Path, draw: random.Random) -> Options:
    return {"--pairs": str(place / "tars"), "--images": str(place / draw.choice(["images", "gone", "d.csv"]))}


# Pictures


def _some(place: Path, draw: random.Random) -> list[Path]:
    found = sorted((place / "images").iterdir())
    return draw.sample(found, len(found) // 20)


def _huge() -> bytes:
    """A PNG file that says it has ten thousand million pixels, and holds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@kind(certain=True)
def pictures_cut(place: Path, draw: random.Random) -> Options:
    for path in _some(place, draw):
        path.write_bytes(path.read_bytes()[: draw.randrange(60)])
    return {}


@kind(certain=False)
def pictures_flipped(place: Path, draw: random.Random) -> Options:
    for path in _some(place, draw):
        flip(path, draw)
    return {}


@kind(certain=True)
def pictures_of_something_else(place: Path, draw: random.Random) -> Options:
    other = [
        b"",
        b"no picture",
        draw.randbytes(500),
        _huge(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg/>",
        b"BM" + bytes(60),
    ]
    data = draw.choice(other)
    for path in _some(place, draw):
        path.write_bytes(data)
    return {}


@kind(certain=True)
def pictures_gone(place: Path, draw: random.Random) -> Options:
    for path in _some(place, draw):
        path.unlink()
        if draw.random() < 0.3:
            path.symlink_to(path)  # a link to itself
    return {}


@kind(certain=False)
def pictures_of_odd_kinds(place: Path, draw: random.Random) -> Options:
    for path in _some(place, draw):
        mode = draw.choice(["1", "L", "P", "RGBA", "LA", "I;16", "I", "CMYK"])
        size = draw.choice([(1, 1), (5000, 1), (3, 700), (32, 32)])
        file = "TIFF" if mode in ("CMYK", "I", "I;16") else "PNG"
        Image.new(mode, size).save(path, file)
    return {}


@kind(certain=True)
def images_that_are_no_folder(place: Path, draw: random.Random) -> Options:
    return {"--images": str(place / draw.choice(["gone", "d.csv", "fb.pt"]))}


# Photos in Parquet


def _split(place: Path, draw: random.Random) -> Path:
    return draw.choice(sorted((place / "data").glob("*/train-*.parquet")))


def _rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> Options:
    pq.write_table(change(pq.read_table(path)), path)
    return {}


@kind(certain=True)
def parquet_cut(place: Path, draw: random.Random) -> Options:
    cut(_split(place, draw), draw)
    return {}


@kind(certain=False)
def parquet_flipped(place: Path, draw: random.Random) -> Options:
    flip(_split(place, draw), draw, 40)
    return {}


@kind(certain=False)
def parquet_blank(place: Path, draw: random.Random) -> Options:
    blank(_split(place, draw), draw)
    return {}


@kind(certain=True)
def parquet_without_a_column(place: Path, draw: random.Random) -> Options:
    path = _split(place, draw)
    return _rewritten(path, lambda held: held.drop_columns([draw.choice(held.column_names)]))


@kind(certain=True)
def parquet_of_other_types(place: Path, draw: random.Random) -> Options:
    path = _split(place, draw)
    odd = [[b"\xff"], [1], [None], [["list"]], [2.5]]

    def change(held: pa.Table) -> pa.Table:
        i = draw.randrange(held.num_columns)
        return held.set_column(i, held.column_names[i], pa.array(draw.choice(odd) * held.num_rows))

    return _rewritten(path, change)


@kind(certain=False)
def parquet_without_rows(place: Path, draw: random.Random) -> Options:
    return _rewritten(_split(place, draw), lambda held: held.slice(0, draw.randint(0, 3)))


@kind(certain=True)
def parquet_with_gaps(place: Path, draw: random.Random) -> Options:
    def change(held: pa.Table) -> pa.Table:
        i = draw.randrange(held.num_columns)
        values = [None if n % 4 == 0 else v for n, v in enumerate(held.column(i).to_pylist())]
        return held.set_column(i, held.schema.field(i), pa.array(values, held.schema.field(i).type))

    return _rewritten(_split(place, draw), change)


@kind(certain=True)
def parquet_gone(place: Path, draw: random.Random) -> Options:
    path = _split(place, draw)
    path.unlink()
    if draw.random() < 0.4:
        path.mkdir()
    return {}


PARQUET = tuple(name for name in KINDS if name.startswith("parquet"))


# Options


@kind(certain=True)
def option_unknown(place: Path, draw: random.Random) -> Options:
    return {draw.choice(["--luck", "--modell", "--Arch", "--lr", "-x"]): "1"}


@kind(certain=True)
def option_missing(place: Path, draw: random.Random) -> Options:
    return {draw.choice(["--model", "--arch", "--pairs"]): None}


@kind(certain=True)
def option_of_another_type(place: Path, draw: random.Random) -> Options:
    return {"--seed": draw.choice(["", "one", "1.5", "0x", "None", "\u0661\u00b2"])}


@kind(certain=False)
def seed_of_any_size(place: Path, draw: random.Random) -> Options:
    return {"--seed": str(draw.choice([-1, 2**31, 2**63, 2**70, -(2**64)]))}


@kind(certain=True)
def architecture_unknown(place: Path, draw: random.Random) -> Options:
    other = [
        "",
        "ubt-huge",
        "vit",
        "../ubt-tiny",
        "ubt-tiny.json",
        "ubt-mini",
        "x" * 5000,
        "hf-hub:a/b",
        "\x00",
    ]
    return {"--arch": draw.choice(other)}


@kind(certain=True)
def public_unknown(place: Path, draw: random.Random) -> Options:
    other = ["luck", "", " ", "x" * 5000, str(place), str(place / "d.csv"), "\x00"]
    return {"--public": draw.choice(other[:1] + other[2:])}


@kind(certain=True)
def file_that_no_name_can_have(place: Path, draw: random.Random) -> Options:
    return {draw.choice(["--model", "--pairs", "--images"]): draw.choice(["x" * 5000, "\x00", "a/" * 3000])}


@kind(certain=True)
def file_that_is_something_else(place: Path, draw: random.Random) -> Options:
    other = ["gone", "d.csv/inside", "images", "/dev/null"]
    name = draw.choice(["--model", "--pairs"])
    return {name: str(place / draw.choice([*other, "."] if name == "--model" else other))}


@kind(certain=True)
def file_that_links_to_itself(place: Path, draw: random.Random) -> Options:
    (place / "loop.csv").symlink_to(place / "loop.csv")
    return {draw.choice(["--model", "--pairs", "--images"]): str(place / "loop.csv")}


@kind(certain=True)
def place_that_cannot_be_written(place: Path, draw: random.Random) -> Options:
    other = [
        place / "d.csv" / "out.pt",
        place / "images" / "000000.png" / "x" / "y.pt",
        Path("/dev/null/out.pt"),
    ]
    names = [*map(str, other), "x" * 5000 + ".pt", "/proc/nothing/out.pt", "\x00.pt"]
    return {"--out": draw.choice(names)}


# The test of a defense


@kind(certain=True)
def test_of_no_classes(place: Path, draw: random.Random) -> Options:
    other = ["gone", "images", "d.csv", "test/clock", "data", "loop", "x" * 5000, "\x00"]
    (place / "loop").symlink_to(place / "loop")
    return {"--test": str(place / draw.choice(other))}


@kind(certain=True)
def test_with_bad_photos(place: Path, draw: random.Random) -> Options:
    path = place / "test" / draw.choice(world.CLASSES) / "000000.png"
    path.write_bytes(draw.choice([b"", b"no picture", _huge(), path.read_bytes()[:50]]))
    return {"--test": str(place / "test")}


@kind(certain=True)
def test_with_an_empty_class(place: Path, draw: random.Random) -> Options:
    (place / "test" / draw.choice(["fox", "n01440764"])).mkdir()
    return {"--test": str(place / "test")}


DEFEND = tuple(name for name in KINDS if name.startswith("test_"))

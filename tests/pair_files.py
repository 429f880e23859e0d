"""Shards and tables in miniature, as other people have them: what the tests of pairs read."""

import csv
import io
import tarfile
from pathlib import Path

from PIL import Image

SIZE = 8


def encoded(number: int, kind: str = "PNG") -> bytes:
    """A picture of one color, which tells its number."""
    out = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (number, 2 * number % 256, 255 - number)).save(out, kind)
    return out.getvalue()


def shard(path: Path, samples: dict[str, bytes]) -> Path:
    """A tar archive of files by name, in that order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in samples.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def samples(numbers: range) -> dict[str, bytes]:
    """The members of a shard as img2dataset writes it."""
    files = {}
    for i in numbers:
        files |= {f"{i:05}.png": encoded(i), f"{i:05}.txt": f"picture {i}".encode(), f"{i:05}.json": b"{}"}
    return files


def table(folder: Path, rows: list, header=("image", "caption"), encoding: str = "utf-8", **how) -> Path:
    """A folder with pairs.csv, whose rows are as given, and with images/0.png to images/7.png."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i in range(8):
        (folder / "images" / f"{i}.png").write_bytes(encoded(i))
    with (folder / "pairs.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, **how)
        writer.writerow(header)
        writer.writerows(rows)
    return folder


def good(count: int = 8) -> list[tuple[str, str]]:
    """Rows of a table: path and caption."""
    return [(f"images/{i % 8}.png", f"picture {i}") for i in range(count)]

"""Pairs from a table, CSV or TSV: a column of picture paths and one of captions."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ubt_utils.core.checksum import remembered
from ubt_utils.data.decoded import Unread
from ubt_utils.data.decoding import TOLERATED, PhotoError, Row
from ubt_utils.data.pointers import ADVICE, POINTER, refuse_pointer

COLUMNS = (("image", "caption"), ("filepath", "title"))  # of most kits, and open_clip's own
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class Line(NamedTuple):
    """One row: where it begins in the file, the two cells, and whether it has more cells than columns."""

    name: str
    image: str
    caption: str
    longer: bool


@dataclass(frozen=True)
class Table:
    """A table and the folders that its paths may lie in. images: a second one beside the table's own; paths
    that are not found in the first are looked for there."""

    path: Path
    images: Path | None = None

    def rows(self) -> Iterator[Row | Unread]:
        """One row each, in order. PhotoError, before the first, for other columns, for what is no table, and
        where more than 1 % of the paths lead nowhere."""
        self._check()
        for line in self._lines():
            try:
                yield Row(_read(self._place(line)), line.caption.encode(), line.name)
            except ValueError as error:
                yield Unread(line.name, str(error))

    def paths(self, names: Collection[str]) -> dict[str, str]:
        """Name → path of the picture, as it is written, of the rows that have these names."""
        return {line.name: line.image for line in self._lines() if line.name in names}

    def identity(self) -> str:
        """A checksum of the table and of the pictures that it names."""
        return remembered(self.path, *(place for _, place, _ in self._named() if place))

    def _named(self) -> Iterator[tuple[Line, Path | None, str]]:
        """Each row with its picture, or with None and the reason."""
        for line in self._lines():
            try:
                yield line, self._place(line), ""
            except ValueError as error:
                yield line, None, f"{line.name}: {error}"

    def _check(self) -> None:
        """PhotoError where the first picture is a pointer, and where more than 1 % lead nowhere."""
        count, first = 0, ""
        lost: list[str] = []
        for line, place, reason in self._named():
            if place and count == len(lost):
                refuse_pointer(place)
            count += 1
            if not place:
                first = first or line.image
                lost.append(reason)
        if len(lost) > TOLERATED * count:
            raise PhotoError(
                f"{len(lost)} of {count} rows of {self.path} lead to no picture, the first of them "
                f"{lost[0]}{self._elsewhere(first)}"
            )

    def _place(self, line: Line) -> Path:
        """The file that a row names; ValueError where it has none, or lies in neither folder."""
        if line.longer:
            raise ValueError("more cells than columns: captions that hold the delimiter belong in quotes")
        if not line.image:
            raise ValueError("no path")
        if "://" in line.image:
            raise ValueError(f"{line.image} is a link: fetch the pictures first, as img2dataset does")
        roots = [os.path.realpath(root) for root in (self.path.parent, self.images) if root]
        outside = False
        for root in roots:
            for spelled in dict.fromkeys((line.image, line.image.replace("\\", "/"))):
                place = _file(root, spelled)
                if place and any(place.is_relative_to(r) for r in roots):
                    return place
                outside |= place is not None
        if outside:
            raise ValueError(
                f"{line.image} lies outside {self.path.parent}: copy it there, or name the folder that it "
                "lies in as the root of the images"
            )
        raise ValueError(f"{line.image} is not in {' or '.join(roots)}")

    def _elsewhere(self, name: str) -> str:
        """Where a file of that name lies, one folder deeper, in words; "" where it does not."""
        place = os.path.join(glob.escape(str(self.path.parent)), "*", glob.escape(os.path.basename(name)))
        found = next(glob.iglob(place), "") if name else ""
        return f". {found} is there: name its folder as the root of the images" if found else ""

    def _lines(self) -> Iterator[Line]:
        refuse_pointer(self.path)
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            number = 1
            try:
                header, (image, caption), delimiter = self._header(file.readline())
                table = csv.DictReader(file, header, delimiter=delimiter, strict=True)
                for row in table:
                    cells = (row[image] or "", row[caption] or "")
                    held = sum(str(cell).count("\n") for cell in row.values())
                    first = 1 + table.line_num - held  # a cell may go over several lines
                    yield Line(f"{self.path.name}, line {first}", *cells, None in row)
                    number = 1 + table.line_num
            except (csv.Error, UnicodeDecodeError) as error:
                raise PhotoError(
                    f"{self.path}, behind line {number}: not CSV in UTF-8 ({error}). Save it anew, cells "
                    "that hold quotes, delimiters or line breaks in quotes"
                ) from error

    def _header(self, line: str) -> tuple[list[str], tuple[str, str], str]:
        """The columns, those of path and caption among them, and the delimiter; PhotoError for others."""
        line = line.rstrip("\r\n")
        if not line:
            raise PhotoError(f"{self.path} is empty, or begins with an empty line")
        parsed = {d: [c.strip() for c in next(csv.reader([line], delimiter=d))] for d in DELIMITERS}
        for delimiter, header in parsed.items():
            for pair in COLUMNS:
                if set(pair) <= set(header):
                    return header, pair, delimiter
        most = max(parsed, key=lambda d: len(parsed[d]))
        known = " or ".join(",".join(pair) for pair in COLUMNS)
        raise PhotoError(
            f"{self.path} has the columns {parsed[most]}, taken apart at {DELIMITERS[most]}: {known} are "
            "needed, so rename them in its first line"
        )


def _file(root: str, name: str) -> Path | None:
    """The file of that name, links followed, unless there is none."""
    try:
        place = Path(os.path.realpath(os.path.join(root, name)))
        return place if place.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _read(place: Path) -> bytes:
    data = place.read_bytes()
    if data.startswith(POINTER):
        raise ValueError(f"{place.name} {ADVICE}")
    return data

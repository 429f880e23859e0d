"""Docstrings in plain English, as Sphinx wants them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import indent

CODE = re.compile(r"`([^`]+)`")
MARKUP = re.compile(r"([\\*|])|(?<=\w)(_)(?!\w)")
ITEM = re.compile(r"(\d+\.|[-*]) ")


def as_rst(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring as reStructuredText: `x` is code, what is indented (formulas, drawings) stays
    as it is, a list begins with its first item, and nothing else means anything."""
    found: list[str] = []
    for filled, block in groupby(lines, key=lambda line: bool(line.strip())):
        found += _block(list(block)) if filled else [""]
    return found


def _block(lines: list[str]) -> Iterator[str]:
    items = [i for i, line in enumerate(lines) if ITEM.match(line)]
    if items:
        yield from map(_line, lines[: items[0]])
        yield from ("", *map(_line, lines[items[0] :]))
    elif any(line.startswith(" ") for line in lines):
        yield from ("::", "", *(indent(line, "    ") for line in lines))
    else:
        yield from map(_line, lines)


def _line(line: str) -> str:
    """One line: what is between backticks is code, everything else is plain."""
    parts = CODE.split(line)
    plain = [MARKUP.sub(r"\\\g<0>", part).replace("`", r"\`") for part in parts[::2]]
    code = [f"``{part}``" for part in parts[1::2]]
    plain = [part if not i or not part[:1].isalnum() else rf"\ {part}" for i, part in enumerate(plain)]
    whole = [text for pair in zip(plain, [*code, ""], strict=True) for text in pair]
    return "".join(whole)

"""Formulas as MathML, which every current browser draws by itself: no script, no font, no network."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

FORMULA = re.compile(
    r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<![\s\\])\$(?!\w)", re.S
)


def mathml(latex: str, block: bool = False) -> str:
    """A formula in LaTeX as MathML."""
    return convert(latex.strip(), display="block" if block else "inline")


def drawn(markdown: str) -> str:
    """Markdown whose formulas, between dollars, are MathML; what is code stays."""

    def draw(found: re.Match[str]) -> str:
        kept, block, inline = found.groups()
        return kept or mathml(block or inline, block=bool(block))

    return FORMULA.sub(draw, markdown)

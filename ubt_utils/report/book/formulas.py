"""Sphinx's renderers of formulas, as MathML."""

from __future__ import annotations

from typing import Any

from docutils import nodes

from ubt_utils.report.mathml import mathml


def inline(translator: Any, node: nodes.math) -> None:
    """Sphinx's renderer of a formula in a line."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Sphinx's renderer of a formula on a line of its own."""
    translator.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode

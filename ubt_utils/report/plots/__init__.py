"""Pictures that carry the story: one function each, from arrays or tables to a matplotlib figure."""

from ubt_utils.evaluate.densities import kinds
from ubt_utils.report.plots.attacks import (
    attack_gallery,
    stealth_plane,
    strengths,
    survival,
    sweep_grid,
    tried,
)
from ubt_utils.report.plots.defenses import (
    carried,
    defense_curves,
    harm,
    weight_path,
)
from ubt_utils.report.plots.detection import before_after, changes, margins
from ubt_utils.report.plots.diagrams import (
    crossed_halves,
    embedding_space,
    two_towers,
    who_holds_what,
)
from ubt_utils.report.plots.forest import forest
from ubt_utils.report.plots.matrix import budget, choices, defense_heat, rungs, study
from ubt_utils.report.plots.pictures import answers, gallery, picture, suspects, wrap
from ubt_utils.report.plots.scores import (
    agreement,
    by_noise,
    density_panels,
    overfit_path,
    ranking,
    similarity_panels,
    sufferers,
)
from ubt_utils.report.plots.stages import chain_diagram, growth
from ubt_utils.report.plots.style import ATTACK_NAMES, COLORS, LINES, STYLE, TITLES, save
from ubt_utils.report.plots.tokens import colored_caption, token_bars
from ubt_utils.report.plots.tuned import cloud

__all__ = [
    "ATTACK_NAMES", "COLORS", "LINES", "STYLE", "TITLES",
    "agreement", "answers", "attack_gallery", "before_after", "budget", "by_noise", "carried",
    "chain_diagram", "changes", "choices", "cloud", "colored_caption", "crossed_halves", "defense_curves",
    "defense_heat", "density_panels", "embedding_space", "forest", "gallery", "growth", "harm", "kinds",
    "margins", "overfit_path", "picture", "ranking", "rungs", "save",
    "similarity_panels", "stealth_plane", "strengths", "study", "sufferers", "survival", "suspects",
    "sweep_grid", "token_bars", "tried", "two_towers", "weight_path", "who_holds_what", "wrap",
]  # fmt: skip

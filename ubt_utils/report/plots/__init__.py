"""Pictures that carry the story: one function each, from arrays or tables to a matplotlib figure."""

from ubt_utils.report.plots.attacks import (
    attack_gallery,
    stealth_plane,
    strengths,
    survival,
    sweep_grid,
    tried,
)
from ubt_utils.report.plots.defenses import (
    defense_curves,
    harm,
    headline,
    paths_by_attack,
    plane,
    side_by_side,
)
from ubt_utils.report.plots.matrix import choices, defense_cost, defense_heat, defense_paths, standing
from ubt_utils.report.plots.pictures import answers, gallery, picture, sample_photos, suspects, wrap
from ubt_utils.report.plots.scores import (
    by_noise,
    kinds,
    overfit_path,
    ranking,
    second_look,
    similarity_panels,
)
from ubt_utils.report.plots.stages import chain_diagram, growth
from ubt_utils.report.plots.style import ATTACK_NAMES, COLORS, LINES, STYLE, TITLES, save
from ubt_utils.report.plots.tokens import colored_caption, token_bars

__all__ = [
    "ATTACK_NAMES", "COLORS", "LINES", "STYLE", "TITLES",
    "answers", "attack_gallery", "by_noise", "chain_diagram", "choices", "colored_caption", "defense_cost",
    "defense_curves", "defense_heat", "defense_paths", "gallery", "growth", "harm", "headline", "kinds",
    "overfit_path", "paths_by_attack", "picture", "plane", "ranking", "sample_photos", "save", "second_look",
    "side_by_side", "similarity_panels", "standing", "stealth_plane", "strengths", "survival", "suspects",
    "sweep_grid", "token_bars", "tried", "wrap",
]  # fmt: skip

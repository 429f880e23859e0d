"""The stages: one function each, called alike by notebooks, command line and tests.

pretrain → attack → overfit → select → unlearn → evaluate. Each calls the stages that it
needs, so that any of them can be asked for first; what exists is reused.
"""

from ubt_utils.stages.attack import attack, pretrain
from ubt_utils.stages.common import NONE, load_model, poisoned_pairs, wild
from ubt_utils.stages.defend import evaluate, record, unlearn, view_of
from ubt_utils.stages.detect import overfit, scores_of, select

__all__ = [
    "NONE",
    "attack",
    "evaluate",
    "load_model",
    "overfit",
    "poisoned_pairs",
    "pretrain",
    "record",
    "scores_of",
    "select",
    "unlearn",
    "view_of",
    "wild",
]

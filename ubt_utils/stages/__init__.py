"""The stages: one function each, called alike by notebooks, command line and tests.

pretrain → craft (some attacks) → attack → examine, overfit → select → unlearn → evaluate.
Each calls the stages that it needs, so that any of them can be asked for first; what exists
is reused.
"""

from ubt_utils.stages.attack import attack, twin
from ubt_utils.stages.common import NONE, load_model, poisoned_pairs, wild
from ubt_utils.stages.craft import craft, trigger_of
from ubt_utils.stages.defend import evaluate, unlearn, view_of
from ubt_utils.stages.detect import overfit, scores_of, select
from ubt_utils.stages.examine import examine
from ubt_utils.stages.pretrain import pretrain
from ubt_utils.stages.record import record
from ubt_utils.stages.score import score

__all__ = [
    "NONE",
    "attack",
    "craft",
    "evaluate",
    "examine",
    "load_model",
    "overfit",
    "poisoned_pairs",
    "pretrain",
    "record",
    "score",
    "scores_of",
    "select",
    "trigger_of",
    "twin",
    "unlearn",
    "view_of",
    "wild",
]

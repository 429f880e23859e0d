"""The stages: `chain(profile, attack, seed)` makes each of them once, for notebooks, commands and tests
alike."""

from ubt_utils.core.records import NONE
from ubt_utils.stages.base import wild
from ubt_utils.stages.chain import Chain, chain
from ubt_utils.stages.pretrain import pretrain
from ubt_utils.stages.record import record

__all__ = ["NONE", "Chain", "chain", "pretrain", "record", "wild"]

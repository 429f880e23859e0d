"""How many pairs stage `suspect` scored, by hand."""

from ubt_utils.core.store import Stage


def words_of(suspected: Stage) -> int:
    """Pictures of single words, before and after a disturbance; nobody knows their number beforehand."""
    told = suspected.metrics
    return sum(2 * one["carriers"] for one in [*told["asked"], *told["asked_elsewhere"]])


def disturbed_of(suspected: Stage, pairs: int) -> int:
    """Pairs that were disturbed, each as often as it was: half of them six times at the first look, the rest
    of them six times and all of them once more at the second, where there was one; and carriers of the found
    words that no deciding look had seen."""
    told, known = suspected.metrics, suspected.arrays()["drops"].isfinite()
    half = pairs // 2
    first, second = 6 * half, 6 * (pairs - half) + pairs
    if told["look"] == 1:
        return first + second
    return 6 * int(known[0].sum()) + (second if told["asked_elsewhere"] else 0)

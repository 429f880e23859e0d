"""What a defense of one's own model will cost, before it is started."""

from __future__ import annotations

import pandas as pd

from ubt_utils.own.chain import OwnChain
from ubt_utils.stages.defend import held_out_of
from ubt_utils.study import cost

STAGES = ("suspect", "overfit", "select", "unlearn")


def plan(run: OwnChain, tested: int = 0) -> pd.DataFrame:
    """Index stage: pairs trained and scored, and seconds on the device in use, from some measured steps of
    the model itself. tested: photos that the user names. Stages that are there already are counted, too."""
    rates, pairs = cost.measure(run.profile), len(run.wild[0])
    works = [w for w in cost.works(run.profile, run.attack, pairs, tested, 0) if w.stage in STAGES]
    works.append(cost.Work("compare", 0, 2 * (tested + held_out_of(pairs) + run.profile.select.top)))
    rows = {
        stage: {
            "pairs trained": trained,
            "pairs scored": scored,
            "seconds": rates.trained * trained + rates.scored * scored,
        }
        for stage, trained, scored in works
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("stage")
    table.loc["in all"] = table.sum()
    return table

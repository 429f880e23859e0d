"""UBT's path for several weights of its push: what is recorded is what the stages wrote."""

import pytest

from ubt_utils.report import defense_tables
from ubt_utils.study import weights


def test_each_weight_has_its_path_and_that_of_the_profile_is_ubts_own(chain, results_root, monkeypatch):
    with pytest.raises(FileNotFoundError, match="run `python -m ubt_utils weights`"):
        defense_tables.weights("tiny")
    own = chain.profile.unlearn.weight
    monkeypatch.setattr(weights, "WEIGHTS", (0.0, own))
    weights.weights("tiny")
    table = defense_tables.weights("tiny")
    assert set(table.weight) == {0.0, own} and not table.duplicated(weights.KEYS).any()
    paths = {w: path.reset_index(drop=True) for w, path in table.groupby("weight")}
    for name in ("step", "part", "asr", "clean_accuracy", "held_out"):
        assert paths[own][name].tolist() == [point[name] for point in chain["ubt"].metrics["curve"]]
    assert paths[own].stage[0] == chain["ubt"].folder.name
    assert paths[0.0].held_out.iloc[-1] != paths[own].held_out.iloc[-1]
    assert paths[0.0].held_out[0] == paths[own].held_out[0]

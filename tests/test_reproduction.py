"""What the notebooks show is made beforehand: the victim first, then every defense and trigger as a job."""

from ubt_utils import stages
from ubt_utils.report.notebooks import committed
from ubt_utils.study import parallel, reproduction


def test_every_defense_and_crafted_trigger_of_the_notebooks_is_a_job(chain, monkeypatch, no_training):
    asked, parts = [], []
    monkeypatch.setattr(parallel, "each", lambda work, jobs, *_: asked.extend(jobs) or parts.append(jobs))
    reproduction.prepare(chain.profile, "badnets", 0)
    first, then = parts
    assert [job.attack for job in first] == ["badnets", "sig"]
    told = [(job.attack, job.defense, job.profile) for job in then[:2]]
    assert told == [(name, "detection", chain.profile.disturbing()) for name in ("badnets", "sig")]
    asked[:] = [job for job in asked if job.defense != "detection"]
    victims = [job.attack for job in asked if job.defense == "none"]
    defended = [(job.attack, job.defense) for job in asked if job.defense not in ("none", "")]
    assert victims == ["badnets", "sig", "none"]
    assert defended[:2] == [("badnets", "ubt"), ("sig", "ubt")]  # each detects on a core of its own
    own, beside = ("finetune", "ubt-sample", "ubt-retain"), ("ubt-retain",)
    assert defended[2:] == [*(("badnets", name) for name in own), *(("sig", name) for name in beside)]
    assert {job.attack for job in asked if not job.defense} == {"badclip", "issba", "trojanvqa"}
    assert {job.seed for job in asked} == {0}


def test_the_attack_that_stands_beside_may_be_the_one_that_is_asked_for(chain, monkeypatch, no_training):
    asked = []
    monkeypatch.setattr(parallel, "each", lambda work, jobs, *_: asked.extend(jobs))
    reproduction.prepare(chain.profile, "sig", 0)
    jobs = [(job.attack, job.defense) for job in asked]
    assert len(jobs) == len(set(jobs))
    own = {"none", "detection", *reproduction.SHOWN}
    assert {job.defense for job in asked if job.attack == "sig"} == own


def test_the_notebooks_hold_that_attack_against_the_first():
    """What is prepared is what they ask for."""
    for path in committed():
        if path.stem[:2] in ("01", "02", "03", "04"):
            assert f'OTHER = "{reproduction.BESIDE}"' in path.read_text().replace('\\"', '"')


def test_a_job_defends_detects_or_crafts(chain):
    defend = reproduction.Job(chain.profile, "badnets", 0, "ubt")
    assert reproduction.run(defend) == str(chain.run.evaluated("ubt").folder)
    look = reproduction.Job(chain.profile, "badnets", 0, "detection")
    assert reproduction.run(look) == str(chain.run.selected.folder)
    made = reproduction.run(reproduction.Job(chain.profile, "badclip", 0))
    assert made == str(stages.chain(chain.profile, "badclip", 0).crafted.folder)

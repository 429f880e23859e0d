"""What the notebooks show is made beforehand: the victim first, then every defense and trigger as a job."""

from ubt_utils import stages
from ubt_utils.study import parallel, reproduction


def test_every_defense_and_crafted_trigger_of_the_notebooks_is_a_job(chain, monkeypatch, no_training):
    asked = []
    monkeypatch.setattr(parallel, "each", lambda work, jobs, *_: asked.extend(jobs))
    reproduction.prepare(chain.profile, "badnets", 0)
    defended = {(job.attack, job.defense) for job in asked if job.defense}
    assert defended == {("badnets", name) for name in ("ubt", "finetune", "ubt-sample")}
    assert {job.attack for job in asked if not job.defense} == {"badclip", "issba", "trojanvqa"}
    assert {job.seed for job in asked} == {0}


def test_a_job_defends_or_crafts(chain):
    defend = reproduction.Job(chain.profile, "badnets", 0, "ubt")
    assert reproduction.run(defend) == str(chain.run.evaluated("ubt").folder)
    made = reproduction.run(reproduction.Job(chain.profile, "badclip", 0))
    assert made == str(stages.chain(chain.profile, "badclip", 0).crafted.folder)

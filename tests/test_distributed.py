"""Two gloo processes against one: the same suspicious set, the same loss; and a killed rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ubt_utils import stages
from ubt_utils.clip import models, training
from ubt_utils.core import distributed

ROOT = Path(__file__).parent.parent


def launched(root: Path, *words: str, code: str = "", processes: int = 2) -> subprocess.CompletedProcess:
    """Run the command line, or some code with these words, under torchrun."""
    what = ["--no-python", sys.executable, "-c", code] if code else ["-m", "ubt_utils"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc-per-node={processes}", *what, *words]
    env = {**os.environ, "UBT_RUNS": str(root)}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_alone_nothing_is_shared_out():
    assert (distributed.count(), distributed.rank(), distributed.first(), distributed.agreed(True)) == (
        1,
        0,
        True,
        True,
    )
    assert distributed.share(7) == slice(0, 7)
    assert distributed.together(lambda rows: torch.arange(9)[rows], 9).tolist() == list(range(9))
    distributed.wait()


@pytest.mark.parametrize("n", [0, 1, 7, 64, 1000])
def test_shares_are_all_rows_once_and_nearly_equal(monkeypatch, n):
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        found.append(distributed.share(n))
    assert [i for part in found for i in range(n)[part]] == list(range(n))
    lengths = [part.stop - part.start for part in found]
    assert max(lengths) - min(lengths) <= 1


def contents(folder: Path) -> dict[str, str]:
    """What a later stage reads of a folder, with checksums."""
    files = json.loads((folder / "config.json").read_text())["files"]
    return {name: sha for name, sha in files.items() if name not in ("made.json", "metrics.json")}


def test_two_ranks_find_the_same_suspicious_set_with_the_same_loss(chain, tmp_path):
    chain.copy(tmp_path, "pretrain", "attack")
    done = launched(tmp_path, "select", "--profile", "tiny")
    assert done.returncode == 0, done.stderr[-2000:]
    folders = {
        name: next(p for p in (tmp_path / "tiny/badnets/0").glob(f"{name}-*") if p.is_dir())
        for name in ("suspect", "overfit", "select")
    }
    assert folders["suspect"].name == chain["suspect"].folder.name
    for name, folder in folders.items():  # what it reads rounds otherwise, so that its key is another one
        of_ranks, of_one = json.loads((folder / "config.json").read_text()), dict(chain[name].config)
        for role, stage in (("suspected", "suspect"), ("overfitted", "overfit")):
            read = of_ranks["inputs"].pop(role, None)
            assert read is None or read == contents(folders[stage])
        of_one["inputs"] = {k: v for k, v in of_one["inputs"].items() if k in of_ranks["inputs"]}
        assert all(of_ranks[k] == of_one[k] for k in of_one if k != "files") and set(of_ranks) == set(of_one)
        assert json.loads((folder / "made.json").read_text())["ranks"] == 2
    ours = {name: load_file(folder / "arrays.safetensors") for name, folder in folders.items()}
    alone = {name: chain[name].arrays() for name in folders}
    for stage, names in (("suspect", ("sb", "drops")), ("overfit", ("s0", "half")), ("select", ("drops",))):
        for name in names:
            torch.testing.assert_close(ours[stage][name], alone[stage][name], atol=1e-3, rtol=0)
    for stage, names in (("suspect", ("pool", "anchors")), ("select", ("chosen", "compromised"))):
        assert all(torch.equal(ours[stage][name], alone[stage][name]) for name in names)
    inside = alone["suspect"]["pool"].bool()
    # s1 comes after some steps of training, which amplify how two halves of a sum round: 2e-4 was seen
    ends = [of["overfit"]["s1"][inside] for of in (ours, alone)]
    torch.testing.assert_close(*ends, atol=1e-3, rtol=0)
    assert not list(tmp_path.rglob("rank-*"))
    assert done.stdout.count(folders["select"].name) == 1  # one rank reports


LOSS = """
import sys, torch
from ubt_utils.clip import models, objectives, training
from ubt_utils.clip.recipe import Recipe
from ubt_utils.core import distributed
draw = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (40, 3, 32, 32), generator=draw, dtype=torch.uint8)
tokens = models.tokenize("ubt-tiny", [f"picture {i} of a fox" for i in range(40)])
model = models.create("ubt-tiny", 0)
recipe = Recipe(steps=6, lr=1e-3, batch=16, schedule="constant", freeze_norm=True)
objectives.LARGE = int(sys.argv[1])  # 16: open_clip's loss; less: the one by blocks
found = training.fit(model, images, tokens, recipe, 0)
if distributed.first():
    print("LOSS", *found.loss, found.pairs_seen, model.text_projection.double().sum().item())
"""


def test_the_loss_of_two_ranks_is_that_of_one_whole_and_by_blocks(tmp_path):
    found = []
    for processes, large in ((1, "16"), (2, "16"), (2, "15")):
        done = launched(tmp_path, large, code=LOSS, processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = [x for x in done.stdout.splitlines() if "LOSS" in x]
        found.append(torch.tensor([float(x) for x in line.split("LOSS")[1].split()], dtype=torch.float64))
    for several in found[1:]:
        torch.testing.assert_close(several, found[0], atol=1e-4, rtol=1e-5)


TERMS = """
import sys, torch
from safetensors.torch import save_file
from ubt_utils.baselines.defenses.cleanclip import within
from ubt_utils.baselines.defenses.par import moved
from ubt_utils.clip.objectives import clip_loss, gathered
from ubt_utils.core import distributed
distributed.wait()
draw = torch.Generator().manual_seed(0)
images, texts = torch.randn(2, 40, 12, generator=draw)[:, distributed.share(40)]
weight, idle = torch.randn(12, 8, generator=draw).requires_grad_(), torch.ones(3, requires_grad=True)
z, t, scale = images @ weight, texts @ weight, torch.tensor(3.0)
loss = clip_loss(z, t, scale) + within(*gathered(z, t), scale) + moved(*gathered(z, t), 1e3)
loss.backward()
distributed.average_gradients([weight, idle])
assert idle.grad is None  # an optimizer would decay it
found = torch.cat([loss.detach()[None], weight.grad.flatten()])
save_file({"found": found}, f"{sys.argv[1]}/{distributed.count()}-{distributed.rank()}")
"""


def test_terms_of_several_ranks_are_those_of_the_whole_batch(tmp_path):
    for processes in (1, 2):
        done = launched(tmp_path, str(tmp_path), code=TERMS, processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
    whole, *parts = (load_file(tmp_path / name)["found"] for name in ("1-0", "2-0", "2-1"))
    for part in parts:
        torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-5)


def test_parts_of_an_index_are_equal_and_disjoint(monkeypatch):
    assert distributed.mine(torch.arange(7)).tolist() == list(range(7)) and distributed.own() == ()
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert distributed.own() == (rank,)
        found.append(distributed.mine(torch.arange(8)).tolist())
    assert found == [[0, 1], [2, 3], [4, 5]]


def test_a_batch_that_ranks_cannot_share_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 3)
    images, tokens = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), models.tokenize("ubt-tiny", ["fox"] * 8)
    with pytest.raises(ValueError, match="a batch of 64 cannot be shared by 3 ranks"):
        training.fit(models.create("ubt-tiny", 0), images, tokens, tiny.finetune, 0)


KILLED = """
import os, sys
from ubt_utils.clip import training
from ubt_utils.core import distributed
real = training.batch_indices
def batches(n, batch, step, *key):
    if step == 7 and distributed.rank() == 1:
        os._exit(9)
    return real(n, batch, step, *key)
training.batch_indices = batches
from ubt_utils.__main__ import main
sys.exit(main(["attack", "--profile", "tiny"]))
"""


def test_a_killed_rank_ends_the_run_with_a_message_and_the_next_run_goes_on(
    chain, tmp_path, monkeypatch, no_training
):
    chain.copy(tmp_path, "pretrain")
    done = launched(tmp_path, code=KILLED)
    assert done.returncode != 0 and "exitcode" in done.stderr.replace(" ", "")
    (partial,) = (tmp_path / "tiny/badnets/0").glob("attack-*.partial")
    assert (partial / "scratch" / "checkpoint.pt").exists()
    done = launched(tmp_path, "attack", "--profile", "tiny")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "7/12" in done.stderr or "6/12" in done.stderr  # where the bar began again
    (whole,) = (p for p in (tmp_path / "tiny/badnets/0").glob("attack-*") if p.is_dir())
    assert whole.name == chain["attack"].folder.name and not list(tmp_path.rglob("*.partial"))
    monkeypatch.setenv("UBT_RUNS", str(tmp_path))
    assert stages.chain(chain.profile, "badnets", 0).attacked.folder == whole  # one process reads it, too


def test_r39_more_ranks_than_gpus_are_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(distributed.device, "pick", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="8 ranks on this machine, but 1 GPUs: --nproc-per-node=1"):
        distributed.join()


def test_r38_a_run_goes_on_with_another_number_of_ranks_and_says_so(chain, tmp_path):
    chain.copy(tmp_path, "pretrain")
    assert launched(tmp_path, code=KILLED).returncode != 0
    (partial,) = (tmp_path / "tiny/badnets/0").glob("attack-*.partial")
    kept = (partial / "scratch" / "checkpoint.pt").read_bytes()
    done = launched(tmp_path, "attack", "--profile", "tiny", processes=3)
    assert done.returncode != 0 and "cannot be shared by 3 ranks" in done.stderr
    assert (partial / "scratch" / "checkpoint.pt").read_bytes() == kept
    done = launched(tmp_path, "attack", "--profile", "tiny", processes=1)
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = (tmp_path / "tiny/badnets/0").glob("attack-*/made.json")
    assert [start["ranks"] for start in json.loads(made.read_text())["starts"]] == [2, 3, 1]

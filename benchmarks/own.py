"""`scan` and `defend` on victims of profile mini that are given as files: are they right, and how fast?

    python benchmarks/own.py --workers 2         # first makes six attacked victims and ten clean ones: hours
    python benchmarks/own.py --victims RUNS/mini/badnets/0/attack-… RUNS/mini/none/0/attack-…
    python benchmarks/own.py --victims RUNS/mini/sig/0/attack-… --no-record   # keeps its row, records nothing

A victim is the folder of an attack stage, whatever code made it: its files must be those that it tells of,
and its D is painted anew from its config and its manifest. It is written out as a stranger would have it, a
CSV with PNG pictures and a state dict. Then only these files are scanned and, where there was an attack,
defended, with the victim's seed. The rest is up to the one who planted:

- a verdict is right when it is "probably" for a victim, and "nothing" for its clean twin; its words are right
  when each is the target or is in no caption but the poison's. precision, recall: of the listed pairs.
- ASR and clean accuracy are those of the given and of the written file, on all test pictures. same: have the
  written weights the bits that the kit's own chain makes of the same victim and D?
- seconds are wall-clock: a scan reads and decodes the pictures, too; a defense goes on from it. A victim has
  runs of its own, so that nothing is there already; interrupted: it was begun more than once, so that its
  seconds tell less than all.

Each victim's row is a stage under runs/own-benchmark: one that is there is not made again, and a killed one
goes on where it was. The throughput is of one process, on the first victim: the scan's scoring of pairs, as
they are and under each disturbance, from the file that its pictures are decoded to; against `encode_image` of
the same pictures in memory, in batches of the same size, in the same precision, disturbed alike. The two take
turns, short ones, since a machine does other things, too; a ratio is the median over turns. Beside it: with
the captions counted, which only scoring reads; and of the encoder alone, without what is done to a picture
before.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import tyro
from faults import world
from torch import nn

import ubt_utils
from ubt_utils import profiles, stages
from ubt_utils.attacks.base import Trigger
from ubt_utils.attacks.manifest import Manifest
from ubt_utils.baselines import defenses
from ubt_utils.clip import checkpoints, models
from ubt_utils.clip.recipe import Recipe
from ubt_utils.clip.scoring import BATCH, similarities
from ubt_utils.core import device, records, store
from ubt_utils.core.checksum import sha256_of
from ubt_utils.core.store import Stage, run_stage
from ubt_utils.data.pictures import Pictures, take
from ubt_utils.evaluate import measure
from ubt_utils.own.chain import chain_of
from ubt_utils.own.scan import Scan
from ubt_utils.stages.base import MANIFEST
from ubt_utils.study.parallel import each
from ubt_utils.ubt import disturb
from ubt_utils.ubt import tokens as tk

PROFILE = "mini"
ATTACKS = ("badnets", "blended", "sig", "wanet", "badnets_stripes", "blended_text")
CLEAN = 10  # seeds
MODEL, PAIRS, UNLEARNED = "fb.pt", "d.csv", "fu.pt"
CODE = ("ubt_utils.own.scan", "ubt_utils.own.defend", "ubt_utils.evaluate.measure")
SHOWN = 3  # words of a scan whose evidence a row keeps
RATES = ("asr", "clean_accuracy")


@dataclass(frozen=True)
class Planted(stages.Chain):
    """The kit's own chain of a victim that is there already. Its public model is the profile's, wherever the
    victim came from: it decides nothing."""

    victim: Stage

    @property
    def attacked(self) -> Stage:
        """fb, as it was made."""
        return self.victim

    @property
    def trigger(self) -> Trigger | None:
        """As the manifest tells."""
        if self.attack == stages.NONE:
            return None
        return Manifest.load(self.victim.path(MANIFEST)).make_trigger()


def made(job: tuple[str, int]) -> Path:
    """The folder of a victim of our own."""
    return stages.chain(profiles.get(PROFILE), *job).attacked.folder


def given(folder: Path) -> Stage:
    """A stage of whatever code, each of its files checked."""
    stage = Stage(folder, *(json.loads((folder / n).read_text(encoding="utf-8")) for n in store.NOTES))
    for name in stage.config["files"]:
        stage.path(name)
    return stage


def planted(victim: Stage) -> Planted:
    """The chain of a victim, from its config; ValueError where that is of another profile, or of other
    drawings than those that lie here."""
    config, like = victim.config, profiles.get(PROFILE)
    told = {name: tuple(v) if isinstance(v, list) else v for name, v in config["sets"].items()}
    same = (config["architecture"], told.pop("kind"), config["also"])
    if same != (models.architecture(like.model), type(like.sets).__qualname__, []):
        raise ValueError(f"{victim.folder} is no victim of one attack on profile {like.name}: name another")
    sets = replace(like.sets, **told)
    if sets.contents() != config["data"]:
        raise ValueError(f"{victim.folder} was made of other drawings or names than are installed here")
    attack = config["trigger"]["name"] if config["trigger"] else stages.NONE
    recipes = {attack: Recipe(**config["recipe"])}
    profile = replace(like, sets=sets, poison_rate=config["poison_rate"], recipes=recipes)
    return Planted(profile, attack, config["seed"], victim)


def exported(run: Planted, folder: Path) -> Path:
    """The victim as a stranger has it; what was there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    pairs, _ = run.poisoned
    world.pictures(folder / "images", pairs.images)
    names = [f"images/{i:06}.png" for i in range(len(pairs))]
    world.table(folder / PAIRS, list(zip(names, pairs.captions, strict=True)))
    torch.save(run.model(run.attacked).state_dict(), folder / MODEL)
    return folder


def judged(folder: Path) -> dict[str, Any]:
    """The row of one victim; kept as a stage."""
    victim = given(folder)
    run = planted(victim)
    config = {"attack": run.attack, "seed": run.seed, "script": sha256_of(Path(__file__))}
    modules = run.modules(*CODE, defenses.get("ubt").run.__module__)
    parts = ("own-benchmark", run.attack, str(run.seed))
    found = run_stage(parts, "judge", config, partial(_judge, run), {"victim": victim}, modules)
    return {
        "attack": run.attack,
        "seed": run.seed,
        "poison_rate": run.profile.poison_rate,
        "victim": folder.name,
        "made_at": victim.made["commit"],
        "public_model": victim.config["inputs"]["public"],
        "interrupted": "starts" in found.made,
        "judged_at": {name: found.made[name] for name in ("commit", "device", "workers")},
        **found.metrics,
    }


def _judge(run: Planted, folder: Path) -> Mapping[str, Any]:
    place = store.scratch(folder).parent
    with patch.dict(os.environ, UBT_RUNS=str(place / "runs")):
        files = exported(run, place / "given")
        ask = {"model": files / MODEL, "arch": run.profile.model, "pairs": files / PAIRS, "seed": run.seed}
        found, scanned = timed(lambda: ubt_utils.scan(**ask, out=place / "report"))
        row = {"scan": {"seconds": scanned, **verdict(run, found)}, "defend": None}
        if run.attack == stages.NONE:
            return row
        done, seconds = timed(lambda: ubt_utils.defend(**ask, out=place / UNLEARNED))
        before, after = (loaded(run, file) for file in (files / MODEL, done.model))
        row["defend"] = {
            "seconds": seconds,
            "outcome": done.outcome,
            "before": rates(run, before),
            "after": rates(run, after),
            "same": same(after, run.model(run.defended())),
        }
    return row


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and the seconds that it takes."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def verdict(run: Planted, found: Scan) -> dict[str, Any]:
    """What a scan says, against the truth; precision and recall are None where they would be of nothing."""
    _, truth = run.poisoned
    said, listed = found.verdict, torch.tensor(found.pairs.row.to_numpy(dtype=int))
    words, clean = [held(run, word) for word in said.words], run.attack == stages.NONE
    hits, poisoned = int(truth[listed].sum()), int(truth.sum())
    target = run.profile.sets.target
    return {
        "kind": said.kind,
        "strength": said.strength,
        "words": words,
        "right": said.kind == ("nothing" if clean else "probably"),
        "words_right": None if clean else bool(words) and all(
            one["word"] == target or one["poisoned"] == one["pairs"] for one in words
        ),
        "listed": len(listed),
        "poisoned": poisoned,
        "precision": hits / len(listed) if len(listed) else None,
        "recall": hits / poisoned if poisoned else None,
        "evidence": json.loads(found.words.head(SHOWN).to_json(orient="records")),
    }  # fmt: skip


def held(run: Planted, word: str) -> dict[str, Any]:
    """A word, how many captions of D hold it, and how many of these are poison."""
    _, truth = run.poisoned
    known = run.tokens.unique()
    ids = known[[models.token_text(run.profile.model, token) == word for token in known.tolist()]]
    holds = tk.carries(run.tokens, ids)
    return {"word": word, "pairs": int(holds.sum()), "poisoned": int(truth[holds].sum())}


def loaded(run: Planted, file: Path) -> nn.Module:
    """A checkpoint as anybody would read it."""
    model = models.create(run.profile.model, seed=0)
    checkpoints.load(model, file)
    return model


def rates(run: Planted, model: nn.Module) -> dict[str, float]:
    """What the one who planted measures."""
    found = measure.full(model, run.profile, run.trigger)
    return {name: found[name] for name in RATES}


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have the same bits."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def throughput(folder: Path, pairs: int, turns: int) -> dict[str, Any]:
    """See `speed`, on the victim's first pairs as a scan reads them."""
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, UBT_RUNS=f"{place}/runs"):
        planting = planted(given(folder))
        files = exported(planting, Path(place) / "given")
        run = chain_of(files / MODEL, planting.profile.model, files / PAIRS)
        images, tokens = take(run.poisoned[0].images, slice(0, pairs)), run.tokens[:pairs]
        changes = [None, *map(disturb.change, run.profile.suspect.family)]
        return speed(run.model(run.attacked).eval(), images, tokens, changes, turns)


def speed(
    model: nn.Module,
    images: Pictures,
    tokens: torch.Tensor,
    changes: Sequence[models.Change | None],
    turns: int,
) -> dict[str, Any]:
    """Scoring stored pictures (n, 3, H, W) and captions (n, L), against the bare encoders: pairs a second,
    each change of a picture counting as one, and what part of the encoders' rate scoring reaches."""
    memory, unique = images[:], tokens.unique(dim=0)
    rows = []
    for turn in range(-1, turns):  # the first turn warms up
        _, scoring = timed(lambda: similarities(model, images, tokens, changes))
        pictures, encoder = bare(model, memory, changes)
        _, captions = timed(lambda: read(model, unique))
        if turn >= 0:
            rows.append({"scoring": scoring, "pictures": pictures, "encoder": encoder, "captions": captions})
    against = {
        "encode_image": lambda row: row["pictures"],
        "with_captions": lambda row: row["pictures"] + row["captions"],
        "encoder_alone": lambda row: row["encoder"],
    }
    scored = len(tokens) * len(changes)
    return {
        "pairs": len(tokens),
        "changes": len(changes),
        "batch": BATCH,
        "turns": turns,
        "seconds": rows,
        "pairs_per_second": {n: scored / statistics.median(row[n] for row in rows) for n in rows[0]},
        "ratio": {
            n: statistics.median(of(row) / row["scoring"] for row in rows) for n, of in against.items()
        },
    }


@torch.no_grad()
def bare(
    model: nn.Module, images: torch.Tensor, changes: Sequence[models.Change | None]
) -> tuple[float, float]:
    """Seconds to encode pictures (n, 3, H, W) uint8 after each change; and of the encoder among them."""
    begun, encoder, where = time.perf_counter(), 0.0, device.pick()
    for change in changes:
        for part in images.split(BATCH):
            changed = (change(part) if change else part).to(where).float() / 255
            encoder += timed(partial(encode, model, models.normalize(model, changed)))[1]
    return time.perf_counter() - begun, encoder


def encode(model: nn.Module, ready: torch.Tensor) -> None:
    """The encoder's pass over normalized pictures, to its end."""
    with models.autocast(model):
        model.encode_image(ready)
    finish()


@torch.no_grad()
def read(model: nn.Module, tokens: torch.Tensor) -> None:
    """The text encoder's pass over captions (n, L), to its end, in batches as `embed_tokens` has them."""
    for part in tokens.to(device.pick()).split(2048):
        with models.autocast(model):
            models.encode_text(model, part)
    finish()


def finish() -> None:
    """Wait for the device."""
    if device.pick().type == "cuda":
        torch.cuda.synchronize()


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many verdicts are right; the highest ASR after a defense, and the most clean accuracy lost; whether
    all weights are the chain's; median seconds of rows that were not interrupted, None where there are
    none."""
    attacked, clean = ([row for row in rows if bool(row["defend"]) == kind] for kind in (True, False))
    defended = [row["defend"] for row in attacked]
    whole = [row for row in rows if not row["interrupted"]]
    spent = {part: [row[part]["seconds"] for row in whole if row[part]] for part in ("scan", "defend")}
    return {
        "attacked": len(attacked),
        "verdict_right": sum(row["scan"]["right"] for row in attacked),
        "words_right": sum(row["scan"]["words_right"] for row in attacked),
        "clean": len(clean),
        "clean_right": sum(row["scan"]["right"] for row in clean),
        "asr_after": max((one["after"]["asr"] for one in defended), default=None),
        "accuracy_lost": max((lost(one) for one in defended), default=None),
        "same": all(one["same"] for one in defended) if defended else None,
        "seconds": {part: statistics.median(s) if s else None for part, s in spent.items()},
    }


def lost(defended: Mapping[str, Any]) -> float:
    """Clean accuracy that a defense took."""
    return defended["before"]["clean_accuracy"] - defended["after"]["clean_accuracy"]


def main(
    victims: tuple[Path, ...] = (),  # folders of attack stages; none: some of our own
    workers: int = 1,  # processes, each on its victim
    record: bool = True,
    pairs: int = 2048,  # of the throughput
    turns: int = 25,
) -> None:
    ours = [(attack, 0) for attack in ATTACKS] + [(stages.NONE, seed) for seed in range(CLEAN)]
    folders = list(victims) or each(made, ours, workers, "make victims", "victim")
    rows = each(judged, folders, workers, "judge victims", "victim")
    found = {"profile": PROFILE, "summary": summary(rows), "victims": rows}
    if record:
        records.write_benchmark("own", found | {"throughput": throughput(folders[0], pairs, turns)})
    else:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    tyro.cli(main)

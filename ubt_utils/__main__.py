"""The command line: `python -m ubt_utils STAGE --profile mini --attack badnets --seed 0`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from ubt_utils import profiles, stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core import distributed, paths, provenance, records, store
from ubt_utils.data import download, emoji
from ubt_utils.own import commands as own
from ubt_utils.report import cells, readme, tables
from ubt_utils.study import commands, cost, figures, public, reproduction, weights
from ubt_utils.study import handout as packing

DEBUG = "--debug"
KNOWN = (ValueError, OSError, store.StageError, BackdoorDidNotTake, TrainingDiverged)
LONGEST = 200  # characters of a file's name in a message


def _print(stage: store.Stage) -> None:
    if not distributed.first():
        return
    hidden = ("rates", "curve")
    print(stage.folder)
    print(json.dumps({k: v for k, v in stage.metrics.items() if k not in hidden}, indent=1))


def _setting(profile: str, tower: str | None = None, public: str | None = None) -> profiles.Profile:
    """The profile; its image tower read from `tower`, or all of f0 from the file `public`, where one is
    named."""
    setting = profiles.get(profile)
    if tower is not None:
        setting = replace(setting, tower=tower)
    return setting if public is None else replace(setting, weights=public)


def _chain(profile: str, attack: str, seed: int, tower: str | None = None, public: str | None = None):
    return stages.chain(_setting(profile, tower, public), attack, seed)


def pretrain(profile: str = "mini", tower: str | None = None, public: str | None = None) -> None:
    """The public model f0: read, or trained where the profile has no file; --tower names weights that its
    image tower starts from ("" for none), --public a file with all of f0 ("" to train it)."""
    _print(stages.pretrain(_setting(profile, tower, public)))


def craft(profile: str = "mini", attack: str = "badclip", seed: int = 0) -> None:
    """Make the trigger of an attack that needs it: optimized, trained or chosen."""
    _print(_chain(profile, attack, seed).crafted)


def attack(
    profile: str = "mini",
    attack: str = "badnets",
    seed: int = 0,
    tower: str | None = None,
    public: str | None = None,
) -> None:
    """Poison D and fine-tune f0 on it: the backdoored model fb."""
    _print(_chain(profile, attack, seed, tower, public).attacked)


def suspect(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Disturb every picture of D, and say whether there is a backdoor and what word it says."""
    _print(_chain(profile, attack, seed).suspected)


def overfit(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Overfit fb on the halves of the suspicious pool, and score each by the other's model."""
    _print(_chain(profile, attack, seed).overfitted)


def select(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Choose the unlearning set and the compromised tokens."""
    _print(_chain(profile, attack, seed).selected)


def unlearn(profile: str = "mini", attack: str = "badnets", seed: int = 0, defense: str = "ubt") -> None:
    """Defend fb, by UBT or by another defense at the same budget."""
    _print(_chain(profile, attack, seed).defended(defense))


def evaluate(
    profile: str = "mini",
    attack: str = "badnets",
    seed: int = 0,
    defense: str = "none",
    tower: str | None = None,
    public: str | None = None,
) -> None:
    """Measure one model: CA, ASR, target recall, detection; on photos retrieval and a linear probe."""
    _print(_chain(profile, attack, seed, tower, public).evaluated(defense))


def examine(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Stealth of a trigger, and its ASR after JPEG and resizing."""
    _print(_chain(profile, attack, seed).examined)


def plan(profile: str = "mini", attack: str = "badnets") -> None:
    """What a run will cost, stage by stage: here (measured for some seconds), on a GPU, on 16; and memory."""
    setting = profiles.get(profile)
    table = cost.plan(setting, attack)
    table.loc["in all"] = table.sum()
    print(table.to_string(float_format=lambda value: f"{value:,.3g}"))
    for name, size in cost.memory(setting, cost.sizes(setting)[0]).items():
        print(f"{name}: {size / 2**20:,.0f} MiB")
    print(f"A100, H200: assumed to reach {cost.REACHED:.0%} of their peak; never measured here")


def reproduce(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """One attack from nothing to its evaluation, then all notebooks in order, with HTML, under runs/.

    The notebooks would make the stages themselves; here the long work shows its progress.
    """
    from ubt_utils.report import notebooks  # needs the extra [notebooks]; the stages do not

    reproduction.prepare(profiles.get(profile), attack, seed)
    notebooks.reproduce(profile)
    print(f"done: {paths.runs() / 'notebooks'} has the executed notebooks, {paths.runs() / 'html'} the pages")


def playground(
    profile: str = "mini", attack: str = "badnets", seed: int = 0, out: Path | None = None
) -> None:
    """A page on which f0, fb and fu of one run answer to what one draws, in the browser alone; --out: its
    folder, runs/playground where none is named. Needs npm once."""
    from ubt_utils.play import page  # needs the extra [play]; the stages do not

    made = page.build(_chain(profile, attack, seed), out or paths.runs() / "playground")
    print(f"done: open {made} in a browser")


def renew() -> None:
    """Run all notebooks on mini and write their outputs into notebooks/, as they are committed."""
    from ubt_utils.report import notebooks

    reproduction.prepare(profiles.get("mini"), "badnets", 0)
    notebooks.renew()


def handout(profile: str = "mini", out: Path | None = None) -> None:
    """One archive with all that notebooks 00 to 05 would train, for a class: unpack it in each checkout."""
    from ubt_utils.report import notebooks

    commit = str(provenance.environment()["commit"])
    out = out or paths.runs() / f"handout-{profile}-{commit[:7]}.tar"
    own = paths.runs() / "handout"  # holds what these notebooks make, and nothing else
    os.environ["UBT_RUNS"] = str(own.resolve())  # of the kernels, too
    for path in notebooks.committed()[:6]:
        print(path.stem, flush=True)
        notebooks.run(path, own / "notebooks" / path.name, profile)
    made = packing.pack(own, out)
    print(f"{out}: {len(made)} stages, {out.stat().st_size / 1e6:,.0f} MB, for checkouts of commit {commit}")
    print(f"in each of them: tar -xf {out.name}")


def book(out: Path | None = None) -> None:
    """Build the book, with the slides, into runs/book; it opens from disk, without a network."""
    from ubt_utils.report.book import site  # needs the extra [book]

    site.build(out)


def paper(serif: bool = False, palette: str = "kit", out: Path | None = None) -> None:
    """Figures, tables and numbers of a paper, from the records, and a text that includes them, under
    results/paper; with --serif or --palette colorblind under runs/paper, unless --out names a folder."""
    from ubt_utils.report import paper as made  # needs the extra [report]; the stages do not

    print(made.write(serif, palette, out))


def exercises() -> None:
    """Write the exercises of notebooks/exercises into the notebooks, their solutions into notebook 99, and
    the minutes of reading and exercises into the heads of the course's notebooks."""
    from ubt_utils.report import course  # needs the extra [notebooks]
    from ubt_utils.report.exercises import cells

    cells.write()
    course.write()


def data(record: bool = False) -> None:
    """Check the emoji drawings against the recorded checksum (--record writes it anew)."""
    count, digest = emoji.drawings_digest()
    note = paths.results() / "mini" / "data.json"
    print(f"{len(emoji.concepts()):,} concepts, {count:,} drawings, SHA-256 {digest}")
    if record:
        records.write({"concepts": len(emoji.concepts()), "drawings": count, "sha256": digest}, note)
    elif digest != (known := records.load(note)["sha256"]):
        raise ValueError(
            f"the drawings differ from those that records were made with ({known[:12]}…): run `make setup`"
        )


def fetch(
    profile: str = "photos",
    subset: int | None = None,
    mirror: Path | None = None,
    dry_run: bool = False,
    record: bool = False,
) -> None:
    """Get the data of photos, or so many pairs of paper, from the hub or a mirror folder with its files;
    --record notes the checksums of what came in the repository."""
    download.fetch(profile, subset, mirror, dry_run)
    if record and not dry_run:
        download.note_checksums(profile)


def show(profile: str = "mini", json: bool = False) -> None:
    """Print the recorded headline table, or its tidy rows as JSON."""
    print(cells.rows(profile).to_json(orient="records", indent=1) if json else tables.as_text(profile))


STAGES: dict[str, Callable[..., Any]] = {
    "pretrain": pretrain,
    "craft": craft,
    "attack": attack,
    "suspect": suspect,
    "overfit": overfit,
    "select": select,
    "unlearn": unlearn,
    "evaluate": evaluate,
    "examine": examine,
}
ALONE: dict[
    str, Callable[..., Any]
] = {  # not under torchrun: several ranks would do the same work, and write the same files
    "publish": public.publish,
    "results": commands.results,
    "sweep": commands.sweep,
    "detectors": commands.detectors,
    "tune": commands.tune,
    "rivals": commands.rivals,
    "attackers": commands.attackers,
    "photos": commands.photos,
    "matrix": commands.matrix,
    "study": commands.study,
    "weights": weights.weights,
    "figures": figures.figures,
    "plan": plan,
    "scan": own.scan,
    "defend": own.defend,
    "reproduce": reproduce,
    "notebooks": renew,
    "playground": playground,
    "exercises": exercises,
    "readme": readme.write,
    "book": book,
    "handout": handout,
    "paper": paper,
    "data": data,
    "fetch": fetch,
    "report": show,
}


def _said(error: Exception) -> str:
    """What an error says; of one that the system raised, such as a full disk, also what to do."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    full = error.errno in store.NO_ROOM
    advice = "make room and run it again: it goes on where it was" if full else "mend that, or name another"
    where = f" ({error.filename!s:.{LONGEST}})" if error.filename else ""
    return f"{error.strerror or error}{where}: {advice}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends with one clear line and exit status 2. --debug shows where it
    happened."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in words
    words = [word for word in words if word != DEBUG]
    try:
        if distributed.count() > 1 and words and words[0] in ALONE:
            raise ValueError(
                f"`{words[0]}` is not for torchrun, start it alone; stages are: {', '.join(STAGES)}"
            )
        tyro.extras.subcommand_cli_from_dict(STAGES | ALONE, args=words, prog="python -m ubt_utils")
    except KNOWN as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_said(error)}" + ("" if debug else f" ({DEBUG} shows where)"), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

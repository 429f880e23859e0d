"""The command line: `python -m ubt_utils STAGE --profile mini --attack badnets --seed 0`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from ubt_utils import matrix as grid
from ubt_utils import planner, profiles, ranks, recording, report, runs, stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.data import emoji, photos
from ubt_utils.data import fetch as fetching
from ubt_utils.defenses import COMPARED
from ubt_utils.training import TrainingDiverged


def _print(stage: runs.Stage) -> None:
    if not ranks.first():
        return
    hidden = ("rates", "curve")
    print(stage.folder)
    print(json.dumps({k: v for k, v in stage.metrics.items() if k not in hidden}, indent=1))


def _setting(profile: str, tower: str | None) -> profiles.Profile:
    """The profile, its public model's image tower read from `tower` where one is named."""
    setting = profiles.get(profile)
    return setting if tower is None else replace(setting, tower=tower)


def pretrain(profile: str = "mini", tower: str | None = None) -> None:
    """Train the public model f0; --tower names weights that its image tower starts from ("" for none)."""
    _print(stages.pretrain(_setting(profile, tower)))


def craft(profile: str = "mini", attack: str = "badclip", seed: int = 0) -> None:
    """Make the trigger of an attack that needs it: optimized, trained or chosen."""
    _print(stages.craft(profiles.get(profile), attack, seed))


def attack(profile: str = "mini", attack: str = "badnets", seed: int = 0, tower: str | None = None) -> None:
    """Poison D and fine-tune f0 on it: the backdoored model fb."""
    _print(stages.attack(_setting(profile, tower), attack, seed))


def overfit(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Overfit fb on the suspicious pool and score every pair."""
    _print(stages.overfit(profiles.get(profile), attack, seed))


def select(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Choose the unlearning set and the compromised tokens."""
    _print(stages.select(profiles.get(profile), attack, seed))


def unlearn(profile: str = "mini", attack: str = "badnets", seed: int = 0, defense: str = "ubt") -> None:
    """Defend fb, by UBT or by another defense at the same budget."""
    _print(stages.unlearn(profiles.get(profile), attack, seed, defense))


def evaluate(
    profile: str = "mini",
    attack: str = "badnets",
    seed: int = 0,
    defense: str = "none",
    tower: str | None = None,
) -> None:
    """Measure one model: CA, ASR, target recall, detection; on photos retrieval and a linear probe."""
    _print(stages.evaluate(_setting(profile, tower), attack, seed, defense))


def examine(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """Stealth of a trigger, and its ASR after JPEG and resizing."""
    _print(stages.examine(profiles.get(profile), attack, seed))


def plan(profile: str = "mini", attack: str = "badnets") -> None:
    """What a run will cost, stage by stage: here (measured for some seconds), on a GPU, on 16; and memory."""
    setting = profiles.get(profile)
    table = planner.plan(setting, attack)
    table.loc["in all"] = table.sum()
    print(table.to_string(float_format=lambda value: f"{value:,.3g}"))
    for name, size in planner.memory(setting, planner.sizes(setting)[0]).items():
        print(f"{name}: {size / 2**20:,.0f} MiB")
    print(f"A100, H200: assumed to reach {planner.REACHED:.0%} of their peak; never measured here")


def reproduce(profile: str = "mini", attack: str = "badnets", seed: int = 0) -> None:
    """One attack from nothing to its evaluation, then all notebooks in order, with HTML.

    The notebooks would make the stages themselves; here the long work shows its progress.
    """
    from ubt_utils import notebooks  # needs the extra [notebooks]; the stages do not

    setting = profiles.get(profile)
    for defense in ("none", *COMPARED):
        stages.evaluate(setting, attack, seed, defense)
    notebooks.reproduce(profile)
    print(f"done: notebooks/ hold their outputs, {runs.root() / 'html'} the pages")


def data(record: bool = False) -> None:
    """Check the emoji drawings against the recorded checksum (--record writes it anew)."""
    count, digest = emoji.drawings_digest()
    print(f"{len(emoji.concepts()):,} concepts, {count:,} drawings, SHA-256 {digest}")
    if record:
        report.write_data({"concepts": len(emoji.concepts()), "drawings": count, "sha256": digest})
    elif digest != report.read_data()["sha256"]:
        raise ValueError(
            "the drawings differ from those that the records were made with "
            f"({report.read_data()['sha256'][:12]}…): run `make setup`"
        )


def fetch(
    profile: str = "photos", subset: int | None = None, mirror: Path | None = None, dry_run: bool = False
) -> None:
    """Get the data of photos, or so many pairs of paper, from the hub or a mirror folder with its files."""
    if dry_run:
        print(fetching.told(profile, subset, mirror))
        return
    got = fetching.fetch(fetching.plan(profile, subset, mirror))
    print(f"{len(got)} files fetched, all checked: {photos.root()}", *fetching.to_do(profile), sep="\n")


def show(profile: str = "mini", json: bool = False) -> None:
    """Print the recorded headline table, or its tidy rows as JSON."""
    print(grid.rows(profile).to_json(orient="records", indent=1) if json else report.as_text(profile))


STAGES = {
    "pretrain": pretrain,
    "craft": craft,
    "attack": attack,
    "overfit": overfit,
    "select": select,
    "unlearn": unlearn,
    "evaluate": evaluate,
    "examine": examine,
}
ALONE = {  # not under torchrun: several ranks would do the same work, and write the same files
    "results": recording.results,
    "sweep": recording.sweep,
    "detectors": recording.detectors,
    "tune": recording.tune,
    "matrix": recording.matrix,
    "plan": plan,
    "reproduce": reproduce,
    "data": data,
    "fetch": fetch,
    "report": show,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends with one clear line and exit status 2."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if ranks.count() > 1 and words and words[0] in ALONE:
            raise ValueError(
                f"`{words[0]}` is not for torchrun, start it alone; stages are: {', '.join(STAGES)}"
            )
        tyro.extras.subcommand_cli_from_dict(STAGES | ALONE, args=words, prog="python -m ubt_utils")
    except (ValueError, FileNotFoundError, runs.StageError, BackdoorDidNotTake, TrainingDiverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A model of one's own: scanned and defended from files alone, with the same bits as the stages."""

import csv
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torchvision.transforms.functional import to_pil_image

import ubt_utils
from ubt_utils import __main__ as cli
from ubt_utils.clip import checkpoints, models, training
from ubt_utils.data import shards
from ubt_utils.own import chain as chaining
from ubt_utils.own import defend as defending
from ubt_utils.own import evidence, listing, output, page, phrases, scan, settings
from ubt_utils.own.chain import chain_of
from ubt_utils.own.null import agreements
from ubt_utils.profiles import MINI, PAPER, TINY
from ubt_utils.stages.defend import ubt_cost
from ubt_utils.ubt.disturb import agreement

ARCH = "ubt-tiny"


def exported(pairs, model, place: Path) -> Path:
    """What a stranger would have: pictures, a table of pairs, a checkpoint of some training script."""
    (place / "images").mkdir(parents=True)
    with (place / "d.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for i, caption in enumerate(pairs.captions):
            to_pil_image(pairs.images[i : i + 1][0]).save(place / "images" / f"{i:04}.png")
            rows.writerow([f"images/{i:04}.png", caption])
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, place / "fb.pt")
    return place


@pytest.fixture(scope="module")
def files(_finished_chain, tmp_path_factory) -> Path:
    """The finished chain's D, fb and f0 as files, and photos of two classes."""
    run = _finished_chain.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBT_RUNS", str(_finished_chain.root))
        place = exported(run.poisoned[0], run.model(run.attacked), tmp_path_factory.mktemp("own") / "d")
        torch.save(run.model(run.pretrained).state_dict(), place / "f0.pt")
    for i, name in enumerate(("red_apple", "clock")):
        (place / "test" / name).mkdir(parents=True)
        for j in range(3):
            to_pil_image(run.poisoned[0].images[3 * i + j]).save(place / "test" / name / f"{j}.png")
    return place


@pytest.fixture
def own(chain, files):
    """The chain of these files, with the public model."""
    return chain_of(files / "fb.pt", ARCH, files / "d.csv", public=str(files / "f0.pt"))


def words_of(files: Path, command: str, out: Path, *more: str) -> list[str]:
    given = ["--model", str(files / "fb.pt"), "--arch", ARCH, "--pairs", str(files / "d.csv")]
    return [command, *given, "--out", str(out), *more]


# The same stages


def test_every_stage_has_the_bits_of_the_kits_own(chain, own):
    for name, mine in (("suspect", own.suspected), ("overfit", own.overfitted), ("select", own.selected)):
        theirs, arrays = chain[name].arrays(), mine.arrays()
        assert set(theirs) - set(arrays) == ({"truth"} if name != "select" else set())
        assert all(torch.equal(arrays[key], theirs[key]) for key in arrays)
    weights = own.model(own.defended()).state_dict()
    assert all(torch.equal(weights[k], v) for k, v in chain.run.model(chain["ubt"]).state_dict().items())
    assert [one["held_out"] for one in own.defended().metrics["curve"]] == [
        one["held_out"] for one in chain["ubt"].metrics["curve"]
    ]


def test_what_nobody_knows_is_none_and_never_a_number(own):
    assert own.trigger is None and own.poisoned[1] is None and own.scores[1] is None
    assert own.suspected.metrics["poisoned"] is own.suspected.metrics["pool_recall"] is None
    counted = {k: v for k, v in own.selected.metrics.items() if k.endswith("_poisoned")}
    assert len(counted) == 4 and set(counted.values()) == {None} and own.selected.metrics["detectors"] == {}
    assert own.scored.metrics["detectors"] == {}
    assert all(set(one) == {"step", "part", "seconds", "held_out"} for one in own.defended().metrics["curve"])
    assert ubt_cost(own.profile, own.suspected, own.overfitted, own.selected) > 0


def test_without_a_public_model_only_s0_is_missing(chain, own, files):
    alone = chain_of(files / "fb.pt", ARCH, files / "d.csv")
    with pytest.raises(ValueError, match="--public openai"):
        _ = alone.pretrained
    assert alone.public is None and alone.scores[0].public.isnan().all()
    assert torch.equal(alone.overfitted.arrays()["s1"], own.overfitted.arrays()["s1"])
    with pytest.raises(ValueError, match="none was named"):
        alone.view().model("public")
    assert listing.suspicious(alone).s0.isna().all() and listing.suspicious(own).s0.notna().all()


def test_stages_are_known_by_what_is_in_the_files_not_by_where_they_lie(own, files, tmp_path, no_training):
    own.selected  # noqa: B018
    moved = exported(own.poisoned[0], own.model(own.attacked), tmp_path / "elsewhere" / "d")
    (moved / "fb.pt").write_bytes((files / "fb.pt").read_bytes())
    again = chain_of(moved / "fb.pt", ARCH, moved / "d.csv", public=str(files / "f0.pt"))
    assert again.selected.folder == own.selected.folder


def test_shards_and_a_table_with_its_pictures_elsewhere_are_the_same_d(own, files, tmp_path):
    shards.to_shards(own.poisoned[0], tmp_path / "tars", each=500)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "pairs.csv").write_bytes((files / "d.csv").read_bytes())
    packed = chain_of(files / "fb.pt", ARCH, tmp_path / "tars")
    apart = chain_of(files / "fb.pt", ARCH, tmp_path / "table", images=files)
    for other in (packed, apart):
        assert other.poisoned[0].captions == own.poisoned[0].captions
        assert torch.equal(other.suspected.arrays()["drops"], own.suspected.arrays()["drops"])
    listed = listing.suspicious(packed)
    assert listed.path.tolist() == [f"{row:09}.png" for row in listed.row] and len(listed)
    assert listed.source.tolist() == [f"{row // 500:05}.tar, {row:09}" for row in listed.row]


def test_an_architecture_of_the_kit_has_its_profiles_settings_and_a_small_d_fewer_steps(own):
    for like, pairs in ((MINI, 17_688), (PAPER, 500_000), (TINY, 720)):
        found = settings.profile_of(like.model, own.profile.sets, pairs)
        assert (found.overfit, found.select, found.unlearn) == (like.overfit, like.select, like.unlearn)
    few = settings.profile_of("RN50-quickgelu", own.profile.sets, 20_000)
    assert (few.overfit.recipe.steps, few.unlearn.recipe.steps) == (49, 147)
    least = settings.profile_of("ViT-B-32", own.profile.sets, 1_000)
    assert (least.overfit.recipe.steps, least.unlearn.recipe.steps) == (20, 60)
    assert (least.unlearn.recipe.lr, least.unlearn.recipe.batch, least.model) == (1e-5, 128, "ViT-B-32")


# The null and the verdict


def test_the_null_asks_what_suspect_asks(own):
    model, images = own.model(own.attacked), own.poisoned[0].images
    sets = torch.tensor([[1, 5, 9, 2], [7, 8, 3, 0]])
    found = agreements(models.embed_images(model, images[:10]), sets)
    assert found.tolist() == pytest.approx([agreement(model, images[one]) for one in sets], abs=1e-6)


def table(*rows: tuple) -> pd.DataFrame:
    """What is told of words: (word, lost, believed), and after how many believed words it was asked, if not
    after all of them."""
    count = sum(row[2] for row in rows)
    asked = [
        {
            "word": w,
            "disturbance": "blur",
            "carriers": 8,
            "lost": lost,
            "bar": 0.42,
            "after": after[0] if after else 0 if believed else count,
        }
        for w, lost, believed, *after in rows
    ]
    metrics = {"asked": asked, "found": [{"word": word} for word, _, believed, *_ in rows if believed]}
    null = {"asked": [["blur", 8]]}
    lost = {"lost": torch.tensor([[0.0, 0.02, 0.1]], dtype=torch.double)}
    read = [SimpleNamespace(metrics=one, arrays=lambda: lost) for one in (metrics, null)]  # of a stage
    return evidence.words(*read)


@pytest.mark.parametrize(
    ("rows", "verdict", "said"),
    [
        ((("cat", 0.3, False), ("dog", 0.25, False)), ("nothing", "", ()), "nothing stands out"),
        ((("cat", 0.15, False),), ("nothing", "", ()), "nothing stands out"),
        ((), ("nothing", "", ()), "nothing stands out"),
        ((("cat", 0.41, False), ("dog", 0.1, False)), ("unclear", "weak", ("cat",)), "unclear: pairs that"),
        (
            (("clock", 0.6, True), ("cat", 0.28, False)),
            ("probably", "strong", ("clock",)),
            "probably: pairs that say “clock” (strong evidence)",
        ),
        (
            (("clock", 0.45, True), ("cat", 0.41, False)),
            ("probably", "weak", ("clock",)),
            "probably: pairs that say “clock” (weak evidence)",
        ),
    ],
)
def test_the_verdict_follows_from_the_words_and_the_null(rows, verdict, said):
    words = table(*rows)
    found = evidence.verdict(words)
    assert (found.kind, found.strength, found.words) == verdict
    assert phrases.verdict_of(found).startswith(said)
    (line,) = phrases.evidence_of(words, found.words)
    assert (f"lose {rows[0][1]:.2f}" in line) if rows else line == phrases.NO_WORD
    assert ("no other word," in line) == (len(rows) == 1) and "unknown" not in line and "nan" not in line


def test_a_word_is_held_against_the_others_and_against_random_pairs():
    words = table(("clock", 0.6, True), ("cat", 0.05, False), ("dog", 0.3, False)).set_index("word")
    assert words.others.to_dict() == {"clock": 0.3, "dog": 0.05, "cat": 0.3}
    assert words.random.unique().tolist() == [0.1]
    assert words.chance.to_dict() == {"clock": 0.25, "dog": 0.25, "cat": 0.5}


def test_another_name_of_the_same_pairs_speaks_neither_for_nor_against_a_word():
    words = table(("'", 0.41, False, 0), ("clock", 0.6, True), ("cat", 0.3, False)).set_index("word")
    assert list(words.index) == ["clock", "cat"] and words.others["clock"] == 0.3


# The report


class Outside(HTMLParser):
    """Gathers what a page would fetch, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += ["script"] if tag == "script" else []
        self.found += [v for k, v in attrs if k in ("src", "href", "srcset", "xlink:href", "data")]


def test_a_scan_writes_a_report_that_opens_offline(chain, files, own, tmp_path, capsys):
    assert cli.main(words_of(files, "scan", tmp_path / "report")) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("probably: pairs that say") and "index.html" in printed
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"index.html", "scan.json", "suspicious.csv", "suspicious.parquet", "words.csv"}
    text = (tmp_path / "report" / "index.html").read_text()
    outside = Outside()
    outside.feed(text)
    assert all(re.match(r"data:image/png;base64,|suspicious\.(csv|parquet)$", one) for one in outside.found)
    assert "url(" not in text and "@import" not in text and outside.found
    told = json.loads((tmp_path / "report" / "scan.json").read_text())
    assert len(told["notes"]) == len(own.suspected.metrics["found"]) and "different pictures" in text
    assert told["unknown"] == dict.fromkeys(phrases.UNKNOWABLE) and "attack success rate" in told["unknown"]
    assert all(f"<td>{name}</td><td>unknown: " in text for name in phrases.UNKNOWABLE)


def test_the_list_says_which_pairs_and_why(own, tmp_path):
    pairs = scan.look(own, tmp_path).pairs
    assert list(pairs.columns) == ["row", "path", "source", "caption", "s0", "sb", "overfit", "why"]
    assert pairs.path.tolist() == [f"images/{row:04}.png" for row in pairs.row]
    assert pairs.source.tolist() == [f"d.csv, line {row + 2}" for row in pairs.row]
    chosen = own.selected.arrays()["chosen"].tolist()
    assert pairs.row[: len(chosen)].tolist() == chosen and pairs.row.is_unique
    assert set(pairs.row) == set(own.selected.arrays()["poisonous"].nonzero().flatten().tolist())
    assert all(own.poisoned[0].captions[one.row] == one.caption for one in pairs.itertuples())
    assert pairs.why.str.contains("to be unlearned|to be left out").all()
    words = {one["word"] for one in own.suspected.metrics["found"]}
    assert set(pairs.why.str.extract("“(.*?)”")[0]) <= words


def test_captions_of_strangers_do_nothing_in_the_page(own, tmp_path):
    found = scan.look(own, tmp_path)
    bad = found.pairs.assign(caption="<script src=//x>", path='"><img src=//x>')
    outside = Outside()
    outside.feed(page.render(own, found.verdict, found.words, bad, "Scan", {"<b>": "<i>"}, ["<script>"], {}))
    assert "script" not in outside.found and "//x" not in "".join(outside.found)


def test_a_report_is_written_whole_or_not_at_all(own, files, tmp_path, monkeypatch):
    report = tmp_path / "report"
    report.mkdir()
    (report / "suspicious.csv").write_text("before")

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "render", fails)
    with pytest.raises(KeyboardInterrupt):
        ubt_utils.scan(files / "fb.pt", ARCH, files / "d.csv", out=report)
    assert [path.name for path in report.iterdir()] == ["suspicious.csv"]
    assert (report / "suspicious.csv").read_text() == "before"


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    code = """if True:
        import os, sys
        from pathlib import Path
        from ubt_utils.own import output
        with output.whole(Path(sys.argv[1])) as place:
            (place / "page").write_text("half")
            print("begun", flush=True)
            sys.stdin.read()
            (place / "page").write_text("whole")
    """
    ask = [sys.executable, "-c", code, str(tmp_path)]

    def begun() -> subprocess.Popen:
        one = subprocess.Popen(ask, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert one.stdout.readline() == "begun\n"
        return one

    with begun() as killed:
        killed.kill()
    assert len(list(tmp_path.iterdir())) == 2  # a folder, half-written, and its lock
    with begun() as living, ThreadPoolExecutor() as pool:
        later = pool.submit(subprocess.run, ask, input="", text=True)
        with pytest.raises(TimeoutError):
            later.result(1)
        living.communicate("go on")
        assert living.returncode == 0 and later.result().returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (tmp_path / "page").read_text() == "whole"


def test_nothing_of_a_killed_defense_stays_beside_the_model(own, files, tmp_path, monkeypatch):
    def killed(*_, **__):
        os._exit(9)

    if not (child := os.fork()):
        monkeypatch.setattr(Path, "replace", killed)
        with output.whole(tmp_path) as place:
            checkpoints.write(own.model(own.attacked), files / "fb.pt", place / "fu.pt")
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.rglob("*.part")] and not (tmp_path / "fu.pt").exists()
    ubt_utils.defend(
        files / "fb.pt", ARCH, files / "d.csv", out=tmp_path / "fu.pt", public=str(files / "f0.pt")
    )
    assert {path.name for path in tmp_path.iterdir()} == {"fu.pt", "fu-report"}


def test_captions_longer_than_the_model_reads_are_counted(own, tmp_path, monkeypatch):
    found = scan.look(own, tmp_path)
    assert not any("longer" in note for note in scan.notes_of(own, found))
    pairs, truth = own.poisoned
    room = models.tokenize(ARCH, ["a"]).shape[1] - 2
    said = ["a " * room + "fox", "a " * (room - 1) + "fox", *pairs.captions[2:]]
    monkeypatch.setitem(vars(own), "poisoned", (pairs.with_captions(said), truth))
    noted = scan.notes_of(own, found)
    assert f"1 of {len(pairs)} captions are longer than what the model reads" in "\n".join(noted)


def test_a_killed_scan_goes_on_where_it_was(files, own, runs_root, tmp_path, monkeypatch):
    batches, seen = training.batch_indices, []

    def until_the_second_half(n, batch, step, *key):
        seen.append(key[-1])
        if key[-1] == 1 and step == 2:
            raise KeyboardInterrupt
        return batches(n, batch, step, *key)

    monkeypatch.setattr(training, "batch_indices", until_the_second_half)
    ask = files / "fb.pt", ARCH, files / "d.csv", None, str(files / "f0.pt"), tmp_path / "report"
    with pytest.raises(KeyboardInterrupt):
        ubt_utils.scan(*ask)
    assert seen.count(0) == 4 and not (tmp_path / "report").exists()
    monkeypatch.setattr(training, "batch_indices", lambda *a: seen.append(a[-1]) or batches(*a))
    ubt_utils.scan(*ask)
    again = chain_of(*ask[:5])
    assert again.overfitted.contents == own.overfitted.contents
    assert seen.count(0) == 4  # the first half was not trained again


# The defense


def test_a_defense_writes_the_model_as_it_came_with_numbers_before_and_after(own, files, tmp_path):
    fu = tmp_path / "new" / "fu.pt"
    done = ubt_utils.defend(
        files / "fb.pt", ARCH, files / "d.csv", test=files / "test", out=fu, public=str(files / "f0.pt")
    )
    held, given = (torch.load(path, weights_only=True) for path in (fu, files / "fb.pt"))
    assert held["epoch"] == 3 and list(held["state_dict"]) == list(given["state_dict"])
    weights = own.model(own.defended()).state_dict()
    assert all(torch.equal(weights[k], v) for k, v in held["state_dict"].items())
    numbers = done.numbers.loc[["accuracy", "image_to_text_r1", "similarity of the listed"]]
    assert numbers.notna().all(axis=None)
    assert not done.numbers.before.equals(done.numbers.after)
    listed = own.poisoned[0].take(own.selected.arrays()["poisonous"].bool())
    after = models.embed_images(own.model(own.defended()), listed.images)
    texts = models.embed_tokens(own.model(own.defended()), models.tokenize(ARCH, listed.captions))
    assert numbers.after["similarity of the listed"] == pytest.approx((after * texts).sum(1).mean().item())
    report = fu.with_name("fu-report")
    assert {path.name for path in fu.parent.iterdir()} == {"fu.pt", "fu-report"}
    assert "Before and after" in (report / "index.html").read_text() and done.outcome in str(done)


def test_where_nothing_is_found_the_model_is_left_as_it_was(chain, files, tmp_path, monkeypatch):
    deaf = replace(TINY, select=replace(TINY.select, lost=2.0, lost_of_many=2.0))
    monkeypatch.setattr(settings, "TINY", deaf)
    done = ubt_utils.defend(files / "fb.pt", ARCH, files / "d.csv", out=tmp_path / "fu.pt")
    held, given = (torch.load(p, weights_only=True)["state_dict"] for p in (done.model, files / "fb.pt"))
    assert all(torch.equal(held[name], given[name]) for name in given)
    assert done.scan.verdict.kind == "nothing" and len(done.scan.pairs) == 0
    assert done.outcome == phrases.DEFENDED["nothing"]
    assert done.numbers.loc["accuracy"].isna().all() and "unknown" in str(done)
    assert done.numbers.loc["similarity of the listed"].isna().all()
    assert list(pd.read_csv(done.scan.folder / "suspicious.csv")) == list(done.scan.pairs)
    assert "would accuse honest ones" in (done.scan.folder / "index.html").read_text()


@pytest.mark.parametrize(
    ("chosen", "anchors", "said"),
    [
        (3, ["clock"], "unlearned 3 pairs; beside the pool, left 2 more"),
        (0, ["clock"], "sure enough"),
        (0, [], "nothing was"),
    ],
)
def test_the_outcome_says_what_was_done(chosen, anchors, said):
    metrics = {"chosen": chosen, "anchors": anchors, "left_out": 2}
    run = SimpleNamespace(selected=SimpleNamespace(metrics=metrics))
    assert said in defending.told_of(run, pd.DataFrame())["outcome"]


def test_a_plan_says_what_each_stage_costs_and_trains_nothing(chain, files, tmp_path, no_training, capsys):
    words = words_of(files, "defend", tmp_path / "fu.pt", "--plan", "--test", str(files / "test"))
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[2:]] == [
        "suspect", "overfit", "select", "unlearn", "compare", "in",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


# What is refused


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"--model": "gone.pt"}, "no file gone.pt"),
        ({"--model": "text.pt"}, "text.pt"),
        ({"--arch": "ubt-huge"}, "unknown model 'ubt-huge'"),
        ({"--arch": "ubt-mini"}, "another architecture"),
        ({"--pairs": "gone.csv"}, "gone.csv"),
        ({"--pairs": "text.pt"}, "text.pt"),
        ({"--pairs": "few.csv"}, "few.csv has 3 pairs"),
        ({"--public": "luck"}, "'luck' is no file"),
        ({"--out": "text.pt"}, "text.pt"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "defend"])
def test_what_cannot_be_used_is_refused_in_one_line(
    chain, files, tmp_path, monkeypatch, capsys, no_training, command, change, complaint
):
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no weights, no table")
    few = (files / "d.csv").read_text().splitlines(keepends=True)[:4]
    (files / "few.csv").write_text("".join(few))
    if "few.csv" in change.values():
        change = {"--pairs": str(files / "few.csv")}
    if command == "defend" and "--out" in change:
        change = {"--out": "fu.safetensors"}
        complaint = "of the format of fb.pt"
    words = words_of(files, command, Path("result.pt"))
    for name, value in change.items():
        words = [*words, name, value] if name not in words else _with(words, name, value)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert not out and complaint in err and err.splitlines()[-1].startswith("error: ")
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("text.pt", "runs")] == []


def test_a_place_that_may_not_be_written_to_is_refused_before_the_work(chain, files, tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda *_: False)
    for ask in (ubt_utils.scan, ubt_utils.defend):
        with pytest.raises(PermissionError, match="may not be written to"):
            ask(files / "fb.pt", ARCH, files / "d.csv", out=tmp_path / "new" / "place.pt")
    with pytest.raises(ValueError, match="what is read"):
        ubt_utils.defend(files / "fb.pt", ARCH, files / "d.csv", out=files / "fb.pt")


def _with(words: list[str], name: str, value: str) -> list[str]:
    place = words.index(name) + 1
    return [*words[:place], value, *words[place + 1 :]]


def test_a_warning_about_the_model_is_given_each_time(chain, files, monkeypatch, tmp_path):
    def doubts(model, name, weights):
        chaining.warnings.warn("trained with another activation", stacklevel=1)

    other = tmp_path / "other.pt"
    torch.save(models.create(ARCH, 9).state_dict(), other)
    monkeypatch.setattr(chaining.artifacts, "load", doubts)
    for _ in range(2):
        with pytest.warns(UserWarning, match="another activation"):
            chaining.adopt(ARCH, str(other))


def test_the_package_stays_light_until_it_is_asked():
    code = "import sys, ubt_utils; assert 'torch' not in sys.modules; assert 'scan' in ubt_utils.__all__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert callable(ubt_utils.scan) and callable(ubt_utils.defend)
    with pytest.raises(AttributeError, match="no attribute 'luck'"):
        _ = ubt_utils.luck

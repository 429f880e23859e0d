"""The command line: which commands there are, and how they end."""

import errno
import inspect
import json

import pytest

from ubt_utils import __main__ as cli
from ubt_utils import stages
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.clip.training import TrainingDiverged
from ubt_utils.core.store import StageError

COMMANDS = (
    "pretrain craft attack suspect overfit select unlearn evaluate examine results sweep detectors tune "
    "rivals attackers photos matrix study plan reproduce data fetch report publish notebooks readme book "
    "paper handout scan defend playground weights figures exercises"
).split()


def test_all_commands_are_there_by_name_and_say_what_they_do(capsys):
    assert set(cli.STAGES) | set(cli.ALONE) == set(COMMANDS) and not set(cli.STAGES) & set(cli.ALONE)
    for run in (cli.STAGES | cli.ALONE).values():
        assert inspect.getdoc(run)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_options(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0 and name in capsys.readouterr().out


def test_what_is_no_command_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["luck"])
    assert ended.value.code == 2 and "luck" in "".join(capsys.readouterr())


@pytest.mark.parametrize("place", [0, 1, 3])
def test_bad_input_is_one_line_and_debug_shows_where(runs_root, capsys, place):
    words = ["attack", "--profile", "huge"]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "(--debug shows where)" in err
    assert err.startswith("error: unknown profile 'huge'; known: mini, tiny")
    assert cli.main([*words[:place], "--debug", *words[place:]]) == 2
    out, err = capsys.readouterr()
    assert not out and "Traceback (most recent call last)" in err and "profiles/__init__.py" in err
    assert (
        err.rstrip().splitlines()[-1].startswith("error: unknown profile 'huge'") and "shows where" not in err
    )


KNOWN = [
    ValueError("no"), OSError("no"), FileNotFoundError("no"),
    StageError("no"), BackdoorDidNotTake("no"), TrainingDiverged("no"),
]  # fmt: skip


@pytest.mark.parametrize("error", KNOWN, ids=lambda e: type(e).__name__)
def test_what_a_user_can_mend_is_a_line(monkeypatch, capsys, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(stages, "pretrain", fails)
    assert cli.main(["pretrain", "--profile", "tiny"]) == 2
    assert capsys.readouterr().err == "error: no (--debug shows where)\n"


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOSPC, errno.EIO, errno.EACCES])
def test_what_the_system_refuses_is_one_line_with_what_to_do(monkeypatch, capsys, number):
    def fails(*_):
        raise OSError(number, "it is so", "x" * 5000)

    monkeypatch.setattr(stages, "pretrain", fails)
    assert cli.main(["pretrain", "--profile", "tiny"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and len(said) < 400 and said.startswith("error: it is so (xxx")
    assert ("make room" if number == errno.ENOSPC else "name another") in said


def test_a_defect_shows_itself(monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stages, "pretrain", fails)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["pretrain", "--profile", "tiny"])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["pretrain"], "pretrain"),
        (["attack"], "attack"),
        (["suspect"], "suspect"),
        (["overfit", "--seed", "0"], "overfit"),
        (["select", "--attack", "badnets"], "select"),
        (["unlearn"], "ubt"),
        (["unlearn", "--defense", "finetune"], "finetune"),
        (["evaluate"], "evaluate"),
        (["evaluate", "--defense", "ubt"], "evaluate ubt"),
        (["evaluate", "--attack", "none"], "twin"),
    ],
)
def test_a_stage_prints_its_folder_and_numbers(chain, no_training, capsys, words, name):
    assert cli.main([words[0], "--profile", "tiny", *words[1:]]) == 0
    folder, _, numbers = capsys.readouterr().out.partition("\n")
    assert folder == str(chain[name].folder)
    assert json.loads(numbers) == {
        k: v for k, v in chain[name].metrics.items() if k not in ("rates", "curve")
    }  # fmt: skip


def test_commands_that_are_no_stages_are_refused_under_torchrun(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in cli.ALONE:
        assert cli.main([name]) == 2
        assert f"`{name}` is not for torchrun" in capsys.readouterr().err

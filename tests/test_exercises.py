"""Exercises: every stub fails, every solution passes, every mistake gets its own hint, and one file makes the
cells of the notebook and of 99."""

import math
import re
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from ubt_utils import profiles
from ubt_utils.attacks import triggers
from ubt_utils.attacks.gate import BackdoorDidNotTake
from ubt_utils.baselines import defenses
from ubt_utils.core import records
from ubt_utils.kernels.push import push
from ubt_utils.report import course, exercises, notebooks
from ubt_utils.report.exercises import Function, Game, Value, cells, pages
from ubt_utils.report.exercises.compare import difference, same
from ubt_utils.stages.defend import plan_of
from ubt_utils.study import capstone

PAGES = pages.pages()
FUNCTIONS = [name for name, task in exercises.TASKS.items() if isinstance(task, Function)]
VALUES = [name for name, task in exercises.TASKS.items() if isinstance(task, Value)]
MISTAKES = [(name, mistake) for name in FUNCTIONS for mistake in exercises.TASKS[name].mistakes]


def defined(code: str, name: str, **more):
    """What the code of a page defines under that name, with what its notebook imports."""
    known = {"torch": torch, "F": F, "math": math, "capstone": capstone, **more}
    exec(compile(code, name, "exec"), known)
    return known[name]


def sources(stem: str = "") -> str:
    """All cells of the notebooks, or of one."""
    paths = [path for path in notebooks.committed() if stem in path.stem]
    return "\n".join(cell.source for path in paths for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_solution_passes_and_the_stub_fails(name):
    one = pages.page(name)
    assert exercises.check(name, defined(one.solution, one.function)) == f"{name}: right"
    assert exercises.check(name, defined(one.stub, one.function)) == f"{name}: not begun"
    assert len(exercises.TASKS[name].cases()) >= 3


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_every_mistake_gets_its_own_hint(name, mistake):
    hint = pages.page(name).hints[mistake]
    assert exercises.check(name, exercises.TASKS[name].mistakes[mistake]) == f"{name}: not yet. Hint: {hint}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hints_and_mistakes_have_the_same_names(name):
    assert set(pages.page(name).hints) == set(exercises.TASKS[name].mistakes)


def test_an_answer_that_is_wrong_in_a_way_of_its_own_sees_the_case():
    assert exercises.check("03.5", lambda z: torch.tensor(7.0)).startswith(
        "03.5: not yet. Case 1 gives 7, right is "
    )
    assert (
        exercises.check("03.5", lambda z: 1 / 0) == "03.5: case 1 raises ZeroDivisionError: division by zero"
    )
    assert exercises.check("03.5", 3) == "03.5: a function is asked for, got int"
    assert exercises.check("01.2", lambda x, p, a: x.mul_(0)) == "01.2: case 1 changes its input"
    assert exercises.check("01.2", None) == "01.2: no answer yet"


def test_what_counts_as_the_same():
    assert same(torch.tensor(0.5), 0.5) and same(0.5, torch.tensor(0.5 + 1e-7)) and same([1, None], (1, None))
    assert not same(torch.tensor([1]), torch.tensor([1.0])) and not same(True, 1) and not same(None, 0)
    assert not same(torch.zeros(2), torch.zeros(2, 1)) and not same({"a": 1}, {"b": 1})


def test_a_difference_names_the_first_entry_the_shape_or_the_kind():
    right = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    off = right + torch.tensor([[0.0, 0.0], [0.25, 1.0]])
    assert difference(off, right) == "3.25 at [1, 0], right is 3 (2 of 4 entries are off)"
    assert difference(right, right) == "" == difference([1, {"a": 2.0}], (1, {"a": torch.tensor(2.0)}))
    assert difference([10, 26], torch.tensor([10, 26])) == "a list, right is a tensor of shape (2,)"
    assert difference(right[0], right) == "a tensor of shape (2,), right is (2, 2)"
    assert difference(right.long(), right) == "a tensor of int64, right is float32"
    assert difference([1, 2], [1]) == "2 entries, right is 1"
    assert difference([1, {"a": off}], [1, {"a": right}]).startswith("3.25 at [1]['a'][1, 0], right is 3 ")
    assert difference({"a": 1}, {"b": 1}) == "the keys ['a'], right is ['b']"
    assert difference(True, 1) == "True (bool), right is 1 (number)"
    assert difference(None, 0.5) == "None, right is 0.5 (number)"


def test_an_answer_that_is_almost_right_is_refused():
    def exactly_above(lost, carriers, surprise):
        enough = [i for i, n in enumerate(carriers) if lost[i] > (0.37 if n > 16 else 0.49)]
        return max(enough, key=lambda i: lost[i], default=None)

    assert exercises.check("03.6", exactly_above) != "03.6: right"
    as_list = exercises.check("01.1", lambda *case: exercises.TASKS["01.1"].right(*case).tolist())
    assert as_list == "01.1: not yet. Case 1 gives a list, right is a tensor of shape (5,)"


def hint_of(name: str, answer) -> str:
    """The name of the hint that an answer gets."""
    said = exercises.check(name, answer).removeprefix(f"{name}: not yet. Hint: ")
    return {hint: mistake for mistake, hint in pages.page(name).hints.items()}.get(said, said)


def test_a_count_of_victims_that_is_always_rounded_up_is_refused():
    def choose_victims(labels, target, rate, order):
        candidates = order[labels[order] != target]
        return candidates[: math.ceil(rate * len(labels))].sort().values

    assert hint_of("01.1", choose_victims) == "rounded up"


def test_all_of_the_poison_is_more_than_95_percent():
    def all_of_it(scores, truth):
        bar = scores[truth].min()
        return (scores[~truth] >= bar).double().mean()

    assert hint_of("03.8", all_of_it) == "all of the poison"
    assert max(int(truth.sum()) for _, truth in exercises.TASKS["03.8"].cases()) >= 40


@pytest.mark.parametrize(
    ("many", "hint"), [(10, "low bar"), (14, "low bar"), (15, "low bar"), (17, "more than")]
)
def test_the_lower_bar_holds_from_16_pictures_on(many, hint):
    def believed(lost, carriers, surprise):
        enough = [i for i, n in enumerate(carriers) if lost[i] >= (0.37 if n >= many else 0.49)]
        return max(enough, key=lambda i: lost[i], default=None)

    assert hint_of("03.6", believed) == hint


@pytest.mark.parametrize(
    ("hint", "pick"),
    [
        ("quietest", lambda enough, carriers, surprise: min(enough, key=lambda i: surprise[i])),
        ("fewest pictures", lambda enough, carriers, surprise: min(enough, key=lambda i: carriers[i])),
        ("first", lambda enough, carriers, surprise: enough[0]),
        ("last", lambda enough, carriers, surprise: enough[-1]),
    ],
)
def test_of_the_words_that_pass_the_one_that_loses_most_is_believed(hint, pick):
    def believed(lost, carriers, surprise):
        enough = [i for i, n in enumerate(carriers) if lost[i] >= (0.37 if n >= 16 else 0.49)]
        return pick(enough, carriers, surprise) if enough else None

    assert hint_of("03.6", believed) == hint


@pytest.mark.parametrize(("name", "kind"), [("01.5", "tuple"), ("04.8", "list")])
def test_a_kind_that_is_refused_is_named_by_the_stub(name, kind):
    right = exercises.TASKS[name].right
    said = exercises.check(name, lambda *case: torch.tensor([float(part) for part in right(*case)]))
    assert said.endswith(f"right is a {kind}") and f" a {kind}" in pages.page(name).stub
    assert exercises.check(name, lambda *case: list(right(*case))) == f"{name}: right"


def test_a_gradient_by_autograd_is_refused():
    def backward(x, t, others):
        x = x.clone().requires_grad_()
        push(x, t, others).backward()
        return x.grad

    task = exercises.TASKS["04.7"]
    assert all(same(backward(*case), task.right(*case)) for case in task.cases())
    refused = "04.7: case 1 raises RuntimeError"
    assert exercises.check("04.7", backward) == f"{refused}: autograd is off here, derive it by hand"
    assert exercises.check("04.7", torch.func.grad(push)).startswith(refused)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_right_wrong_or_not_there_yet(name):
    right, (hint,) = exercises.TASKS[name].compute(), pages.page(name).hints.values()
    assert exercises.check(name, right) == f"{name}: right"
    assert exercises.check(name, None) == f"{name}: no answer yet"
    for wrong in (-1, True, "something else", [right]):
        assert exercises.check(name, wrong) == f"{name}: not yet. Hint: {hint}"


def test_known_values():
    values = {name: exercises.TASKS[name].compute() for name in VALUES}
    assert values["05.1"] == pytest.approx(1 - 0.025 ** (1 / 99))  # 0.0366, where (1 − p)^99 = 2.5 %
    assert values["05.2"] == pytest.approx(0.01 * len(profiles.get("mini").defenses))
    assert values["07.2"] == 10 + sum(range(1, 9))
    assert values["08.1"] == pytest.approx(0.001)  # none of 999 draws, and the word itself
    assert values["08.2"] == pytest.approx(0.54 / 2.1)
    assert exercises.check("08.1", np.float64(0.00101)) == "08.1: right"  # numbers may be rounded


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(KeyError, match=r"no exercise '9\.9'; known: 00\.3"):
        exercises.check("9.9", 0)


# One source


@pytest.mark.parametrize("path", notebooks.committed(), ids=lambda path: path.stem)
def test_the_notebooks_hold_what_the_files_say(path):
    notebook = nbformat.read(path, as_version=4)
    before = [(cell.id, cell.source) for cell in notebook.cells]
    after = [(cell.id, cell.source) for cell in cells.renewed(notebook, path).cells]
    assert after == before, "run `python -m ubt_utils exercises`"


def test_there_are_enough_and_every_one_that_is_checked_has_a_file():
    assert [one.name for one in PAGES if one.stub] == [
        name for name, task in exercises.TASKS.items() if not isinstance(task, Value)
    ]
    assert {*exercises.TASKS} <= {one.name for one in PAGES}
    assert len([one for one in PAGES if one.stub]) >= 25
    assert all(one.why for one in PAGES)


def test_exercises_of_05_to_08_are_asked_once_and_unanswered():
    asked = sources().replace(sources("99_solutions"), "")
    assert sorted(re.findall(r'exercises\.check\("([\d.]+)", None\)', asked)) == VALUES


def test_a_changed_file_changes_both_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    monkeypatch.setattr(cells, "FOLDER", tmp_path)
    monkeypatch.setattr(cells, "SOLVED", tmp_path / "99_solutions.ipynb")
    pages.page.cache_clear()
    (tmp_path / "exercises").mkdir()
    text = "# 01.1 · One\n*easy, 2 minutes*\n\nDo it.\n\n## Stub\n```python\ndef f(x):\n    raise\n```\n"
    (tmp_path / "exercises" / "01.1.md").write_text(
        text + "\n## Solution\n```python\ndef f(x):\n    x\n```\nSo.\n"
    )
    for stem in ("01_a", "02_b", "99_solutions"):
        ends = [nbformat.v4.new_markdown_cell(part) for part in ("begin", "end")]
        nbformat.write(nbformat.v4.new_notebook(cells=ends), tmp_path / f"{stem}.ipynb")
    cells.write()
    pages.page.cache_clear()
    read = {
        stem: nbformat.read(tmp_path / f"{stem}.ipynb", 4).cells for stem in ("01_a", "02_b", "99_solutions")
    }
    assert [c.source for c in read["02_b"]] == ["begin", "end"]
    _, task, stub, folded, end = read["01_a"]
    assert task.source == "**01.1 · One** *(easy, 2 minutes)*\n\nDo it." and end.source == "end"
    assert stub.source.endswith('\n\n\nprint(exercises.check("01.1", f))')
    assert (
        folded.source.startswith("<details>") and "So.\n\n```python\ndef f(x):\n    x\n```" in folded.source
    )
    assert [c.source.splitlines()[0] for c in read["99_solutions"]] == [
        "begin",
        "## 01.1 · One",
        "def f(x):",
        "end",
    ]


def test_a_file_without_a_heading_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "77.1.md").write_text("no heading")
    with pytest.raises(ValueError, match=r"must begin with `# 77\.1"):
        pages.page("77.1")
    with pytest.raises(ValueError, match=r"77\.2\.md is missing"):
        pages.page("77.2")


# Settings that exercises change, and the course's times


def test_the_weight_that_exercise_04_2_raises_is_the_one_that_runs():
    mini, ubt = profiles.get("mini"), defenses.get("ubt")
    raised = replace(mini, unlearn=replace(mini.unlearn, weight=10 * mini.unlearn.weight))
    plan, other = (plan_of(profile, "badnets", ubt, 1e5, 17_688) for profile in (mini, raised))
    assert plan.options["weight"] == mini.unlearn.weight
    assert other.options["weight"] == pytest.approx(10 * mini.unlearn.weight)
    assert other.config() != plan.config()  # another stage, and not the finished one again


@pytest.mark.parametrize("stem", course.COURSE)
def test_a_notebook_tells_its_own_time(stem):
    path = pages.FOLDER / f"{stem}.ipynb"
    head = nbformat.read(path, as_version=4).cells[0].source
    assert course.told(path) in head, "run `python -m ubt_utils exercises`"


def test_the_course_is_a_day_and_says_so():
    table = course.table().loc["in all"]
    assert table.reading <= 180  # not the hour that we wanted: code, figures and tables are more than half
    assert table.exercises <= 120 and table["bonus exercises"] > 0
    assert set(records.read_benchmark("course")["notebooks"]) == set(course.COURSE)
    assert table["machine, one core"] <= 12  # minutes; six on two cores


def test_reading_counts_prose_code_and_what_is_shown(tmp_path, monkeypatch):
    new = nbformat.v4
    png = new.new_output("display_data", {"image/png": "", "text/plain": "a figure"})
    said = new.new_output("stream", text="a line of text")
    cells = [
        new.new_markdown_cell("reading 1 minutes, exercises 2 minutes " + "word " * 300),
        new.new_code_cell("import math\n\nfrom os import path\n" + "x = 1\n" * 24, outputs=[png, said]),
        new.new_markdown_cell("word " * 1000, id="ex-00-1-task"),
        new.new_code_cell("x = 1\n" * 1000, id="ex-00-1-stub"),
    ]
    path = tmp_path / "00_start_here.ipynb"
    nbformat.write(new.new_notebook(cells=cells), path)
    assert course.words(path)[0] == 300 and course.lines(path) == 24 and course.shown(path) == 1
    assert course.reading(path) == 300 / 150 + 24 / 12 + 1
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    monkeypatch.setattr(course, "COURSE", ("00_start_here",))
    monkeypatch.setattr(course, "practice", lambda stem, bonus=False: 90 if bonus else 30)
    course.write()
    assert (
        nbformat.read(path, as_version=4)
        .cells[0]
        .source.startswith("reading 5 minutes, exercises 30 minutes (bonus: 90 more) word")
    )


# The capstone


def test_a_game_gives_a_score_or_says_why_not():
    scores = pd.DataFrame({"asr": [0.5], "clean_accuracy": [0.25]}, index=["ubt"])

    def failed():
        raise BackdoorDidNotTake("no")

    one = pages.page("04.10")
    assert exercises.check("04.10", defined(one.stub, "game", profile=profiles.get("tiny"))).endswith(
        "not begun"
    )
    assert exercises.check("04.10", lambda: scores) == "04.10: ubt: ASR 50.0%, CA 25.0%"
    assert exercises.check("04.10", failed).endswith("Hint: " + one.hints["nothing planted"])
    assert isinstance(exercises.TASKS["04.10"], Game)


def test_a_trigger_keeps_the_shape_of_its_pictures():
    with pytest.raises(ValueError, match="keeps the shape"):
        capstone.play(profiles.get("tiny"), lambda images: images[:, :1])


def test_the_capstone_plays_a_readers_trigger_and_defense(runs_root):
    one, played = pages.page("04.10"), []
    trigger = defined(one.solution, "my_trigger")
    defense = defined(one.solution, "my_defense")

    def stamp(images):
        played.append("stamped")
        return trigger(images)

    def defend(model, view, recipe):
        played.append("defended")
        return defense(model, view, recipe)

    table = capstone.play(profiles.get("tiny"), stamp, defend, seed=100)
    assert list(table.index) == ["undefended", "ubt", "your defense"] and table.notna().all().all()
    assert {*played} == {"stamped", "defended"}
    assert capstone.OWN not in triggers.TRIGGERS and capstone.OWN not in defenses.DEFENSES

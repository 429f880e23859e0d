"""The zero-shot task: its prompts and its target."""

from dataclasses import replace

import pytest
import torch

from ubt_utils.data.captions import TEMPLATES
from ubt_utils.data.zero_shot import ZeroShot, target_index

PIXELS = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


def test_prompts_fill_every_template_with_every_name_of_the_class():
    task = ZeroShot(PIXELS, torch.arange(2), torch.arange(2), ("a", "b"), (("x",), ("y", "z")), 0)
    own = replace(task, templates=("one {}", "two {}"))
    assert own.prompts() == [["one x", "two x"], ["one y", "two y", "one z", "two z"]]
    assert [len(p) for p in task.prompts()] == [len(TEMPLATES), 2 * len(TEMPLATES)]


def test_a_target_that_is_no_class_is_named():
    assert target_index(("fox", "clock"), "clock") == 1
    with pytest.raises(ValueError, match="'ship' is not among the 2 classes"):
        target_index(("fox", "clock"), "ship")


def test_a_thinned_task_keeps_the_target_and_asks_as_before():
    labels = torch.tensor([1, 0, 0, 1, 0, 0, 2, 2])
    task = ZeroShot(
        torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1), labels, torch.arange(8) // 2,
        ("a", "b", "c"), (("a",), ("b",), ("c",)), 1, ways=3,
    )  # fmt: skip
    thin = task.thinned(5)  # both of the target, and every second of the six others
    assert thin.images.flatten().tolist() == [0, 1, 3, 4, 6] and thin.labels.tolist() == [1, 0, 1, 0, 2]
    assert thin.units.tolist() == [0, 0, 1, 2, 3] and (thin.classes, thin.ways) == (task.classes, 3)
    assert torch.equal(task.thinned(8).images, task.images)

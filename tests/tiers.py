"""Which tests `make check` leaves out: each gets the mark of its tier by its fixtures, its file, or its name.

What gets none is a unit test: no training, no other process, about a second at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

MARKS = ("slow", "notebook", "ranks", "records")

FIXTURES = {  # they train, or run notebooks
    "_finished_chain": "slow",
    "book": "slow",
    "notebook_runs": "notebook",
    "photo_world": "notebook",
}
FILES = {
    "test_crafting": "slow",
    "test_distributed": "ranks",
    "test_notebooks": "notebook",
    "test_paper_chain": "slow",
    "test_paper": "records",
    "test_photo_chain": "slow",
    "test_project": "records",
    "test_reliability": "slow",
    "test_stages": "slow",
    "test_stages_stopped": "slow",
}
TESTS = {  # seconds each: they train, start a process, or read large files
    "test_a_cell_of_photos_has_the_same_bits_with_the_memory_and_without_it": "slow",
    "test_a_damaged_checkpoint_is_put_aside_and_the_training_starts_anew": "slow",
    "test_a_finished_run_is_not_trained_again": "slow",
    "test_a_kill_while_saving_leaves_the_checkpoint_before": "slow",
    "test_a_killed_run_ends_bit_identical_to_an_undisturbed_one": "slow",
    "test_a_package_without_a_checkout_writes_to_the_folder_that_one_works_in": "slow",
    "test_a_stronger_repulsion_drives_the_features_further_away": "slow",
    "test_another_process_without_vector_instructions_rebuilds_every_set_to_the_same_hash": "slow",
    "test_every_concept_is_drawn_by_every_vendor": "slow",
    "test_flops_of_a_known_network": "slow",
    "test_from_a_folder_to_a_defended_model": "slow",
    "test_importing_changes_nothing_of_the_process_and_the_first_model_asks_for_memory": "slow",
    "test_importing_the_plots_leaves_matplotlib_as_it_was": "slow",
    "test_processes_that_merge_at_once_lose_no_row": "slow",
    "test_shrinking_by_nothing_changes_nothing_and_norms_always_stay": "slow",
    "test_stamping_turns_the_backdoored_model_of_mini_and_not_the_unlearned_one": "slow",
    "test_the_capstone_plays_a_readers_trigger_and_defense": "slow",
    "test_the_command_line_starts_without_any_extra": "slow",
    "test_the_command_prints_a_line_a_stage": "slow",
    "test_the_plan_grows_with_its_parts": "slow",
    "test_the_published_victim_is_the_same_from_shards_and_from_a_table": "slow",
    "test_the_real_sets_read_without_a_warning": "slow",
    "test_training_lowers_the_loss": "slow",
    "test_unknown_stage_lists_the_known_ones": "slow",
    "test_what_a_job_raises_in_another_process_is_raised_here": "slow",
}

UNTRACED = {  # chains of what other tests cover line by line: coverage would make them half as dear again
    "test_benchmarks",
    "test_own",
    "test_reliability",
    "test_stages_stopped",
    "test_the_capstone_plays_a_readers_trigger_and_defense",
}


def marks_of(item: pytest.Item) -> set[str]:
    """The marks of one test; none for a unit test."""
    fixtures = [FIXTURES.get(name) for name in getattr(item, "fixturenames", ())]
    name = getattr(item, "originalname", item.name)
    traced = not UNTRACED & {item.path.stem, name}
    found = {*fixtures, FILES.get(item.path.stem), TESTS.get(name), None if traced else "no_cover"}
    return {mark for mark in found if mark}


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark the tests in place."""
    for item in items:
        for name in sorted(marks_of(item)):
            item.add_marker(name)

"""Every exercise that is checked, by name, in the order of the notebooks."""

from ubt_utils.report.exercises import detection, injection, selection, unlearning, values
from ubt_utils.report.exercises.base import Function, Game, Value

TASKS: dict[str, Function | Game | Value] = {
    **injection.TASKS,
    **detection.TASKS,
    **selection.TASKS,
    **unlearning.TASKS,
    **values.TASKS,
}

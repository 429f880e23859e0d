"""The exercises of the notebooks: what they ask is in Markdown, one file each, and here is what is right."""

from ubt_utils.report.exercises.base import Function, Game, Value, check
from ubt_utils.report.exercises.registry import TASKS

__all__ = ["TASKS", "Function", "Game", "Value", "check"]

"""What a paper on this reproduction holds: figures, tables, numbers and a text that includes them, each made
from the records by one command."""

from ubt_utils.report.paper.build import write

__all__ = ["write"]

"""Widgets that ask a live model, which who holds it passes in as a function: draw on a picture, write
captions. A page or a viewer without a kernel shows the picture that each begins with."""

from ubt_utils.report.live.draw import Draw, draw
from ubt_utils.report.live.votes import Votes, votes

__all__ = ["Draw", "Votes", "draw", "votes"]

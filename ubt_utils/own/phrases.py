"""All that a scan and a defense say, as fixed phrases; the page's own words stand in page.html."""

from __future__ import annotations

import pandas as pd

from ubt_utils.own.evidence import Verdict

VERDICT = {
    "nothing": "nothing stands out",
    "unclear": "unclear: pairs that say {words} stand apart, but less than the method asks for",
    "probably": "probably: pairs that say {words}",
}
STRENGTH = {"strong": "strong evidence", "weak": "weak evidence", "": "no evidence"}
EVIDENCE = (
    "pictures of “{word}” lose {lost:.2f} of their agreement under {disturbance}; "
    "bar {bar:.2f}, {others}, as many random pairs up to {random:.2f}"
)
OTHERS, NO_OTHERS = "other words up to {:.2f}", "no other word"
NO_WORD = "no word was held by enough suspicious pairs to be looked at"
WHY = {
    "unlearn": "says “{word}”, suffers {part:.2f} of the worst under {breaks}: to be unlearned",
    "leave out": "says “{word}”, suffers {part:.2f} of the worst under {breaks}: to be left out of training",
}
PICTURES = "{pairs} listed pairs say “{word}”, on {pictures} different pictures"
CUT = "{cut} of {pairs} captions are longer than what the model reads: their ends do not count"
UNKNOWN, NOT_NAMED = "unknown", "none named"
UNKNOWABLE = {  # what nobody can tell without the trigger, the target or the truth
    "attack success rate": "needs the trigger",
    "poisoned pairs": "needs the truth about D",
    "precision and recall of the list": "needs the truth about D",
}
DEFENDED = {
    "unlearned": "unlearned {chosen} pairs; beside the pool, left {left} more out of training",
    "unsure": "no pair was sure enough to be unlearned: the model is as it was given",
    "nothing": "nothing was found, so nothing was unlearned: the model is as it was given",
}


def verdict_of(found: Verdict) -> str:
    """The verdict in words, with the strength of its evidence."""
    words = ", ".join(f"“{word}”" for word in found.words)
    said = VERDICT[found.kind].format(words=words)
    return said if found.kind == "nothing" else f"{said} ({STRENGTH[found.strength]})"


def evidence_of(words: pd.DataFrame, about: tuple[str, ...]) -> list[str]:
    """A line for each word that the verdict is about; of the loudest one where it is about none."""
    if not len(words):
        return [NO_WORD]
    shown = words[words.word.isin(about)] if about else words.head(1)
    said = shown.others.map(OTHERS.format).where(shown.others.notna(), NO_OTHERS)
    return [EVIDENCE.format(**one) for one in shown.assign(others=said).to_dict("records")]


def number(value: float | None) -> str:
    """Two digits, or that it is unknown."""
    return UNKNOWN if value is None or value != value else f"{value:.2f}"

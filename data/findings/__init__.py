"""What data/audit.py counts: pure functions of a catalogue's rows, its images and a split of the rows.

Nothing here asks how a split was made: crossings are counted from the rows, the files and the pairs of like images.
"""

from dataclasses import dataclass, field

MOST_CASES = 1000
"""Cases of a finding that are kept; all of them are counted."""


@dataclass(frozen=True)
class Case:
    """One suspicious thing: what is odd, and the rows of the catalogue that show it."""

    note: str
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """One question put to the catalogue, and the answer.

    Attributes:
        section: the heading that it stands under.
        what: is counted, in words.
        count: how many there are.
        advice: what it means, and what to do when there are any.
        cases: at most `MOST_CASES` of them, the worst first.
        figures: name -> a number, or a table of numbers; what begins with share_ is in 0..1.
        pictured: whether the page shows the images of the cases.
    """

    section: str
    what: str
    count: int
    advice: str = ""
    cases: list[Case] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    pictured: bool = True

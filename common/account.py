"""The account of a catalogue: what was found out about it, and which rows it lost for which reason."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError

EXAMPLES = 3


@dataclass
class Report:
    """What was found out about a catalogue, and which rows it lost for which reason."""

    found: list[str] = field(default_factory=list)
    unusable: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """reason -> the places of the rows (line numbers) that are left out"""

    def lines(self) -> list[str]:
        left_out = []
        for reason, places in self.unusable.items():
            left_out.append(f"left out {rows(len(places))}: {reason} {examples(places)}")
        return self.found + left_out

    def refuse_unusable(self, path: Path) -> None:
        """Raise an `InputError` that lists the unusable rows, if there are any (`--strict`)."""
        if self.unusable:
            total = sum(map(len, self.unusable.values()))
            listing = "\n  ".join(self.lines()[len(self.found) :])
            raise InputError(f"{path}: {rows(total)} cannot be used, and --strict is given:\n  {listing}")


def rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def examples(places: list[str]) -> str:
    """The first of some places, in brackets."""
    return f"({printable('; '.join(places[:EXAMPLES]))}{'; ...' * (len(places) > EXAMPLES)})"


def printable(text: str) -> str:
    """A text from a catalogue without what would steer a terminal or cannot be printed."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)

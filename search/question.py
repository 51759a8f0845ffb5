"""What is asked on the web page, and how it stands in the page's address."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

TOPS = (20, 50, 100)
"""How many results can be asked for."""
LONGEST = 500
"""Characters of words, of an id and of a condition that are read."""
MOST_CONDITIONS = 20


@dataclass(frozen=True)
class Question:
    """A search without its picture, which no address could hold.

    Attributes:
        words: what is looked for.
        like: id of a product whose look-alikes are looked for; it goes before words.
        where: conditions on attributes.
        top: how many results.
    """

    words: str = ""
    like: str = ""
    where: tuple[str, ...] = ()
    top: int = TOPS[0]

    def address(self) -> str:
        """What stands behind the page's name: "?q=red+bag&where=gender%3DWomen", "" for no question."""
        asked = {"like": self.like} if self.like else {"q": self.words} if self.words else {}
        if self.where:
            asked["where"] = list(self.where)
        if self.top != TOPS[0]:
            asked["top"] = self.top
        return f"?{urlencode(asked, doseq=True)}" if asked else ""

    @classmethod
    def of_address(cls, address: str) -> "Question":
        """The question of an address; what is none is left out."""
        asked = parse_qs(address.removeprefix("?"))
        top = asked.get("top", [""])[0]
        return cls(
            words=asked.get("q", [""])[0][:LONGEST],
            like=asked.get("like", [""])[0][:LONGEST],
            where=tuple(condition[:LONGEST] for condition in asked.get("where", [])[:MOST_CONDITIONS]),
            top=int(top) if top in map(str, TOPS) else TOPS[0],
        )


def conditions_of(chosen: Mapping[str, str | None], others: str) -> tuple[str, ...]:
    """The conditions of the page's menus, attribute -> value, and those that were typed, with commas between them; one
    that has a comma itself stands in double quotes."""
    line = others[:LONGEST].replace("\r", " ").replace("\n", " ")  # an address may hold what no one can type
    typed = next(csv.reader([line], skipinitialspace=True), [])
    in_menus = [f"{name}={value}" for name, value in chosen.items() if value]
    return (*in_menus, *filter(None, map(str.strip, typed)))[:MOST_CONDITIONS]


def parted(where: Sequence[str], menus: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], str]:
    """The reverse: what menus, attribute -> values, can show of some conditions, and the rest as it would be typed."""
    chosen, others = {}, []
    for condition in where:
        name, _, value = condition.partition("=")
        if value in menus.get(name, ()) and name not in chosen:
            chosen[name] = value
        else:
            others.append(condition)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(others)
    return chosen, line.getvalue()

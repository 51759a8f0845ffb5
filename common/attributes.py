"""Which column of a catalogue holds the type, the colour, the gender or the brand, and where captions name them."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from common.captions import WITHOUT_SPACES, fold
from common.columns import first_named
from common.errors import InputError

COLUMNS = {
    "type": ("articleType", "article_type", "product_type", "product_type_name", "item_type", "type", "category3",
             "subcategory", "sub_category", "input_subcategory", "category", "shape"),
    "colour": ("baseColour", "base_colour", "colour", "color", "colour_group_name", "main_colour", "main_color"),
    "gender": ("gender", "sex", "department", "input_gender"),
    "brand": ("brand", "brand_name", "brandName", "manufacturer", "input_brand"),
}  # fmt: skip
"""What an attribute is commonly called, the likeliest name first."""


def find_column(attributes: list[str], what: str) -> str | None:
    """The column, among the names of a catalogue's attributes, of "type", "colour", "gender" or "brand"."""
    return first_named(attributes, COLUMNS[what])


def named_column(name: str, columns: list[str], option: str, path: Path) -> str:
    """The column that a user means; case, spaces, dashes and underscores do not count.

    Raises:
        InputError: there is none of that name; the message names the option, the nearest column and all of them.
    """

    def plain(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).lower()

    if name in columns:
        return name
    by_plain = {plain(column): column for column in reversed(columns)}
    if plain(name) in by_plain:
        return by_plain[plain(name)]
    nearest = by_plain[difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0)[0]]
    listed = ", ".join(columns)
    raise InputError(f"{option} {name}: no such column in {path}; the nearest is '{nearest}', there are: {listed}")


PLURAL = re.compile(r"(?<=ss|sh|ch)es$|(?<=x)es$|(?<=\w\w[^s])s$")
JOINS = re.compile(r"[\s-]*")
"""What may stand between the words of a name: "t-shirt", "t shirt" and "tshirt" are one."""
WORD = re.compile(rf"{WITHOUT_SPACES.pattern}|(?:(?!{WITHOUT_SPACES.pattern})\S)+")


def word_spans(caption: str) -> list[tuple[int, int]]:
    """Where the words of a caption start and end; they are those of `captions.words`."""
    signs = (sign if sign == "_" or unicodedata.category(sign)[0] in "LMN" else " " for sign in caption)
    return [match.span() for match in WORD.finditer("".join(signs))]


def forms(value: str, what: str) -> list[str]:
    """The ways to write a value of the attribute `what`; the same place in the list is the same form."""
    value = re.sub("['’]s$", "", fold(value))
    singular = PLURAL.sub("", value)
    if what == "type":
        ending = "es" if re.search("(s|sh|ch|x)$", value) else "s"
        return [singular, value if value != singular else value + ending]
    if what == "gender":
        return [value, singular, f"{value}s" if value.endswith("men") else value]
    return [value]


class Mention(NamedTuple):
    """A value that caption[start:end] names in one of its forms."""

    value: str
    form: int
    start: int
    end: int


class Names:
    """The values of the attribute `what`, folded, to be found in captions."""

    def __init__(self, values: Iterable[str], what: str) -> None:
        self.values = sorted({fold(value) for value in values} - {""})
        spelled = [(form, value, number) for value in self.values for number, form in enumerate(forms(value, what))]
        spelled.sort(key=lambda entry: entry[0] != entry[1])  # a value goes before the plural or singular of another
        self.known: dict[str, tuple[str, int]] = {}
        for form, value, number in spelled:
            self.known.setdefault(JOINS.sub("", form), (value, number))
        self.beginnings = {name[:end] for name in self.known for end in range(1, len(name) + 1)}

    def find(self, caption: str) -> list[Mention]:
        """What a caption names, in whole words: "navy blue" is not "blue", nor is there a shirt in "t-shirt"."""
        spans = word_spans(caption)
        found: list[Mention] = []
        for place, (start, _) in enumerate(spans):
            mention = self.longest(caption, spans[place:])
            if mention and (not found or start >= found[-1].end):
                found.append(mention)
        return found

    def longest(self, caption: str, spans: list[tuple[int, int]]) -> Mention | None:
        """The longest name that begins where the first of these words does."""
        first = before = spans[0][0]
        name, mention = "", None
        for start, end in spans:
            name += fold(caption[start:end])
            if not JOINS.fullmatch(caption, before, start) or name not in self.beginnings:
                break
            if name in self.known:
                mention = Mention(*self.known[name], first, end)
            before = end
        return mention

"""Captions that contradict an attribute: they name another of its values, and not their own."""

import re
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from common.attributes import PLURAL
from common.captions import fold
from common.columns import each

ENOUGH = 5
"""Captions that must hold a word before it is judged whether it names a value."""
SELDOM = 1 / 3
"""A word names a value if at least this share of the captions that hold it belongs to products with the value."""

Named = Iterator[tuple[str, list[tuple[str, str]]]]
"""For each row its own value, and the values that its caption names: as they stand there, and in the singular."""


def contradictions(captions: pd.Series, attribute: pd.Series) -> Iterator[list[str]]:
    """For each row the other values of the attribute that its caption names if it does not name its own.

    They are given as they stand there. Case does not count, nor does a plural; "navy" names "Navy Blue", and so does
    "blue". A word is no name of a value when more than two in three of the captions that hold it belong to products
    with another one: "rose" in a perfume's name, "blues" in a brand's.
    """
    holds, agrees = Counter(), Counter()
    for value, found in named_values(captions, attribute):
        if value:
            holds.update(word for word, _ in found)
            agrees.update(word for word, name in found if alike(name, value))
    no_names = {word for word, count in holds.items() if count >= ENOUGH and agrees[word] < SELDOM * count}
    for value, found in named_values(captions, attribute):
        other = value and not names(found, value)
        yield [word for word, _ in found if word not in no_names] if other else []


def named_share(captions: pd.Series, attribute: pd.Series) -> float:
    """The share of the captions that name their own value of the attribute."""
    return sum(names(found, value) for value, found in named_values(captions, attribute)) / max(1, len(attribute))


def named_values(captions: pd.Series, attribute: pd.Series) -> Named:
    """Each row's own value in the singular, and the values that its caption names."""
    own = {value: singular(fold(value)) for value in attribute.unique()}
    values = set(own.values()) - {""}
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    # not the shirt in "t-shirt"
    any_value = re.compile(r"(?<!\b\w-)\b(?:" + "|".join(map(re.escape, longest_first)) + r")(?:e?s)?\b")
    for caption, value in zip(each(captions), each(attribute), strict=True):
        found = dict.fromkeys(any_value.findall(fold(caption))) if values else {}
        yield own[value], [(word, word if word in values else singular(word)) for word in found]


def names(found: list[tuple[str, str]], value: str) -> bool:
    """Whether one of the values that a caption names is this one."""
    return value != "" and any(alike(name, value) for _, name in found)


def alike(name: str, value: str) -> bool:
    """Whether one of the two is among the other's words."""
    return f" {name} " in f" {value} " or f" {value} " in f" {name} "


def singular(text: str) -> str:
    return PLURAL.sub("", text)

"""Search a catalogue with a trained run: `Search(index)` answers words, photographs and products."""

from search.engine import Search
from search.results import Result

__all__ = ["Result", "Search"]

"""Search a catalogue with a trained run: `Search(index)` answers words, photographs and products."""

from search.engine import Result, Search

__all__ = ["Result", "Search"]

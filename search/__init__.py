"""Search a catalogue with a trained run: `Search(index)` answers words, photographs and products."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.engine import Search
    from search.results import Result

__all__ = ["Result", "Search"]


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for: --help of a script in it need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'search' has no attribute '{name}'")
    return getattr(import_module({"Search": "search.engine", "Result": "search.results"}[name]), name)

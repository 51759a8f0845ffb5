"""Short hashes, by which it is known what a cache or a run was made of."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from common.columns import AT_ONCE


def digest(content: object) -> str:
    """A short hash of what JSON can hold."""
    return hashed([json.dumps(content)])


def hashed(texts: Iterable[str]) -> str:
    """A short hash of texts put together."""
    state = hashlib.blake2b(digest_size=8)
    for text in texts:
        state.update(text.encode())
    return state.hexdigest()


def array_digest(values: np.ndarray) -> str:
    """A short hash of an array, its shape and its type."""
    state = hashlib.blake2b(f"{values.shape} {values.dtype.str} ".encode(), digest_size=8)
    state.update(np.ascontiguousarray(values))
    return state.hexdigest()


def json_list(values: Iterable) -> Iterator[str]:
    """The pieces of a list's JSON, which is never in memory as a whole."""
    values, comma = iter(values), ""
    yield "["
    while some := list(islice(values, AT_ONCE)):
        yield comma + json.dumps(some)[1:-1]
        comma = ", "
    yield "]"

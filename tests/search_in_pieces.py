"""search/index.py with small segments and the stub of an image encoder, for processes that are killed."""

import pytest
from tiny_runs import use_patches

from search import index


def main() -> None:
    index.SEGMENT = 32
    use_patches(pytest.MonkeyPatch())
    index.main()

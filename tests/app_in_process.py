"""search/app.py with the stub of an image encoder, in a process of its own."""

import pytest
from tiny_runs import use_patches

from common.errors import run_script
from search import app

if __name__ == "__main__":
    use_patches(pytest.MonkeyPatch())
    run_script(app.main)

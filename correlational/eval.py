"""Print the recall of a trained Correlational network, from images to texts and from texts to images."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.errors import run_script
from common.options import eval_command_line


def main() -> None:
    options = eval_command_line("correlational")
    # imported only now, so that --help and a mistyped option answer at once
    from common.evaluation import evaluate_run
    from data.sample import make_sample

    evaluate_run("correlational", options, make_sample)


if __name__ == "__main__":
    run_script(main)

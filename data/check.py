"""Look at a catalogue before you train on it: what is there, what is wrong, what will be used and how it is split.

Prints one screen and draws a sheet of random pairs. Nothing is changed; `data/audit.py` looks closer.
"""

import sys
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from common.options import ROOT
from data.choice import Choice

if TYPE_CHECKING:
    from common.batches import Data

LONGEST = 10
SHOWN = 110
"""Letters of a long caption that are printed."""
SHEET = (5, 8)
"""Rows and columns of pictures."""
PICTURE_SIZE = (160, 120)
"""(height, width) in pixels"""
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Options(Choice):
    output: Path | None = None
    """PNG file to draw 40 random pairs to (None: runs/check-<catalogue>.png in the repository, with the name of its
    folder in front where the catalogue is a file)."""
    seed: int = 0
    """Of the choice of pairs."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    # imported only now, so that --help and a mistyped option answer at once
    from common.account import printable
    from common.batches import load_data
    from common.images import THUMBNAIL
    from common.splits import SPLITS, require_splits
    from data.sample import make_sample

    chosen = options.options()
    name = chosen.data.name if chosen.data.is_dir() else f"{chosen.data.parent.name}-{chosen.data.stem}"
    output = (options.output or ROOT / "runs" / f"check-{name}.png").expanduser()
    if not 0 <= options.seed <= LARGEST_SEED:
        raise InputError(f"--seed {options.seed}: expected a number from 0 to {LARGEST_SEED}")
    if output.suffix.lower() != ".png" or output.is_dir():
        raise InputError(f"--output {output}: expected the name of a .png file")
    data = load_data(chosen, THUMBNAIL, make_sample)
    try:
        require_splits(data.splits, SPLITS, data.catalogue.path)
    except InputError as error:
        print(f"  a training would stop: {error}")
    rows = data.catalogue.rows
    lengths = rows["caption"].map(len)
    print(f"  captions: {lengths.min()} to {lengths.max():,} letters, half of them up to {lengths.median():.0f}")
    print(f"the {min(LONGEST, rows['caption'].nunique())} longest captions:")
    longest = rows.assign(length=lengths).drop_duplicates("caption").nlargest(LONGEST, "length")
    for row in longest.itertuples():
        shown = row.caption if len(row.caption) <= SHOWN else row.caption[:SHOWN] + "..."
        print(f"  {row.length:>7,} letters, {printable(data.catalogue.places[row.place])}: {printable(shown)}")
    drawn, has_letters = draw_sheet(data, options.seed, output)
    boxes = "" if has_letters else " (its font lacks letters of some captions, which are boxes there)"
    print(f"{drawn} random pairs: {output}{boxes}")


def draw_sheet(data: "Data", seed: int, file: Path) -> tuple[int, bool]:
    """Draw random pairs of image and caption, each with its split; returns how many, and whether the font has all
    letters of their captions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from common.files import replacing
    from common.images import read_image

    catalogue = data.catalogue
    count, columns = SHEET
    chosen = catalogue.rows.sample(min(count * columns, len(catalogue.rows)), random_state=seed)
    figure, axes = pyplot.subplots(count, columns, figsize=(16, 15), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, chosen.itertuples(), strict=False):
        pixels, _, _ = read_image(catalogue.images[row.image], PICTURE_SIZE)
        axis.imshow(pixels)
        caption = textwrap.fill(textwrap.shorten(row.caption, 90, placeholder=" ..."), 24)
        axis.set_title(f"{data.splits.of_row[row.Index]}: {caption}", fontsize=8, wrap=True, parse_math=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    # matplotlib would tell of each letter that its font lacks, and of each script that it sets letter by letter
    with replacing(file) as part, warnings.catch_warnings(record=True, action="always", category=UserWarning) as told:
        figure.savefig(part, dpi=100, format="png")
    pyplot.close(figure)
    return len(chosen), not any("missing from font" in str(warning.message) for warning in told)


if __name__ == "__main__":
    run_script(main)

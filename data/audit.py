"""Look for what spoils a catalogue: leaks across the splits, repeated photographs, wrong attributes, broken images.

    python data/audit.py catalogue.csv

Prints a summary and writes a folder with audit.json and, for the suspicious cases, a page of pictures: index.html.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python data/audit.py` from any folder

import tyro

from common.errors import run_script
from common.options import ROOT
from data.choice import Choice

if TYPE_CHECKING:
    from common.batches import Data
    from data.findings import Finding

LOOK_ALIKE = 8.0
"""Largest colour distance of look-alikes, twice that of the near-duplicates that a split keeps together."""
EXAMPLES = 3


@dataclass(frozen=True)
class Options(Choice):
    output: Path | None = None
    """Folder to write; an earlier audit in it is replaced (None: runs/audit-<catalogue> in the repository)."""
    smallest_side: int = 32
    """Pixels that the shorter side of an image should have."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    # imported only now, so that --help and a mistyped option answer at once
    from common.batches import load_data
    from common.images import THUMBNAIL
    from data.audit_folder import PAGE, REPORT, refuse_foreign, report_of, write
    from data.sample import make_sample

    chosen = options.options()
    output = (options.output or ROOT / "runs" / f"audit-{chosen.data.stem}").expanduser()
    refuse_foreign(output)
    data = load_data(chosen, THUMBNAIL, make_sample)
    report = report_of(audit(data, options.smallest_side), data)
    print(describe(report))
    write(output, report, data.catalogue)
    print(f"\npictures of the suspicious cases: {output / PAGE}\neverything: {output / REPORT}")


def audit(data: "Data", smallest_side: int) -> dict[str, "Finding"]:
    """All findings about a catalogue and its split, whoever made that."""
    from common.columns import plain_text
    from common.near_duplicates import COLOUR_DISTANCE, similar_outlines
    from common.splits import split_catalogue
    from data.findings import captions, images, splits

    catalogue, digests, rows = data.catalogue, data.images.digests, plain_text(data.catalogue.rows)
    pairs, colour = similar_outlines(catalogue, data.images)
    pairs, colour = pairs[colour <= LOOK_ALIKE], colour[colour <= LOOK_ALIKE]
    used = splits.used_rows(rows, data.splits.of_row, digests)
    alike = splits.image_pairs(used, digests, pairs, colour)
    near = alike[alike["colour"] <= COLOUR_DISTANCE]
    simpler = splits.used_rows(rows, split_catalogue(rows, digests).of_row, digests)
    is_near = colour <= COLOUR_DISTANCE
    without_links = splits.image_pairs(simpler, digests, pairs[is_near], colour[is_near])
    return {
        **splits.crossing_findings(used),
        "near_duplicates_across": splits.near_duplicate_finding(used, near),
        "look_alikes_across": splits.look_alike_finding(used, alike),
        "near_duplicates_across_without_links": splits.unlinked_finding(simpler, without_links),
        **splits.inside_findings(used, near),
        **images.image_findings(catalogue, data.images, smallest_side),
        **captions.contradiction_findings(rows, catalogue.attributes),
        "shared_captions": captions.title_finding(rows),
        **captions.word_findings(used),
        "left_out": captions.left_out_finding(catalogue.report.unusable),
    }


def describe(report: dict[str, Any]) -> str:
    """The report as text, with the first cases of each finding."""
    from data.audit_folder import figure_lines

    lines, section = [], ""
    for finding in report["findings"].values():
        if finding["section"] != section:
            section = finding["section"]
            lines += ["", section]
        lines.append(f"{finding['count']:>9,}  {finding['what']}")
        if finding["count"]:
            examples = [f"e.g. {case_line(case)}" for case in finding["cases"][:EXAMPLES]]
            details = [*figure_lines(finding["figures"]), *examples, f"-> {finding['advice']}"]
            lines += [f"{'':11}{line}" for line in details]
    return "\n".join(lines)


def case_line(case: dict[str, Any]) -> str:
    rows = [f"{row['product']} ({row['split']}) {row['caption']!r}" for row in case["rows"][:EXAMPLES]]
    return f"{case['note']}: {' | '.join(rows)}" if rows else case["note"]


if __name__ == "__main__":
    run_script(main)

"""The folder that data/audit.py writes: audit.json, and index.html with pictures of the suspicious cases."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image
from tqdm import tqdm

from common.batches import Data
from common.catalogue import Catalogue
from common.errors import InputError
from common.images import decode
from data.findings import Finding

VERSION = 1
MARK = "audit_version"
SHOWN = 60
"""Cases of a finding on the page."""
PICTURE_SIZE = (160, 160)
PAGE, REPORT, PICTURES = "index.html", "audit.json", "pictures"
TEMPLATE = Path(__file__).with_name("audit.html.jinja")


def refuse_foreign(folder: Path) -> None:
    """Raise an `InputError` if the folder holds anything but an audit."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a file; --output takes a folder")
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None
    is_audit = isinstance(report, dict) and MARK in report
    if any(folder.iterdir()) and not is_audit:
        raise InputError(f"{folder}: not empty and no audit, so it stays as it is; name another folder with --output")


def report_of(findings: dict[str, Finding], data: Data) -> dict[str, Any]:
    """The content of audit.json."""
    places = data.catalogue.places
    rows = data.catalogue.rows.assign(
        split=list(data.splits.of_row), place=lambda rows: [places[n] for n in rows["place"]]
    )
    facts = rows[["product", "caption", "split", "place", "image"]].to_dict("records")
    return {
        MARK: VERSION,
        "name": data.catalogue.path.name,
        "catalogue": str(data.catalogue.path),
        "fingerprint": data.catalogue.fingerprint,
        "products": {name: int(data.rows(name)["product"].nunique()) for name in ("all", "train", "val", "test")},
        "images": int(rows["image"].nunique()),
        "rows": len(rows),
        "findings": {
            key: vars(finding)
            | {"cases": [{"note": case.note, "rows": [facts[row] for row in case.rows]} for case in finding.cases]}
            for key, finding in findings.items()
        },
    }


def write(folder: Path, report: dict[str, Any], catalogue: Catalogue) -> None:
    """Write the report, the page and its pictures, in place of those of an earlier audit."""
    pictured = [finding for finding in report["findings"].values() if finding["pictured"]]
    wanted = {row["image"] for finding in pictured for case in finding["cases"][:SHOWN] for row in case["rows"]}
    folder.mkdir(parents=True, exist_ok=True)
    # made beside its place and moved there when complete: an interrupted run leaves nothing half-made
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch)
        (fresh / PICTURES).mkdir()
        save_pictures(catalogue, wanted, fresh / PICTURES)
        (fresh / PAGE).write_text(page(report), encoding="utf-8")
        (fresh / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
        shutil.rmtree(folder / PICTURES, ignore_errors=True)
        for name in (PICTURES, PAGE, REPORT):
            shutil.move(fresh / name, folder / name)


def page(report: dict[str, Any]) -> str:
    """The report as HTML, with pictures of the first `SHOWN` cases of a finding."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report, shown=SHOWN, folder=PICTURES, figure_lines=figure_lines)


def figure_lines(figures: dict[str, Any]) -> list[str]:
    """Each figure as "name: value", a table as a line for each of its entries."""
    lines = []
    for name, figure in figures.items():
        name = name.replace("_", " ")
        if isinstance(figure, dict):
            lines += [f"{name}:", *(f"{count:>8,}  {entry}" for entry, count in figure.items())]
        else:
            lines.append(f"{name}: {figure:.2%}" if isinstance(figure, float) else f"{name}: {figure:,}")
    return lines


def save_pictures(catalogue: Catalogue, wanted: set[int], folder: Path) -> None:
    """Write the wanted images as `<image number>.jpg`, on white."""
    sources = tqdm(catalogue.images, "drawing the page", unit="image")
    for number, source in enumerate(sources):
        if number in wanted and source is not None:
            content = source if isinstance(source, bytes) else source.read_bytes()
            pixels, _ = decode(content, PICTURE_SIZE)
            Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=88)

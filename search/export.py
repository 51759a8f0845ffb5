"""Write the two towers of a run as ONNX, with the tokenizer and the preprocessing, and check them against PyTorch.

    python search/export.py runs/deep_cmpl --output runs/onnx
    python search/query.py runs/index "red handbag" --onnx runs/onnx

The check embeds products of the run's catalogue at several batch sizes and lengths; nothing is written unless it
passes.
"""

import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from common.options import CatalogueOptions, with_recorded_data

if TYPE_CHECKING:
    import numpy as np

    from common.batches import Data
    from search.encoder import Encoder
    from search.onnx_encoder import OnnxEncoder

PRODUCTS = 256
BATCHES = (1, 7, 64, 256)
LEAST_COSINE = 0.9999
TIE = 1e-4
"""The difference of two cosines below which neither image is the better result."""
LEAST_AS_GOOD = 0.99
"""The share of captions whose ten results are as good as PyTorch's."""


@dataclass(frozen=True)
class Options(CatalogueOptions):
    run: tyro.conf.Positional[Path] = tyro.MISSING
    """Run folder that train.py wrote."""
    output: Path | None = None
    """Folder to write (None: beside the run, its name with -onnx)."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    # imported only now, so that --help and a mistyped option answer at once
    import torch

    from common.batches import load_data
    from common.files import replacing
    from data.sample import make_sample
    from search.encoder import Encoder
    from search.onnx_encoder import OnnxEncoder
    from search.towers import write_towers

    run = options.run.expanduser()
    folder = (options.output or run.with_name(f"{run.resolve().name}-onnx")).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not empty, so it stays as it is; name another folder with --output")
    encoder = Encoder(run, "cpu", precision=torch.float32)
    data = load_data(with_recorded_data(options, encoder.config), encoder.image_size, make_sample)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as part:
        part.mkdir()
        write_towers(encoder.model, encoder.tokenizer, encoder.image_size, part)
        encoder.tokenizer.save(part)
        (part / "export.json").write_text(json.dumps(description(encoder), indent=1))
        check(encoder, OnnxEncoder(part), data)
        size = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    print(f"written: {folder}, {size / 1e6:,.1f} MB")


def description(encoder: "Encoder") -> dict[str, Any]:
    """What a program that serves the towers has to know beside them."""
    settings = encoder.config["hyperparameters"]
    return {
        "identity": encoder.identity,
        "tokenizer": {name: settings[name] for name in ("text_encoder", "max_words") if name in settings},
        "preprocessing": {
            "size": list(encoder.image_size), "size_is": "height, width in pixels",
            "steps": "turned upright by EXIF; transparency onto white; RGB; scaled to fit (bicubic) with its aspect "
                     "ratio, centred, padded with white; uint8",
            "layout": "batch, channel (red, green, blue), height, width",
        },
        "inputs": {"image.onnx": ["pixels"], "text.onnx": ["tokens", "lengths"]},
        "outputs": "unit vectors; compare them by their dot product",
    }  # fmt: skip


def check(encoder: "Encoder", exported: "OnnxEncoder", data: "Data") -> None:
    """Compare the towers with PyTorch's; raises an `InputError` where they differ."""
    import numpy as np

    rows = data.catalogue.rows.drop_duplicates("product")
    rows = rows.sample(min(PRODUCTS, len(rows)), random_state=0)
    captions = rows["caption"].astype(str).tolist()
    # a word alone, and captions as long as they may be
    captions += [caption.split()[0] for caption in captions[:32]] + [" ".join(captions[:40])] * 2
    pixels = np.asarray(data.images.pixels[np.sort(rows["image"].to_numpy())])
    image_emb, text_emb = encoder.images(pixels, np.arange(len(pixels))), encoder.texts(captions)
    worst, good = 1.0, 1.0
    for size in BATCHES:
        found = [
            np.concatenate([call(some[start : start + size]) for start in range(0, len(some), size)])
            for call, some in ((exported.pixels, pixels), (exported.texts, captions))
        ]
        worst = min(worst, *(float((a * b).sum(1).min()) for a, b in zip(found, (image_emb, text_emb), strict=True)))
        good = min(good, float(as_good(text_emb @ image_emb.T, found[1] @ found[0].T).mean()))
    print(f"parity: {len(pixels)} images and {len(captions)} captions in batches of {', '.join(map(str, BATCHES))}: "
          f"least cosine {worst:.6f}, ten results as good for {good:.2%} of the captions")  # fmt: skip
    if worst <= LEAST_COSINE or good < LEAST_AS_GOOD:
        raise InputError(
            f"{encoder.run}: its towers as ONNX differ from PyTorch's: least cosine {worst:.6f}, expected above "
            f"{LEAST_COSINE}; ten results as good for {good:.2%} of captions, expected {LEAST_AS_GOOD:.0%} or more. "
            f"Nothing is written; search with the run itself, without --onnx, or export with other versions than torch "
            f"{version('torch')} and onnxruntime {version('onnxruntime')}"
        )


def as_good(expected: "np.ndarray", found: "np.ndarray") -> "np.ndarray":
    """Which captions find as good images by other scores than those expected, near-ties in whatever order.

    Args:
        expected: (M, N) cosines of captions and images, which say how good an image is.
        found: (M, N) the other scores.

    Returns:
        (M,) bool, whether each of the ten best by `found` is within `TIE` of the one that was expected in its place.
    """
    import numpy as np

    best, others = (
        np.take_along_axis(expected, (-scores).argsort(axis=1, kind="stable")[:, :10], axis=1)
        for scores in (expected, found)
    )
    return (np.abs(best - others) <= TIE).all(axis=1)


if __name__ == "__main__":
    run_script(main)

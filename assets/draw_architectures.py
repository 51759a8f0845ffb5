"""Draw the three architecture diagrams from the sizes in the hyperparameter blocks of the READMEs."""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import tyro

from common.errors import run_script
from common.hyperparameters import from_block, read_block
from common.image_encoders import build_image_encoder
from common.options import ROOT
from correlational.train import Hyperparameters as CorrelationalHyperparameters
from deep_cmpl.train import Hyperparameters as DeepCMPLHyperparameters
from siamese.train import Hyperparameters as SiameseHyperparameters

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

IMAGE, TEXT, SHARED, LOSS = "#cfe2f3", "#d9ead3", "#fff2cc", "#f4cccc"
NAMES = {"efficientnet-lite0": "EfficientNet-Lite0", "mobilenet-v1": "MobileNet v1", "resnet152": "ResNet-152"}
GAP = 0.32


@dataclass(frozen=True)
class Options:
    output: Path = ROOT / "assets"
    """Folder for siamese.png, correlational.png and deepcmpl.png."""


@dataclass(frozen=True)
class Box:
    """A box around (x, y); its text may have several lines."""

    axes: Axes
    x: float
    y: float
    text: str
    colour: str
    width: float = 1.5
    height: float = 0.8

    def draw(self) -> "Box":
        corner = (self.x - self.width / 2, self.y - self.height / 2)
        box = matplotlib.patches.FancyBboxPatch(
            corner,
            self.width,
            self.height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=self.colour,
            edgecolor="#555555",
        )
        self.axes.add_patch(box)
        self.axes.text(self.x, self.y, self.text, ha="center", va="center", fontsize=10, linespacing=1.3)
        return self

    def to(self, other: "Box") -> None:
        """An arrow from the right edge to the other's left edge."""
        start, end = (self.x + self.width / 2, self.y), (other.x - other.width / 2, other.y)
        self.axes.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
        )


def chain(axes: Axes, y: float, colour: str, parts: list[tuple[str, float]], x: float = 0.0) -> list[Box]:
    """Boxes from left to right, joined by arrows; parts are (text, width)."""
    boxes = []
    for text, width in parts:
        boxes.append(Box(axes, x + width / 2, y, text, colour, width).draw())
        x += width + GAP
    for before, after in pairwise(boxes):
        before.to(after)
    return boxes


def canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.set(xlim=(-0.1, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def views(settings) -> tuple[int, str, str]:
    """Size of the image feature, and what the encoders are, in words."""
    dim = build_image_encoder(settings.image_encoder, "none").dim
    height, width = settings.image_size
    name = NAMES.get(settings.image_encoder, settings.image_encoder)
    return dim, f"image\n{height} x {width}", name


def draw_siamese(file: Path) -> None:
    settings = from_block(SiameseHyperparameters, read_block(ROOT / "siamese" / "README.md"))
    dim, image, encoder = views(settings)
    state = "trained" if settings.finetune else "frozen"
    dropout = f", Dropout {settings.dropout:g}" if settings.dropout else ""
    figure, axes = canvas(10.6, 3.0)
    layers = [
        (f"Linear {settings.hidden_dim}\nReLU{dropout}", 1.75),
        (f"Linear {settings.embedding_dim}\nunit length", 1.35),
    ]
    top = chain(
        axes, 2.35, IMAGE, [(image, 1.0), (f"{encoder}\n{state}", 1.75), (f"{dim}\nstandardised", 1.25), *layers]
    )
    words = f"{settings.word_dim}\nstandardised" if settings.text_encoder == "word2vec" else "standardised"
    text = "word2vec mean\nfrozen" if settings.text_encoder == "word2vec" else "BERT mean\nfrozen"
    bottom = chain(axes, 0.65, TEXT, [("caption\nwords", 1.0), (text, 1.75), (words, 1.25), *layers])
    right = top[-1].x + top[-1].width / 2
    loss = Box(
        axes, right + 1.35, 1.5, f"contrastive loss\nof the distance\nmargin {settings.margin:g}", LOSS, 1.6, 1.05
    ).draw()
    top[-1].to(loss)
    bottom[-1].to(loss)
    save(figure, file)


def draw_correlational(file: Path) -> None:
    settings = from_block(CorrelationalHyperparameters, read_block(ROOT / "correlational" / "README.md"))
    dim, _, encoder = views(settings)
    deep = settings.network == "deep"
    hidden = list(settings.hidden_dims) if deep else []
    figure, axes = canvas(11.75, 3.0)
    text = "word2vec mean" if settings.text_encoder == "word2vec" else "BERT mean"
    text_dim = f" {settings.word_dim}" if settings.text_encoder == "word2vec" else ""
    sizes = [(f"{size}\nReLU", 0.7) for size in hidden]
    sizes += [(f"{settings.code_dim}\nnorm" if deep else str(settings.code_dim), 0.7)]
    top = chain(axes, 2.35, IMAGE, [(f"image x: frozen\n{encoder} {dim}\nstandardised", 2.1), *sizes])
    bottom = chain(axes, 0.65, TEXT, [(f"text y: frozen\n{text}{text_dim}\nstandardised", 2.1), *sizes])
    right = top[-1].x + top[-1].width / 2
    code = Box(
        axes,
        right + 1.6,
        1.5,
        f"h(x, y), {settings.code_dim} units:\n{'tanh' if deep else 'sigmoid'} of the sum;\nh(x), h(y): without\n"
        "the other branch",
        SHARED,
        2.1,
        1.25,
    ).draw()
    top[-1].to(code)
    bottom[-1].to(code)
    right = code.x + code.width / 2 + 0.55
    mirrored = [(f"{size}\nReLU", 0.7) for size in reversed(hidden)]
    decoded = [
        chain(axes, y, colour, [*mirrored, (f"{name}\n{size}", 1.2)], right)
        for y, colour, name, size in ((2.35, IMAGE, "image x'", dim), (0.65, TEXT, "text y'", text_dim.strip()))
    ]
    for boxes in decoded:
        code.to(boxes[0])
    axes.text(
        (top[0].x + top[-1].x) / 2, 1.5, "maximise the correlation of h(x) and h(y),\none per unit, summed",
        ha="center", va="center", fontsize=10, bbox={"facecolor": LOSS, "edgecolor": "#555555", "boxstyle": "round"},
    )  # fmt: skip
    axes.text(
        decoded[0][min(1, len(hidden))].x + 0.25, 1.5, "minimise the error of both views\nfrom h(x, y), h(x) and h(y)",
        ha="center", va="center", fontsize=10, bbox={"facecolor": LOSS, "edgecolor": "#555555", "boxstyle": "round"},
    )  # fmt: skip
    save(figure, file)


def draw_deep_cmpl(file: Path) -> None:
    settings = from_block(DeepCMPLHyperparameters, read_block(ROOT / "deep_cmpl" / "README.md"))
    dim, image, encoder = views(settings)
    figure, axes = canvas(10.0, 3.0)
    joint = (f"Linear {settings.embedding_dim}\nBatchNorm", 1.3)
    top = chain(axes, 2.35, IMAGE, [(image, 1.0), (encoder, 1.75), (f"average\npooling {dim}", 1.9), joint])
    words = [
        ("caption\nwords", 1.0),
        (f"embedding {settings.word_dim}", 1.75),
        (f"BiLSTM 2 x {settings.lstm_dim}\nmaximum over time", 1.9),
        joint,
    ]
    bottom = chain(axes, 0.65, TEXT, words)
    right = top[-1].x + top[-1].width / 2
    compared = "learned scale x cosines" if settings.scale == "learned" else "projections of each one"
    loss = Box(
        axes,
        right + 1.75,
        1.5,
        f"{compared}\nwith all of the batch, softmax,\nagainst what belongs: cmpm",
        LOSS,
        2.4,
        1.05,
    )
    loss.draw()
    top[-1].to(loss)
    bottom[-1].to(loss)
    save(figure, file)


def save(figure: plt.Figure, file: Path) -> None:
    figure.savefig(file, dpi=110)
    plt.close(figure)
    print(f"written: {file}")


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    options.output.mkdir(parents=True, exist_ok=True)
    draw_siamese(options.output / "siamese.png")
    draw_correlational(options.output / "correlational.png")
    draw_deep_cmpl(options.output / "deepcmpl.png")


if __name__ == "__main__":
    run_script(main)

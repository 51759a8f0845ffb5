"""What a training shows: a line an epoch, warnings, TensorBoard, and curves.png."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from torch.utils.tensorboard import SummaryWriter

from common.files import replacing
from common.recall import DIRECTIONS

COLLAPSED = 0.01
AT_CHANCE = 0.99


class Monitor:
    """Follows a run, epoch by epoch.

    Args:
        folder: the run folder.
        at_chance: the losses of embeddings that know nothing.
        epochs_done: epochs before a resume, whose TensorBoard events stay.
    """

    def __init__(self, folder: Path, at_chance: dict[str, float], epochs_done: int) -> None:
        self.folder = folder
        self.at_chance = at_chance
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=epochs_done + 1)

    def epoch(self, history: list[dict[str, Any]], best_epoch: int) -> str:
        """Log the last epoch everywhere; returns a line for the terminal."""
        last = history[-1]
        for name, value in flatten(last).items():
            self.writer.add_scalar(name, value, last["epoch"])
        for name, value in self.at_chance.items():
            self.writer.add_scalar(f"{name}_at_chance", value, last["epoch"])
        self.writer.flush()
        draw_curves(history, self.at_chance, self.folder / "curves.png")
        line = describe_epoch(last, sum(self.at_chance.values()))
        line += "  best so far" if best_epoch == last["epoch"] else ""
        return "\n".join([line, *warnings(last, self.at_chance)])

    def close(self) -> None:
        self.writer.close()


def describe_epoch(record: dict[str, Any], chance: float) -> str:
    recalls = ", ".join(
        f"{words} {record['val'][direction]['R@1']:.1f}/{record['val'][direction]['R@10']:.1f}"
        for direction, words in DIRECTIONS.items()
    )
    return (
        f"epoch {record['epoch']}: loss {record['loss']:.3f} (chance {chance:.3f}), "
        f"val R@1/R@10 {recalls}, rSum {record['val']['rsum']:.1f}"
    )


def warnings(record: dict[str, Any], at_chance: dict[str, float]) -> list[str]:
    """Plain words for a tower that collapsed and for a loss that does not leave chance level."""
    found = []
    for tower, gallery_of in (("image", "text_to_image"), ("text", "image_to_text")):
        spread, several = record["val"][f"{tower}_spread"], record["val"]["R@1_at_chance"][gallery_of] < 100
        if spread < COLLAPSED and several:  # one alone has no spread
            found.append(
                f"warning: the {tower} tower has collapsed, it gives nearly the same embedding for every "
                f"{tower} (spread {spread:.4f} of 1)"
            )
    # a learned scale can start a loss above chance although the order is better: look at the recall as well
    val = record["val"]
    twice_chance = {direction: min(100, 2 * val["R@1_at_chance"][direction]) for direction in DIRECTIONS}
    recall_at_chance = any(val[direction]["R@1"] < twice for direction, twice in twice_chance.items())
    for name, chance in at_chance.items():
        if recall_at_chance and record[name] >= AT_CHANCE * chance:
            found.append(f"warning: {name} is at chance level ({record[name]:.3f} of {chance:.3f}): nothing is learned")
    return found


def flatten(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures with slashes in their names."""
    flat = {}
    for name, value in record.items():
        flat |= flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def draw_curves(history: list[dict[str, Any]], at_chance: dict[str, float], file: Path) -> None:
    """Losses with their chance level, and validation recall in both directions."""
    epochs = [record["epoch"] for record in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for number, (name, chance) in enumerate(at_chance.items()):
        left.plot(epochs, [record[name] for record in history], marker="o", label=name, color=f"C{number}")
        left.axhline(chance, linestyle=":", color=f"C{number}", label=f"{name} at chance")
    left.set(title="training loss", xlabel="epoch", ylabel="loss", ylim=(min(0, left.get_ylim()[0]), None))
    for style, (direction, words) in zip(("-", "--"), DIRECTIONS.items(), strict=True):
        for number, cutoff in enumerate((1, 5, 10)):
            values = [record["val"][direction][f"R@{cutoff}"] for record in history]
            right.plot(epochs, values, style, marker=".", color=f"C{number}", label=f"{words} R@{cutoff}")
    right.set(title="validation recall", xlabel="epoch", ylabel="per cent", ylim=(0, 100))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    with replacing(file) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)

"""From the hyperparameter block of a model's README to a dataclass and the command line.

The block is the only place where a default stands. The dataclass in train.py names
the fields and their types; the comment on each line of the block is the option's help.
This module does not import torch, so that `--help` answers at once.
"""

import dataclasses
import difflib
import math
import re
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from common.errors import InputError

HEADING = "## Hyperparameters"
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Range:
    """The values that a numeric hyperparameter may take: low <= value <= high."""

    low: float = float("-inf")
    high: float = float("inf")

    def __str__(self) -> str:
        if self.high == float("inf"):
            return f"a number from {self.low:g} up"
        return f"a number from {self.low:g} to {self.high:.15g}"


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Rate = Annotated[float, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Fraction = Annotated[float, Range(0, 1)]
ImageSize = tuple[Annotated[int, Range(8)], Annotated[int, Range(8)]]

ImageEncoderName = Literal[
    "mobilenet-v1", "mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large",
    "resnet50", "resnet152",
    "efficientnet-lite0", "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3",
    "efficientnet-b4", "efficientnet-b5", "efficientnet-b6", "efficientnet-b7",
]  # fmt: skip
TextEncoderName = Literal["bilstm", "mean", "bert"]
FrozenTextEncoderName = Literal["word2vec", "bert"]
Word2VecKind = Literal["skip-gram", "cbow"]
Precision = Literal["default", "float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class TrainingSettings:
    """What the training loop reads: every model has these."""

    epochs: Count
    batch_size: Annotated[int, Range(2)]
    accumulate: Count
    learning_rate: Rate
    weight_decay: Rate
    warmup: Fraction
    gradient_clip: Rate
    patience: CountOrZero
    val_products: CountOrZero
    precision: Precision
    compile: bool
    seed: Seed


@dataclass(frozen=True)
class FeatureSettings:
    """Where the features come from, for the models that start from those of frozen encoders."""

    image_encoder: ImageEncoderName
    image_weights: str
    image_size: ImageSize
    text_encoder: FrozenTextEncoderName
    text_weights: str
    word2vec: Word2VecKind
    word_dim: Count
    word_window: Count
    word_epochs: Count
    min_word_count: Count
    max_words: Count


@dataclass(frozen=True)
class Block:
    """The parsed block: values, and for each key its line in the README and its comment."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    comments: dict[str, str]

    def where(self, key: str) -> str:
        return f"{self.path}, line {self.lines[key]}"


def read_block(readme: Path) -> Block:
    """Read the fenced `toml` block under `## Hyperparameters`.

    Raises:
        InputError: the README, the heading or the block is missing, or the block is not TOML.
    """
    if not readme.is_file():
        raise InputError(f"{readme}: no such file; the hyperparameters are read from it")
    text = readme.read_text(encoding="utf-8")
    match = re.search(rf"^{HEADING}\s*$(?:(?!^## ).)*?^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise InputError(f"{readme}: no ```toml block under the heading '{HEADING}'")
    body, first_line = match.group(1), text[: match.start(1)].count("\n") + 1
    try:
        values = tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        in_block = re.search(r"at line (\d+)", str(error))
        line = first_line + (int(in_block.group(1)) if in_block else body.count("\n")) - 1  # else: "end of document"
        raise InputError(f"{readme}, line {line}: the hyperparameter block is not valid TOML: {error}") from None
    lines, comments = {}, {}
    for offset, line in enumerate(body.splitlines()):
        if key := re.match(r"""\s*\[*["']?([\w-]+)["']?\s*[=.\]]""", line):  # also of a table
            lines[key.group(1)] = first_line + offset
            comment = re.match(r"""(?:[^"'#]|"[^"]*"|'[^']*')*#(.*)""", line)
            comments[key.group(1)] = comment.group(1).strip() if comment else ""
    return Block(readme, values, lines, comments)


def from_block(cls: type[Settings], block: Block) -> Settings:
    """Build the dataclass `cls` from a block, naming the README's line in every complaint."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in block.values:
        if key not in hints:
            nearest = difflib.get_close_matches(key.lower(), hints, n=1, cutoff=0)
            raise InputError(
                f"{block.path}, line {block.lines.get(key, '?')}: unknown hyperparameter '{key}'; "
                f"the nearest valid one is '{nearest[0]}'"
            )
    for key in hints:
        if key not in block.values:
            nearest = difflib.get_close_matches(key, block.values, n=1)
            hint = f"; the nearest line there is {block.lines[nearest[0]]}, '{nearest[0]}'" if nearest else ""
            raise InputError(f"{block.path}: the hyperparameter block lacks the key '{key}'{hint}; add a line for it")
    return cls(**{key: checked(block.values[key], hints[key], f"{block.where(key)}: {key}") for key in hints})


def checked(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`, or raise an `InputError` that begins with `where`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = checked(value, arguments[0], where)
        for limit in arguments[1:]:
            if isinstance(limit, Range) and not (limit.low <= value <= limit.high and math.isfinite(value)):
                raise InputError(f"{where} = {value}: expected {limit}")
        return value
    if origin is Literal:
        if value not in arguments:
            nearest = difflib.get_close_matches(str(value), arguments, n=1, cutoff=0)[0]
            choices = ", ".join(map(repr, arguments))
            raise InputError(f"{where} = {value!r}: did you mean '{nearest}'? Valid are {choices}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            raise InputError(f"{where} = {value!r}: expected {len(arguments)} values in square brackets")
        return tuple(checked(item, kind, where) for item, kind in zip(value, arguments, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(f"{where} = {value!r}: expected a value of type {hint.__name__}")
    return value


def check_settings(settings: Any) -> None:
    """Check values that came from the command line against the ranges of the dataclass."""
    for key, hint in typing.get_type_hints(type(settings), include_extras=True).items():
        checked(getattr(settings, key), hint, f"--{key.replace('_', '-')}")


def command_line(options: type, settings: Any, comments: dict[str, str], description: str) -> tuple[Any, Any]:
    """Parse `sys.argv` into (options, settings); `settings` gives the defaults of the second group."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    documented = dataclasses.make_dataclass(
        "Hyperparameters",
        [(key, Annotated[plain(hint), tyro.conf.arg(help=comments.get(key, ""))]) for key, hint in hints.items()],
        frozen=True,
    )
    documented.__doc__ = "Hyperparameters: each overrides the block in the model's README."
    default = documented(**dataclasses.asdict(settings))
    command = dataclasses.make_dataclass(
        "Command", [("run", options), ("hyperparameter", documented, dataclasses.field(default=default))]
    )
    parsed = tyro.cli(command, description=description, config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands))
    chosen = type(settings)(**dataclasses.asdict(parsed.hyperparameter))
    check_settings(chosen)
    return parsed.run, chosen


def plain(hint: Any) -> Any:
    """The type without its `Range` annotations, for the command-line parser."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return plain(arguments[0])
    if origin is tuple:
        return tuple[tuple(plain(argument) for argument in arguments)]
    return hint

"""common/hyperparameters.py: README block -> dataclass -> command line, and what each mistake is answered with."""

import ast
import dataclasses
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from common.errors import InputError
from common.hyperparameters import (
    Block,
    Count,
    CountOrZero,
    Fraction,
    ImageSize,
    Range,
    Rate,
    check_settings,
    command_line,
    from_block,
    read_block,
)

ROOT = Path(__file__).resolve().parents[1]
MODELS = sorted(path.parent.name for path in ROOT.glob("*/train.py"))
LINES = {
    "encoder": 'encoder = "small"  # "small" or "large"; see issue #7',
    "image_size": "image_size = [80, 60]  # [height, width] in pixels",
    "epochs": "epochs = 10  # passes over the data",
    "learning_rate": "learning_rate = 1e-3  # highest rate",
    "dropout": "dropout = 0",
    "column": 'column = "a # b"  #name of a column',
    "flip": "flip = true  # mirror",
    "seed": "seed = 0  # of chance",
}
FIRST_LINE = 8
"""The README's line of `encoder`."""


@dataclass(frozen=True)
class Settings:
    encoder: Literal["small", "large"]
    image_size: ImageSize
    epochs: Count
    learning_rate: Rate
    dropout: Fraction
    column: str
    flip: bool
    seed: CountOrZero


@dataclass(frozen=True)
class Options:
    """Options of the run."""

    data: Path | None = None
    """Where the data is."""


def readme(folder: Path, **changed: str | None) -> Path:
    """A README with the block; a keyword replaces a key's line, or takes it out with None."""
    lines = [line for key in LINES | changed if (line := (LINES | changed)[key]) is not None]
    text = [
        "# A model",
        "",
        "epochs = 99",
        "## Hyperparameters",
        "",
        "Some words.",
        "```toml",
        *lines,
        "```",
        "",
        "end",
    ]
    path = folder / "README.md"
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def settings_of(folder: Path, **changed: str | None) -> Settings:
    return from_block(Settings, read_block(readme(folder, **changed)))


@pytest.fixture
def block(tmp_path) -> Block:
    return read_block(readme(tmp_path))


@pytest.fixture
def typed(block, monkeypatch):
    """A function: command line -> (options, settings)"""

    def run(line: str) -> tuple[Options, Settings]:
        monkeypatch.setattr(sys, "argv", ["train.py", *line.split()])
        return command_line(Options, from_block(Settings, block), block.comments, "Train a model.")

    return run


# --- the block -----------------------------------------------------------------------------------------------


def test_values_lines_and_comments(block):
    assert from_block(Settings, block) == Settings("small", (80, 60), 10, 0.001, 0.0, "a # b", True, 0)
    assert block.lines == {key: FIRST_LINE + n for n, key in enumerate(LINES)}
    assert block.comments == {
        "encoder": '"small" or "large"; see issue #7', "image_size": "[height, width] in pixels",
        "epochs": "passes over the data", "learning_rate": "highest rate", "dropout": "",
        "column": "name of a column", "flip": "mirror", "seed": "of chance",
    }  # fmt: skip


def test_whole_numbers_become_floats(tmp_path):
    dropout = settings_of(tmp_path, dropout="dropout = 1").dropout
    assert dropout == 1.0 and isinstance(dropout, float)


@pytest.mark.parametrize("line", ["  epochs = 3  # few", '"epochs" = 3  # few', "epochs=3 # few"])
def test_other_ways_to_write_a_line(tmp_path, line):
    block = read_block(readme(tmp_path, epochs=line))
    assert from_block(Settings, block).epochs == 3
    assert block.lines["epochs"] == FIRST_LINE + 2 and block.comments["epochs"] == "few"


@pytest.mark.parametrize(
    ("key", "line", "message"),
    [
        ("epochs", "epoch = 10", "unknown hyperparameter 'epoch'; the nearest valid one is 'epochs'"),
        ("epochs", "EPOCHS = 10", "unknown hyperparameter 'EPOCHS'; the nearest valid one is 'epochs'"),
        ("seed", "seed.a = 1", "seed = {'a': 1}: expected a value of type int"),
        ("zzz", "zzz = 1", "unknown hyperparameter 'zzz'; the nearest valid one is "),
        ("epochs", 'epochs = "10"', "epochs = '10': expected a value of type int"),
        ("epochs", "epochs = 1.5", "epochs = 1.5: expected a value of type int"),
        ("epochs", "epochs = true", "epochs = True: expected a value of type int"),
        ("epochs", "epochs = 0", "epochs = 0: expected a number from 1 up"),
        ("seed", "seed = -1", "seed = -1: expected a number from 0 up"),
        ("learning_rate", "learning_rate = -0.5", "learning_rate = -0.5: expected a number from 0 up"),
        ("learning_rate", "learning_rate = nan", "learning_rate = nan: expected a number from 0 up"),
        ("learning_rate", "learning_rate = false", "learning_rate = False: expected a value of type float"),
        ("dropout", "dropout = 1.01", "dropout = 1.01: expected a number from 0 to 1"),
        ("dropout", '  "dropout" = 2', "dropout = 2.0: expected a number from 0 to 1"),
        ("flip", "flip = 1", "flip = 1: expected a value of type bool"),
        ("column", "column = 5", "column = 5: expected a value of type str"),
        ("encoder", 'encoder = "lareg"', "encoder = 'lareg': did you mean 'large'? Valid are 'small', 'large'"),
        ("encoder", "encoder = 3", "encoder = 3: did you mean "),
        ("image_size", "image_size = 80", "image_size = 80: expected 2 values in square brackets"),
        ("image_size", "image_size = [80]", "image_size = [80]: expected 2 values in square brackets"),
        ("image_size", "image_size = [80, 7]", "image_size = 7: expected a number from 8 up"),
        ("image_size", "image_size = [80, 60.0]", "image_size = 60.0: expected a value of type int"),
        ("epochs", "epochs = ", "the hyperparameter block is not valid TOML: "),
        ("epochs", "epochs 10", "the hyperparameter block is not valid TOML: "),
        ("seed", "seed = 0\nepochs = 3", "the hyperparameter block is not valid TOML: "),
        ("seed", "seed = [0", "the hyperparameter block is not valid TOML: "),
    ],
)
def test_mistakes_are_answered_with_file_and_line(tmp_path, key, line, message):
    path = readme(tmp_path, **{key: line})
    number = path.read_text().splitlines().index(line.splitlines()[-1]) + 1
    with pytest.raises(InputError) as error:
        from_block(Settings, read_block(path))
    assert str(error.value).startswith(f"{path}, line {number}: {message}")


def test_missing_key(tmp_path):
    path = readme(tmp_path, learning_rate=None)
    with pytest.raises(InputError, match=f"{path}: the hyperparameter block lacks the key 'learning_rate'.*add a line"):
        from_block(Settings, read_block(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; the hyperparameters are read from it"),
        ("# A model\n```toml\nepochs = 1\n```\n", "no ```toml block under the heading '## Hyperparameters'"),
        ("## Hyperparameters\n\nnone\n", "no ```toml block under the heading '## Hyperparameters'"),
        ("## Hyperparameters\n\nnone\n\n## Other\n```toml\na = 1\n```\n", "no ```toml block under the heading"),
    ],
)
def test_readme_without_block(tmp_path, text, message):
    path = tmp_path / "README.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_block(path)


# --- the command line ----------------------------------------------------------------------------------------


def test_nothing_typed_gives_the_block(typed, block):
    assert typed("") == (Options(None), from_block(Settings, block))


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("--image-size 64 48", {"image_size": (64, 48)}),
        ("--no-flip", {"flip": False}),
        ("--flip --epochs 3", {"epochs": 3}),
        ("--encoder large --column=", {"encoder": "large", "column": ""}),
        ("--learning-rate 2 --dropout 1", {"learning_rate": 2.0, "dropout": 1.0}),
        ("--learning_rate 1e-4", {"learning_rate": 1e-4}),
    ],
)
def test_options_override_the_block(typed, block, line, changed):
    assert typed(line)[1] == dataclasses.replace(from_block(Settings, block), **changed)


def test_options_beside_hyperparameters(typed):
    options, settings = typed("--epochs 2 --data some/where")
    assert options.data == Path("some/where") and settings.epochs == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--epochs 0", "--epochs = 0: expected a number from 1 up"),
        ("--dropout 1.5", "--dropout = 1.5: expected a number from 0 to 1"),
        ("--learning-rate -1", "--learning-rate = -1.0: expected a number from 0 up"),
        ("--image-size 64 4", "--image-size = 4: expected a number from 8 up"),
    ],
)
def test_options_out_of_range(typed, line, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        typed(line)


@pytest.mark.parametrize(
    ("line", "named"),
    [("--epochs many", "--epochs"), ("--epoch 3", "--epoch"), ("--image-size 64", "--image-size"), ("stray", "stray"),
     ("--encoder middle", "--encoder"), ("--flip maybe", "maybe"), ("--dropout", "--dropout")],
)  # fmt: skip
def test_options_that_do_not_parse(typed, line, named, capsys):
    with pytest.raises(SystemExit) as stop:
        typed(line)
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_help_shows_comments_and_defaults(typed, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        typed("--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert stop.value.code == 0
    for text in ("Train a model.", "passes over the data (default: 10)", "[height, width] in pixels (default: 80 60)",
                 "mirror (default: True)", "Where the data is."):  # fmt: skip
        assert text in shown


@pytest.mark.parametrize(
    ("limits", "words"), [(Range(1), "a number from 1 up"), (Range(0, 0.5), "a number from 0 to 0.5")]
)
def test_ranges_in_words(limits, words):
    assert str(limits) == words


# --- the models of this repository ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_readme_and_dataclass_agree(model):
    cls = importlib.import_module(f"{model}.train").Hyperparameters
    block = read_block(ROOT / model / "README.md")
    settings = from_block(cls, block)
    check_settings(settings)
    names = [field.name for field in dataclasses.fields(cls)]
    assert sorted(block.values) == sorted(names)
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(cls)), (
        "defaults stand in the README"
    )
    assert all(block.comments[name] for name in names), "each line says what it does"
    assert set(names) >= {"image_encoder", "image_weights", "image_size", "text_encoder", "epochs", "batch_size",
                          "learning_rate", "seed"}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_hyperparameter_is_read_somewhere(model):
    cls = importlib.import_module(f"{model}.train").Hyperparameters
    files = [*(ROOT / model).glob("*.py"), *(ROOT / "common").glob("*.py")]
    read = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert {field.name for field in dataclasses.fields(cls)} <= read

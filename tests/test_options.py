"""common/options.py: the shared command line, and what --resume takes from the run."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from common import options
from common.errors import InputError
from common.hyperparameters import Count, ImageSize
from common.options import TrainOptions, eval_command_line, read_config, train_command_line

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(str(path.relative_to(ROOT)) for name in ("train", "eval") for path in ROOT.glob(f"*/{name}.py"))
DATA = {"data": "/data/shop.csv", "image_root": "/data/images", "image_column": "file", "caption_column": None,
        "id_column": "sku"}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    epochs: Count
    image_size: ImageSize
    flip: bool


STARTED_WITH = Settings(5, (64, 48), False)


def write_readme(root: Path, epochs: object = 10) -> None:
    (root / "tiny").mkdir(exist_ok=True)
    block = f"epochs = {epochs}  # passes\nimage_size = [80, 60]\nflip = true\n"
    (root / "tiny" / "README.md").write_text(f"## Hyperparameters\n\n```toml\n{block}```\n")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with one model, "tiny"."""
    monkeypatch.setattr(options, "ROOT", tmp_path)
    write_readme(tmp_path)
    return tmp_path


@pytest.fixture
def run(root) -> Path:
    """The default run folder, started with other hyperparameters than the README's."""
    return write_config(root / "runs" / "tiny")


def write_config(folder: Path, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": "tiny", "hyperparameters": asdict(STARTED_WITH), "data": {"fingerprint": "0f", "options": DATA},
              "precision": "float32"} | changed  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def train(monkeypatch):
    """A function: command line -> (options, settings)"""

    def typed(*line: object) -> tuple[TrainOptions, Settings]:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, line)])
        return train_command_line("tiny", Settings)

    return typed


# --- a new run -----------------------------------------------------------------------------------------------


def test_defaults(root, train):
    chosen, settings = train()
    assert chosen == TrainOptions(output=root / "runs" / "tiny")
    assert settings == Settings(10, (80, 60), True)


def test_everything_typed(root, train):
    chosen, settings = train(
        "--data", "shop.csv", "--output", "here", "--overwrite", "--strict", "--device", "cuda:1", "--image-column",
        "a", "--caption-column", "b", "--id-column", "c", "--image-root", "d", "--epochs", 3, "--no-flip",
        "--image-size", 32, 24,
    )  # fmt: skip
    assert chosen == TrainOptions(
        data=Path("shop.csv"), output=Path("here"), overwrite=True, strict=True, device="cuda:1", image_column="a",
        caption_column="b", id_column="c", image_root=Path("d"),
    )  # fmt: skip
    assert settings == Settings(3, (32, 24), False)


def test_readme_without_the_right_block(root, train):
    write_readme(root, epochs='"ten"')
    with pytest.raises(InputError, match=r"tiny/README.md, line 4: epochs = 'ten': expected a value of type int"):
        train()


def test_resume_and_overwrite_exclude_each_other(run, train):
    with pytest.raises(InputError, match="--resume goes on with a run, --overwrite deletes it"):
        train("--resume", "--overwrite")


def test_evaluation(root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", "--split", "val", "--json", "out.json"])
    chosen = eval_command_line("tiny")
    assert (chosen.run, chosen.split, chosen.json) == (root / "runs" / "tiny", "val", Path("out.json"))
    assert (chosen.data, chosen.relevance, chosen.strict, chosen.device) == (None, None, False, "auto")
    monkeypatch.setattr(sys, "argv", ["eval.py", "--run", "mine"])
    assert (eval_command_line("tiny").run, eval_command_line("tiny").split) == (Path("mine"), "test")


@pytest.mark.parametrize("words", [["--by", "a", "--by", "b"], ["--compare", "one", "--split", "val", "--compare=two"]])
def test_values_that_would_be_lost_are_refused(root, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["eval.py", *words])
    with pytest.raises(InputError, match=f"{words[0]} is given twice, and only the last would count"):
        eval_command_line("tiny")


# --- --resume --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edited", [10, 77])
def test_resume_takes_the_run_and_not_the_readme(root, run, train, edited):
    write_readme(root, epochs=edited)
    chosen, settings = train("--resume")
    assert settings == STARTED_WITH
    assert chosen == TrainOptions(
        resume=True, output=run, data=Path("/data/shop.csv"), image_root=Path("/data/images"), image_column="file",
        id_column="sku",
    )  # fmt: skip


def test_resume_of_a_run_elsewhere(root, train):
    folder = write_config(root / "elsewhere", hyperparameters=asdict(STARTED_WITH) | {"epochs": 2})
    chosen, settings = train("--resume", "--output", folder)
    assert (chosen.output, settings.epochs) == (folder, 2)


def test_resume_with_other_data_and_the_same_values(run, train):
    chosen, settings = train("--resume", "--data", "other.csv", "--epochs", 5, "--image-size", 64, 48, "--no-flip")
    assert settings == STARTED_WITH
    assert (chosen.data, chosen.image_column, chosen.image_root) == (Path("other.csv"), None, None)


def test_resume_of_a_run_on_the_sample(root, train):
    write_config(root / "runs" / "tiny", data={"fingerprint": "0f", "options": dict.fromkeys(DATA)})
    assert train("--resume")[0].data is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("--epochs", 10), r"--epochs 10: the run in .*runs/tiny was started with 5; --resume cannot change it"),
        (("--image-size", 80, 60), r"--image-size \(80, 60\): the run .* was started with \(64, 48\)"),
        (("--flip",), "--flip True: the run .* was started with False"),
    ],
)
def test_resume_with_a_changed_hyperparameter(run, train, line, message):
    with pytest.raises(InputError, match=message):
        train("--resume", *line)


@pytest.mark.parametrize("exists", [True, False])
def test_resume_of_no_run(root, train, exists):
    folder = root / "empty"
    if exists:
        folder.mkdir()
    with pytest.raises(InputError, match=rf"^{folder}: no run there \(it has no config.json\); .*tiny/train.py"):
        train("--resume", "--output", folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "siamese"}, "a run of siamese, not of tiny; use siamese/eval.py or another folder"),
        (
            {"hyperparameters": {"epochs": 5, "image_size": [64, 48]}},
            r"another version of this code \(it lacks flip in its hyper",
        ),
        (
            {"hyperparameters": asdict(STARTED_WITH) | {"old": 1}},
            r"another version .*\(old is unknown in its.* --overwrite",
        ),
        (
            {"hyperparameters": asdict(STARTED_WITH) | {"epochs": 0}},
            "config.json: epochs = 0: expected a number from 1 up",
        ),
    ],
)
def test_resume_of_another_run(run, train, changed, message):
    write_config(run, **changed)
    with pytest.raises(InputError, match=rf"^{run}.*{message}"):
        train("--resume")


WITHOUT_DATA = {"model": "tiny", "hyperparameters": asdict(STARTED_WITH)}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"model": "ti', b"[]", b"{}", b"3", b"\xff\xfe{}", b'{"model": "tiny"}',
     json.dumps(WITHOUT_DATA).encode(), json.dumps(WITHOUT_DATA | {"data": "shop.csv"}).encode(),
     json.dumps({"model": "tiny", "hyperparameters": 3, "data": {"options": DATA}}).encode()],
)  # fmt: skip
def test_broken_config(run, train, content):
    (run / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=f"^{run}/config.json: not the configuration of a run"):
        train("--resume")


def test_config_of_a_run(run):
    assert read_config(run, "tiny")["data"]["options"] == DATA


# --- the scripts -----------------------------------------------------------------------------------------------


def help_of(script, folder):
    """What --help prints in a folder, and asserted that none of the slow packages is imported for it."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "finally:\n"
        "    print('slow:', *sorted({'torch', 'pandas', 'PIL', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("slow:")
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_torch(script, tmp_path):
    """--help works from any folder and names every shared option."""
    text = help_of(script, tmp_path)
    shared = ["--data", "--image-column", "--caption-column", "--id-column", "--image-root", "--strict", "--device"]
    own = {"train.py": ["--output", "--resume", "--overwrite", "--epochs", "--image-size"],
           "eval.py": ["--run", "--split", "--relevance", "--json"]}  # fmt: skip
    for option in shared + own[Path(script).name]:
        assert option in text


@pytest.mark.parametrize("script", ["app", "export", "index", "query"])
def test_help_of_the_search_answers_without_torch(script, tmp_path):
    assert help_of(f"search/{script}.py", tmp_path).startswith("usage: ")

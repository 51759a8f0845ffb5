"""What the READMEs say can be done: links lead somewhere, commands parse, nothing is left to fill in."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from benchmarks import repeat
from common.options import eval_command_line, train_command_line
from data import check, prepare
from search import app, export, index, query

ROOT = Path(__file__).resolve().parents[1]
MODELS = sorted(path.parent.name for path in ROOT.glob("*/train.py"))
READMES = [ROOT / folder / "README.md" for folder in (".", "benchmarks", "data", "search", *MODELS)]


def commands(script: str) -> list[list[str]]:
    """The arguments of every command in the READMEs' code blocks that calls a script, also through torchrun."""
    text = "\n".join(readme.read_text(encoding="utf-8") for readme in READMES)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").replace("&&", "").splitlines()
    called = re.compile(rf"\s*(?:python|torchrun(?: --\S+)+) {re.escape(script)}( .*|$)")
    return [shlex.split(match.group(1)) for match in map(called.match, lines) if match]


def test_the_commands_of_torchrun_are_among_them():
    assert ["--data", "catalogue.parquet", "--output", "RUN", "--batch-size", "2048"] in commands("deep_cmpl/train.py")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(readme):
    text = readme.read_text(encoding="utf-8")
    assert "@@" not in text
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def parse_training(model: str, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    train_command_line(model, importlib.import_module(f"{model}.train").Hyperparameters)


@pytest.mark.parametrize("model", MODELS)
def test_training_commands_parse(model, monkeypatch):
    found = commands(f"{model}/train.py")
    assert found, f"no README shows how to train {model}"
    for arguments in found:
        parse_training(model, arguments, monkeypatch)


def test_the_commands_that_get_and_check_a_catalogue_parse():
    table = re.findall(r"`python data/prepare.py ([^`]+)`", (ROOT / "data" / "README.md").read_text(encoding="utf-8"))
    asked = [*commands("data/prepare.py"), *map(shlex.split, table)]
    assert {words[0] for words in asked} == {"urls", "hub", "indian-fashion", "unpack"}
    for words in asked:
        tyro.cli(prepare.Command, args=words)
    assert commands("data/check.py")
    for words in commands("data/check.py"):
        tyro.cli(check.Options, args=words)


def test_the_commands_that_search_parse():
    for script in (app, export, index, query):
        found = commands(f"search/{Path(script.__file__).name}")
        assert found
        for words in found:
            tyro.cli(script.Options, args=words)


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_commands_parse(model, monkeypatch):
    found = commands(f"{model}/eval.py")
    assert found, f"no README shows how to evaluate {model}"
    for arguments in found:
        monkeypatch.setattr(sys, "argv", ["eval.py", *arguments])
        eval_command_line(model)


def test_commands_that_repeat_trainings_parse(tmp_path, monkeypatch):
    """Each training that they would start has options that train.py knows."""
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repeat, "ROOT", tmp_path)
    monkeypatch.setattr(repeat, "script", lambda model, name, *words: started.append((model, name, words)))
    monkeypatch.setattr(repeat, "evaluate", lambda *_: pytest.skip("nothing is trained here"))
    for arguments in commands("benchmarks/repeat.py"):
        monkeypatch.setattr(sys, "argv", ["repeat.py", *arguments])
        with pytest.raises(pytest.skip.Exception):
            repeat.main()
    assert started
    for model, name, words in started:
        assert name == "train" and "--resume" not in words
        parse_training(model, list(words), monkeypatch)


def test_ci_runs_the_test_command_of_the_readme():
    extract = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("command="))
    shown = subprocess.run(["bash", "-c", f'{extract}; echo "$command"'], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == "pip install -r requirements-dev.txt && python -m pytest -n auto"

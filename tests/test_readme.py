"""What the READMEs say can be done: links lead somewhere, commands parse, nothing is left to fill in."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.options import eval_command_line, train_command_line
from deep_cmpl.train import Hyperparameters

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / name for name in ("README.md", "deep_cmpl/README.md", "data/README.md")]


def commands(script: str) -> list[list[str]]:
    """The arguments of every command in a README's code blocks that calls a script."""
    text = "\n".join(readme.read_text(encoding="utf-8") for readme in READMES)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").replace("&&", "").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.strip().startswith(f"python {script}")]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(readme):
    text = readme.read_text(encoding="utf-8")
    assert "@@" not in text
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def test_training_commands_parse(monkeypatch):
    found = commands("deep_cmpl/train.py")
    assert len(found) >= 3
    for arguments in found:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        train_command_line("deep_cmpl", Hyperparameters)


def test_evaluation_commands_parse(monkeypatch):
    found = commands("deep_cmpl/eval.py")
    assert len(found) >= 2
    for arguments in found:
        monkeypatch.setattr(sys, "argv", ["eval.py", *arguments])
        eval_command_line("deep_cmpl")


def test_ci_runs_the_test_command_of_the_readme():
    extract = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("command="))
    shown = subprocess.run(["bash", "-c", f'{extract}; echo "$command"'], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == "pip install -r requirements-dev.txt && python -m pytest"

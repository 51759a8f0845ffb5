"""Runs whose files are truncated, edited or do not fit: one message, the rest can be used, and no code is executed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import evaluate, resume, state

from common.checkpoints import Run, load_model
from common.errors import InputError

pytestmark = pytest.mark.usefixtures("patches")


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def own(finished, tmp_path):
    """A copy of a run that can be spoilt, in its second epoch."""
    folder = shutil.copytree(finished, tmp_path / "own")
    saved = state(folder)
    saved["progress"] |= {"finished": False, "epoch": 2, "history": saved["progress"]["history"][:2]}
    torch.save(saved, folder / "training_state.pt")
    return folder


def not_resumed(monkeypatch, run) -> str:
    with pytest.raises(InputError) as told:
        resume(monkeypatch, run)
    return str(told.value)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_state(share, own, monkeypatch):
    file = own / "training_state.pt"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert not_resumed(monkeypatch, own) == (
        f"{file}: not a training state that can be read, it is truncated or was changed. The model kept so far can "
        "still be evaluated; to train, start this run again with --overwrite or name another --output"
    )
    assert evaluate(monkeypatch, own)["rsum"] > 0


@pytest.mark.parametrize("where", ["training_state.pt", "model.safetensors"])
def test_an_edited_file_does_not_execute_code(where, own, tmp_path, monkeypatch):
    trap, file = tmp_path / "sprung", own / where
    torch.save({"model": Trap(trap)}, file)
    torch.load(shutil.copy(file, tmp_path / "copy.pt"), weights_only=False)
    assert trap.exists(), "the trap works"
    trap.unlink()
    if where == "training_state.pt":
        assert "not a training state that can be read" in not_resumed(monkeypatch, own)
    else:
        with pytest.raises(InputError, match="a broken run, a file of it cannot be read"):
            evaluate(monkeypatch, own)
    assert not trap.exists()


@pytest.mark.parametrize("part", ["model", "optimizer", "progress"])
def test_a_state_that_does_not_fit(part, own, monkeypatch):
    saved, file = state(own), own / "training_state.pt"
    spoilt = {
        "model": {"image_joint.0.weight": torch.zeros(2)},
        "optimizer": {"param_groups": []},
        "progress": {"a": 1},
    }
    saved[part] = saved[part] | spoilt[part]
    torch.save(saved, file)
    message = not_resumed(monkeypatch, own)
    assert message.startswith(f"{file}: does not fit the model that config.json describes (")
    assert message.endswith("Start it again with --overwrite, or name another --output") and "\n" not in message


def edit(run: Path, **values) -> None:
    file = run / "config.json"
    config = json.loads(file.read_text())
    for key, value in values.items():
        (config if key in config else config["hyperparameters"])[key] = value
    file.write_text(json.dumps(config))


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a file where it is imported; returns that file."""
    trap = tmp_path / "sprung"
    (tmp_path / "evil").mkdir()
    for name in ("__init__.py", "model.py"):
        (tmp_path / "evil" / name).write_text(f"open({str(trap)!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return trap


@pytest.mark.parametrize("name", ["evil", "../evil", "evil.model:main", ["evil"], None])
def test_an_edited_model_name_imports_nothing(name, own, evil, monkeypatch):
    edit(own, model=name)
    with pytest.raises(InputError, match=r"a run of .*, not of deep_cmpl"):
        evaluate(monkeypatch, own)
    config = json.loads((own / "config.json").read_text())
    with pytest.raises(InputError, match=r"config\.json: unknown model .*; expected one of"):
        load_model(own, config, torch.device("cpu"))
    assert not evil.exists()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"image_encoder": "evil"}, "no model can be built from it"),
        ({"text_encoder": "evil"}, "no model can be built from it"),
        ({"embedding_dim": "64"}, "no model can be built from it"),
        ({"embedding_dim": 64}, "the weights do not fit config.json"),
        ({"precision": "load"}, "not the configuration of a run"),
        (
            {"image_size": [32]},
            r"config\.json: not the configuration of a run .*image_size = \[32\]: expected 2 values",
        ),
        ({"image_size": ["a", 3]}, "not the configuration of a run .*expected a value of type int"),
    ],
)
def test_an_edited_configuration_is_one_message(values, told, own, monkeypatch):
    edit(own, **values)
    monkeypatch.undo()  # the real image encoders
    with pytest.raises(InputError, match=told):
        evaluate(monkeypatch, own)


@pytest.mark.parametrize(("key", "value"), [("data", 3), ("of_a_later_version", None)])
def test_an_edited_name_of_the_data_is_one_message(key, value, own, monkeypatch):
    config = json.loads((own / "config.json").read_text())
    config["data"]["options"][key] = value
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"not the configuration of a run .*data option {key} = {value}"):
        evaluate(monkeypatch, own)


def test_weights_that_the_configuration_names_are_not_unpickled(own, tmp_path, monkeypatch):
    """Without a state the run starts over, with the pretrained weights that it names."""
    monkeypatch.undo()  # the real image encoders
    trap = tmp_path / "sprung"
    torch.save({"model": Trap(trap)}, tmp_path / "weights.pth")
    edit(own, image_weights=str(tmp_path / "weights.pth"))
    (own / "training_state.pt").unlink()
    assert "not a file of weights" in not_resumed(monkeypatch, own)
    assert not trap.exists()


def test_a_transformer_of_a_run_executes_no_code(own, tmp_path, monkeypatch):
    import transformers

    trap, folder = tmp_path / "sprung", own / "transformer"
    folder.mkdir()
    (folder / "evil.py").write_text(
        "from transformers import PretrainedConfig\n"
        f"open({str(trap)!r}, 'w')\n"
        "class Evil(PretrainedConfig):\n    model_type = 'evil'\n"
    )
    named = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(named))
    transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert trap.exists(), "the trap works"
    trap.unlink()
    edit(own, text_encoder="bert", text_weights="evil")
    with pytest.raises(InputError, match="no tokenizer there"):
        evaluate(monkeypatch, own)
    assert not trap.exists()


def test_what_an_evaluation_left_goes_with_the_model_that_it_is_of(tmp_path):
    """A run that was interrupted, evaluated and resumed is not compared by the ranks of its first epochs."""
    names = ("ranks-test.parquet", "recall-by-kind-test.png", "fg101-test.parquet", "report.json")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    progress = {"step": 0, "epoch": 2, "best_epoch": 1, "history": []}
    Run(tmp_path).save_state({"model": {"weight": torch.zeros(2)}, "progress": progress})
    assert all((tmp_path / name).exists() for name in names), "the model is still the same"
    progress["epoch"], progress["best_epoch"] = 3, 3
    Run(tmp_path).save_state({"model": {"weight": torch.ones(2)}, "progress": progress})
    assert (tmp_path / "model.safetensors").is_file()
    assert [name for name in names if (tmp_path / name).exists()] == ["fg101-test.parquet", "report.json"]

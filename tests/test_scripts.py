"""The scripts as their users start them: processes, exit codes, one message, nothing of the user's deleted."""

import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_runs import MODELS, arguments, assert_same_run, evaluate, metrics, remove_caches, script, train

import common.image_encoders
from common.errors import InputError, run_script

ROOT = Path(__file__).resolve().parents[1]
TRAIN, EVAL = ROOT / "deep_cmpl" / "train.py", ROOT / "deep_cmpl" / "eval.py"
PRETRAINED = {"image_encoder": "efficientnet-lite0", "image_weights": "imagenet"}
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
EPOCHS = 3
LIMIT = 600  # seconds


@contextmanager
def start(script: Path, *words, cwd: Path) -> Iterator[subprocess.Popen]:
    """The script as a process, which is gone at the end whatever happens."""
    command = [sys.executable, str(script), *map(str, words)]
    with subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(script: Path, *words, cwd: Path) -> subprocess.CompletedProcess:
    with start(script, *words, cwd=cwd) as process:
        out, err = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_here(main, *words, cwd: Path, capsys) -> subprocess.CompletedProcess:
    """The same in this process, without the seconds that importing torch takes."""
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(SystemExit) as left:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, words)])
        run_script(main)
    return subprocess.CompletedProcess(words, left.value.code, *capsys.readouterr())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_catalogue):
    path = tiny_catalogue(tmp_path_factory.mktemp("catalogue"), products=60)
    yield path
    remove_caches(path)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A function: the name of a model -> an uninterrupted run of it, made on first use.

    Its path and that of the data are typed relative to where the user stands. The frozen image encoders have
    pretrained weights.
    """

    @functools.cache
    def of(model):
        folder = tmp_path_factory.mktemp(model)
        settings = {"epochs": EPOCHS} | (PRETRAINED if model != "deep_cmpl" else {})
        words = arguments(os.path.relpath(data, folder), "mine", model, **settings)
        done = run(ROOT / model / "train.py", *words, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"the model is in {folder / 'mine'}" in done.stdout
        assert "vocabulary: 20 words of the train captions; in train 0.0% of the words are unknown" in done.stdout
        return folder / "mine"

    return of


@pytest.fixture(scope="module")
def finished(trained):
    return trained("deep_cmpl")


# --- the ways to start ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "eval"])
@pytest.mark.parametrize("model", MODELS)
def test_every_way_to_start_a_script(model, name):
    ways = [
        ([f"{model}/{name}.py"], ROOT),
        ([f"{name}.py"], ROOT / model),
        ([str(ROOT / model / f"{name}.py")], Path("/")),
        (["-m", f"{model}.{name}"], ROOT),
    ]
    every = [
        subprocess.Popen(
            [sys.executable, *words, "--help"],
            cwd=cwd, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for words, cwd in ways
    ]  # fmt: skip
    for (words, _), process in zip(ways, every, strict=True):
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0 and err == "", words
        assert model in out and "--data" in out and ("--learning-rate" in out) is (name == "train"), words


# --- train, then evaluate ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_of_a_training(model, trained, data, tmp_path):
    finished = trained(model)
    done = run(ROOT / model / "eval.py", "--run", finished, "--json", "new/report.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert report["model"] == model and report["gallery"]["images"] > 0
    assert f"rSum {report['rsum']:.1f}" in done.stdout
    assert "in test 0.0% of the words are unknown" in done.stdout
    assert len(metrics(finished)) == EPOCHS
    assert (finished / "ranks-test.parquet").is_file()


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_a_copied_run_needs_neither_caches_nor_pretrained_weights(model, trained, data, tmp_path, monkeypatch):
    finished = trained(model)
    copied, moved = tmp_path / "copied", tmp_path / "moved" / data.name
    shutil.copytree(finished, copied)
    shutil.copytree(data.parent, moved.parent)
    expected = evaluate(monkeypatch, finished, model=model)
    remove_caches(data)
    real_build = common.image_encoders.build_network

    def build_network(name, pretrained):
        assert not pretrained, "the weights are in the run"
        return real_build(name, pretrained)

    monkeypatch.setattr(common.image_encoders, "build_network", build_network)
    monkeypatch.setattr("common.word2vec.word_vectors", lambda *_: pytest.fail("the words' vectors are in the run"))
    found = evaluate(monkeypatch, copied, "--data", moved, model=model)
    remove_caches(moved)
    assert found | {"run": expected["run"]} == expected


def test_a_finished_run_is_not_resumed(finished, tmp_path):
    before = contents(finished)
    done = run(TRAIN, "--output", finished, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "this run is finished" in done.stdout
    assert contents(finished) == before


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_by_a_signal_and_resumed_equals_uninterrupted(number, finished, data, tmp_path):
    output = tmp_path / "run"
    with start(TRAIN, *arguments(data, output, epochs=EPOCHS), cwd=tmp_path) as process:
        for line in process.stdout:
            if line.startswith("epoch 1:"):
                process.send_signal(number)
                break
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"stopped: interrupted; the state is saved, go on with --resume ({output})"
    assert (output / "training_state.pt").is_file() and len(metrics(output)) == 1
    done = run(TRAIN, "--output", output, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(output, finished)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["deep_cmpl", "siamese"])
def test_a_run_killed_before_its_first_state_starts_over(model, trained, data, tmp_path):
    """Bit for bit as the first time, in another process: the words' vectors and the features are computed again."""
    finished, output = trained(model), tmp_path / "run"
    output.mkdir()
    for name in ("config.json", "vocabulary.json", "train_products.json"):
        (output / name).write_bytes((finished / name).read_bytes())
    remove_caches(data)
    done = run(ROOT / model / "train.py", "--output", output, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no saved state there, starting over" in done.stdout
    assert_same_run(output, finished)


# --- mistakes ------------------------------------------------------------------------------------------


def assert_one_message(done, *parts):
    """Exit code 2, and all that is said of the mistake is one message."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("error: ") == 1
    message = done.stderr[done.stderr.index("error: ") :]
    assert all(str(part) in message for part in parts), message


@pytest.fixture
def folder(tmp_path):
    """Where a user stands, with things of their own."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "thesis.txt").write_text("mine")
    (tmp_path / "uncaptioned.csv").write_text("id,image\n1,photos/1.jpg\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def training_words(words, data):
    """The command line of a mistake, on the tiny catalogue and in a new folder unless it says otherwise."""
    defaults = [] if "--data" in words or "--resume" in words else ["--data", data]
    return [*defaults, *([] if "--output" in words else ["--output", "new"]), *words]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--data", "photos"], ["photos: not a catalogue; expected a folder with styles.csv"]),
        pytest.param(
            ["--output", "photos", "--overwrite"],
            ["photos: not a run", "--overwrite will not delete it"],
            marks=pytest.mark.slow,
        ),
        (["--output", "nothing", "--resume"], ["nothing: no run there", "deep_cmpl/train.py"]),
    ],
)
def test_a_mistake_in_a_process(words, parts, folder, data):
    before = contents(folder)
    assert_one_message(run(TRAIN, *training_words(words, data), cwd=folder), *parts)
    assert contents(folder) == before and not (folder / "new").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--data", "nowhere"], ["nowhere: no such file or folder"]),
        (["--data", "uncaptioned.csv"], ["uncaptioned.csv", "caption", "['id', 'image']", "--caption-column"]),
        (["--epochs", "0"], ["--epochs = 0: expected a number from 1 up"]),
        (["--image-size", "4", "60"], ["--image-size = 4: expected a number from 8 up"]),
        (
            ["--cmpc-column", "brand", "--text-encoder", "bert", "--text-weights", "none"],
            ["--cmpc-column brand: no such column in", "the nearest is", "there are: product, "],
        ),
        (["--output", "photos"], ["photos: not empty", "--resume", "--overwrite", "--output"]),
        (["--output", "uncaptioned.csv"], ["uncaptioned.csv: a file is in the way"]),
        (["--output", "photos", "--resume"], ["photos: no run there"]),
        (["--device", "tpu"], ["--device tpu: expected auto, cpu, cuda or cuda:N"]),
        (["--data=~nobody-at-all/shop.csv"], ["a path begins with ~ and a name that has no home folder here"]),
        (
            ["--image-encoder", "mobilenet-v1", "--image-weights", "imagenet"],
            ["mobilenet-v1", "image_weights = 'none'", "efficientnet-lite0"],
        ),
        (["--image-weights", "lost.pth"], ["image_weights = 'lost.pth': no such file"]),
        (["--text-encoder", "bert", "--text-weights", "/lost"], ["text_weights = '/lost': no tokenizer there"]),
    ],
)
def test_a_mistake_in_training_ends_in_one_message(words, parts, folder, data, capsys):
    before = contents(folder)
    size = [] if "--image-size" in words else ["--image-size", "32", "24"]
    done = run_here(script("deep_cmpl", "train"), *training_words(words, data), *size, cwd=folder, capsys=capsys)
    assert_one_message(done, *parts)
    assert contents(folder) == before and not (folder / "new").exists()


def said_by(main: str, after: str = "") -> subprocess.CompletedProcess:
    """What a script with this body says, to a shell that goes on with its output."""
    body = f"from common.errors import run_script\ndef main():\n    {main}\nrun_script(main)"
    words = f"{shlex.quote(sys.executable)} -c {shlex.quote(body)} {after}"
    return subprocess.run(
        words, shell=True, cwd=ROOT, capture_output=True, text=True, env={"PYTHONIOENCODING": "ascii"}
    )


@pytest.mark.parametrize("lines", [3, 300, 10**6])
def test_a_reader_that_has_read_enough_gets_no_traceback(lines):
    done = said_by(f"for _ in range({lines}): print('a line of letters')", "| true")
    assert (done.stdout, done.stderr) == ("", "")


def test_another_pipe_that_breaks_is_no_matter_of_the_reader():
    assert "BrokenPipeError" in said_by("raise BrokenPipeError(32, 'of a worker')").stderr


def test_letters_that_a_terminal_lacks_end_nothing():
    assert said_by("print('kurta \\u0915')").stdout == "kurta \\u0915\n"


def test_a_network_larger_than_the_machine_is_told_in_words():
    done = said_by("raise RuntimeError('[enforce fail] DefaultCPUAllocator: can\\'t allocate memory: you tried')")
    assert done.returncode == 1 and done.stderr.startswith("stopped: this machine has too little memory; use smaller")


@pytest.mark.parametrize(
    ("script", "words", "parts"),
    [
        (TRAIN, ["--learning-rte", "1"], ["--learning-rte", "--learning-rate"]),
        (TRAIN, ["--epochs", "many"], ["--epochs", "many"]),
        (TRAIN, ["--divergence", "backward"], ["--divergence", "forward", "reverse", "sum"]),
        (EVAL, ["--split", "tests"], ["--split", "test"]),
        (EVAL, ["--epochs", "3"], ["--epochs"]),
    ],
)
def test_an_option_that_does_not_exist_or_has_no_such_value(script, words, parts, folder):
    done = run(script, *words, cwd=folder)
    assert done.returncode == 2 and done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize(
    ("model", "words", "parts"),
    [
        ("siamese", "--negatives easiest", ["--negatives", "all", "hardest", "random"]),
        ("siamese", "--text-encoder bilstm", ["--text-encoder", "word2vec", "bert"]),
        ("siamese", "--image-size 80", ["--image-size"]),
        ("siamese", "--divergence forward", ["--divergence"]),
        ("correlational", "--network wide", ["--network", "deep", "shallow"]),
        ("correlational", "--hidden-dims 300", ["--hidden-dims"]),
        ("correlational", "--finetune", ["--finetune"]),
    ],
)
def test_an_option_that_another_model_has(model, words, parts, folder, capsys):
    done = run_here(script(model, "train"), *words.split(), cwd=folder, capsys=capsys)
    assert done.returncode == 2 and done.stdout == ""
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.parametrize(
    ("model", "words", "parts"),
    [
        ("siamese", "--margin -1", ["--margin = -1.0: expected a number from 0 to 2"]),
        ("siamese", "--dropout 1.5", ["--dropout = 1.5: expected a number from 0 to 1"]),
        ("siamese", "--word-window 0", ["--word-window = 0: expected a number from 1 up"]),
        ("siamese", "--batch-size 1", ["--batch-size = 1: expected a number from 2 up"]),
        ("siamese", "--image-encoder mobilenet-v1 --image-weights imagenet", ["mobilenet-v1", "efficientnet-lite0"]),
        ("siamese", "--text-encoder bert --text-weights /lost", ["text_weights = '/lost': no tokenizer there"]),
        ("siamese", "--output nothing --resume", ["nothing: no run there", "siamese/train.py"]),
        ("correlational", "--code-dim 0", ["--code-dim = 0: expected a number from 1 up"]),
        ("correlational", "--hidden-dims 0 5", ["--hidden-dims = 0: expected a number from 1 up"]),
        ("correlational", "--correlation-weight -1", ["--correlation-weight = -1.0: expected a number from 0 up"]),
        ("correlational", "--output nothing --resume", ["nothing: no run there", "correlational/train.py"]),
    ],
)
def test_a_mistake_in_training_another_model(model, words, parts, folder, data, capsys):
    before, words = contents(folder), training_words(words.split(), data)
    done = run_here(script(model, "train"), *words, "--image-size", "32", "24", cwd=folder, capsys=capsys)
    assert_one_message(done, *parts)
    assert contents(folder) == before and not (folder / "new").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--run", "nothing"], ["nothing: no run there", "train one first with deep_cmpl/train.py"]),
        (["--data", "nowhere"], ["nowhere: no such file or folder"]),
        (["--relevance", "nowhere.json"], ["--relevance nowhere.json: cannot be read"]),
        (["--json", "uncaptioned.csv/x.json"], ["--json uncaptioned.csv/x.json: cannot be written there"]),
    ],
)
def test_a_mistake_in_evaluation_ends_in_one_message(words, parts, folder, finished, capsys):
    before = contents(folder)
    defaults = [] if "--run" in words else ["--run", finished]
    assert_one_message(run_here(script("deep_cmpl", "eval"), *defaults, *words, cwd=folder, capsys=capsys), *parts)
    assert contents(folder) == before


@pytest.fixture
def old_run(finished, folder):
    """A run that a user started, and left a note in."""
    output = folder / "run"
    output.mkdir()
    for name in ("config.json", "training_state.pt"):
        (output / name).write_bytes((finished / name).read_bytes())
    (output / "notes.txt").write_text("mine")
    return output


def test_resume_and_overwrite_contradict_each_other(old_run, folder, capsys):
    before = contents(folder)
    words = ["--output", "run", "--resume", "--overwrite"]
    assert_one_message(run_here(script("deep_cmpl", "train"), *words, cwd=folder, capsys=capsys), "give one of the two")
    assert contents(folder) == before


@pytest.mark.parametrize("model", MODELS)
def test_overwrite_replaces_a_run_of_any_model(model, old_run, folder, data, monkeypatch):
    train(monkeypatch, data, old_run, "--overwrite", model=model, epochs=1)
    assert len(metrics(old_run)) == 1
    assert json.loads((old_run / "config.json").read_text())["model"] == model


def test_a_run_of_another_model_is_not_resumed(old_run, folder, capsys):
    before = contents(folder)
    done = run_here(script("siamese", "train"), "--output", "run", "--resume", cwd=folder, capsys=capsys)
    assert_one_message(done, "a run of deep_cmpl, not of siamese")
    assert contents(folder) == before


def test_overwrite_spares_what_a_user_put_into_a_run(old_run, data, monkeypatch):
    train(monkeypatch, data, old_run, "--overwrite", epochs=1)
    assert (old_run / "notes.txt").is_file()


def test_a_mistake_with_overwrite_deletes_nothing(old_run, folder, capsys):
    before = contents(folder)
    words = ["--output", "run", "--overwrite", "--data", "nowhere"]
    assert_one_message(run_here(script("deep_cmpl", "train"), *words, cwd=folder, capsys=capsys), "nowhere")
    assert contents(folder) == before


@pytest.mark.parametrize("config", ['{"theme": "dark"}', "not json", '{"model": "gpt2"}'])
def test_overwrite_spares_a_folder_whose_config_is_of_something_else(config, folder, data, monkeypatch):
    """Many programs write a config.json."""
    (folder / "photos" / "config.json").write_text(config)
    before = contents(folder)
    with pytest.raises(InputError, match="photos: not a run"):
        train(monkeypatch, data, folder / "photos", "--overwrite", epochs=1)
    assert contents(folder) == before

"""benchmarks/repeat.py: the arithmetic by hand, one message for a contradiction, and nothing trained twice."""

import importlib
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from tiny_runs import arguments, metrics, remove_caches, use_patches

import common.training
from benchmarks import repeat
from common.errors import InputError, run_script
from common.options import train_command_line
from siamese.train import Hyperparameters

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds
EVALUATION = {".json", ".parquet"}
"""What eval.py and repeat.py write beside the runs, and into them, is of these kinds."""


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_catalogue):
    path = tiny_catalogue(tmp_path_factory.mktemp("catalogue"), products=60)
    yield path
    remove_caches(path)


def result(value="", seed=0, recall=10.0, rsum=100.0, seconds=60.0):
    """What eval.py reports, each recall `recall` plus its cutoff, and one more from texts to images."""
    directions = {
        direction: {f"R@{cutoff}": recall + cutoff + more for cutoff in (1, 5, 10)}
        for more, direction in enumerate(("image_to_text", "text_to_image"))
    }
    gallery = {"images": 1234, "texts": 1100, "products": 1200}
    return {"value": value, "seed": seed, "gallery": gallery, **directions, "rsum": rsum, "seconds": seconds}


# --- the aggregate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 4.0], "2.33 ± 1.53"),  # sqrt((16 + 1 + 25) / 9 / 2) = 1.5275; over n it would be 1.25
        ([10.0, 20.0], "15.00 ± 7.07"),  # sqrt(25 + 25)
        ([3.0, 3.0, 3.0], "3.00 ± 0.00"),
        ([12.345], "12.35"),
        ([0.0], "0.00"),
    ],
)
def test_mean_and_standard_deviation_by_hand(values, expected):
    assert repeat.mean_and_spread(values) == expected


def table(told: str) -> list[str]:
    """The lines of the aggregate in all that was printed."""
    lines = told.splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(r"siamese, (test|val) split: ", line))
    return lines[start:]


def cells(line: str) -> list[str]:
    return re.findall(r"\S+(?: (?:±|->) \S+)*", line)


def test_the_table_of_three_seeds_by_hand():
    """Recalls 10, 20, 33 and what is added to them; rSum 100, 101, 108; 1, 2 and 6 minutes."""
    results = [
        result("", 0, 10, 100, 60), result("", 3, 20, 101, 120), result("", 7, 33, 108, 360)
    ]  # fmt: skip
    told = repeat.describe(results, repeat.Options("siamese", seeds=(0, 3, 7)), "").splitlines()
    assert told[0] == (
        "siamese, test split: 1,234 images, 1,100 distinct captions; seeds 0, 3, 7, mean ± standard deviation (n - 1)"
    )
    assert cells(told[1]) == ["image -> text", "text -> image"]
    assert told[2].split() == ["R@1", "R@5", "R@10"] * 2 + ["rSum", "minutes"]
    # mean 21 and deviation sqrt((121 + 1 + 144) / 2) = 11.53; rSum: sqrt((9 + 4 + 25) / 2) = 4.36
    spreads = [f"{21 + cutoff + more}.00 ± 11.53" for more in (0, 1) for cutoff in (1, 5, 10)]
    assert cells(told[3]) == [*spreads, "103.00 ± 4.36", "3.0"]
    assert len(told) == 4


def test_the_table_of_one_seed_has_no_spread():
    told = repeat.describe([result(seed=5)], repeat.Options("correlational", seeds=(5,), split="val"), "").splitlines()
    assert told[0] == "correlational, val split: 1,234 images, 1,100 distinct captions; seed 5, no spread from one seed"
    assert cells(told[3]) == ["11.00", "15.00", "20.00", "12.00", "16.00", "21.00", "100.00", "1.0"]
    assert "±" not in "".join(told)


def test_the_table_has_a_line_a_value_in_the_order_given():
    results = [result(value, seed, recall) for value, recall in (("large", 10), ("all", 30)) for seed in (0, 1)]
    told = repeat.describe(results, repeat.Options("siamese", seeds=(0, 1)), "negatives").splitlines()
    assert cells(told[1])[0] == "negatives"
    assert [cells(line)[:2] for line in told[3:]] == [["large", "11.00 ± 0.00"], ["all", "31.00 ± 0.00"]]


def test_columns_stand_under_their_heads():
    results = [result("a value that is longer than its name", seed, 10.0 * seed) for seed in (0, 1)]
    told = repeat.describe(results, repeat.Options("siamese", seeds=(0, 1)), "margin").splitlines()
    ends = [[match.end() for match in re.finditer(pattern, line)]
            for pattern, line in ((r"\S+", told[2]), (r"\S+(?: ± \S+)?(?= {2}|$)", told[3][38:]))]  # fmt: skip
    assert ends[0] == [38 + end for end in ends[1]]


# --- options -------------------------------------------------------------------------------------------


def config_of(*words) -> dict:
    """What a training with these options leaves in config.json, as far as it is read again."""
    with pytest.MonkeyPatch.context() as typed:
        typed.setattr(sys, "argv", ["train.py", *map(str, words)])
        _, settings = train_command_line("siamese", Hyperparameters)
    data = {"fingerprint": "", "options": {}}
    return {"model": "siamese", "hyperparameters": asdict(settings), "precision": "float32", "data": data,
            "parameters": {"total": 2, "trained": 1}}  # fmt: skip


def called(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["repeat.py", *map(str, words)])
    repeat.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 0 1 0", "--seeds 0 1 0: expected different seeds, at least one"),
        ("--vary margin", "--vary: expected the name of a hyperparameter and its different values"),
        ("--vary margin 0.5 0.5", "--vary: expected the name of a hyperparameter and its different values"),
        ("--seeds 0 --seeds 1", "--seeds is given twice, and only the last would count: name all values after one"),
        ("--vary margin 0.5 1 --picture p.txt", "--picture p.txt: expected the name of a picture"),
        ("--picture p.png", "--picture draws the recall by a hyperparameter: name it with --vary"),
        ("--seed 3", "--seed: set by this script for each training; leave out"),
        ("--resume", "--resume: set by this script for each training; leave out"),
        ("--overwrite --seed=3", "--overwrite, --seed: set by this script for each training; leave out"),
        ("--vary margin 0.5 0.7 --margin 0.6", "--margin: set by this script for each training; leave out"),
        ("--vary word_dim 5 7 --word-dim 6", "--word-dim: set by this script for each training; leave out"),
        ("--vary word_dim 5 7 --word_dim 6", "--word-dim: set by this script for each training; leave out"),
        ("--vary seed 1 2", "seed"),
        ("--vary output a b", "output"),
        ("--vary margin 0.3 9", "--margin = 9.0: expected a number from 0 to 2"),
        ("--seeds 0 -1", "--seed = -1: expected"),
        ("--epochs 0", "--epochs = 0: expected"),
        ("--record A", "--record A: expected small letters, digits, dots, dashes, as in siamese-0"),
        ("--vary flip true off", "--vary flip off: an on/off setting, whose values are true and false"),
        ("--vary flip true false --no-flip", "--no-flip: set by this script for each training; leave out"),
    ],
)
def test_a_contradiction_ends_in_one_message_before_anything_is_trained(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(repeat, "script", lambda *_: pytest.fail("started"))
    monkeypatch.setattr(sys, "argv", ["repeat.py", "siamese", *words.split(), "--output", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as left:
        run_script(repeat.main)
    told = capsys.readouterr()
    assert left.value.code == 2 and told.out == ""
    assert told.err.startswith("error: ") and message in told.err and told.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    ["", "vgg", "siamese --seeds one", "siamese --split train", "siamese --vary margni 0.3 0.5", "siamese --epochs two",
     "siamese --vary negatives all some"],
)  # fmt: skip
def test_an_option_that_has_no_such_value(words, monkeypatch, capsys):
    monkeypatch.setattr(repeat, "script", lambda *_: pytest.fail("started"))
    with pytest.raises(SystemExit) as left:
        called(monkeypatch, *words.split())
    told = capsys.readouterr()
    assert left.value.code == 2 and told.out == "" and told.err


def test_what_is_started(tmp_path, monkeypatch):
    """A training for every value and seed, then an evaluation of each; what is not ours goes to train.py."""
    started = []

    def script(model, name, *words):
        words = list(words)
        folder = Path(words[words.index("--output" if name == "train" else "--run") + 1])
        started.append((model, name, folder.relative_to(tmp_path), words))
        folder.mkdir(exist_ok=True)
        if name == "train":
            (folder / "config.json").write_text(json.dumps(config_of(*words)))
        (folder / "metrics.jsonl").write_text('{"seconds": 1.5}\n{"seconds": 2.5}\n')
        if name == "eval":
            report = {key: value for key, value in result().items() if key not in ("value", "seed", "seconds")}
            Path(words[words.index("--json") + 1]).write_text(json.dumps(report))

    monkeypatch.setattr(repeat, "script", script)
    called(
        monkeypatch, "siamese", "--seeds", 0, 4, "--vary", "image_size", "32 24", "64 48", "--split", "val",
        "--output", tmp_path, "--device", "cpu", "--data", "a.csv", "--epochs", 2, "--no-flip",
    )  # fmt: skip
    runs = [Path(f"image-size-{size}-seed-{seed}") for size in ("32 24", "64 48") for seed in (0, 4)]
    assert [(model, name, run) for model, name, run, _ in started] == (
        [("siamese", "train", run) for run in runs] + [("siamese", "eval", run) for run in runs]
    )
    assert started[1][3] == [
        "--output", str(tmp_path / runs[1]), "--device", "cpu", "--seed", "4", "--image-size", "32", "24",
        "--data", "a.csv", "--epochs", "2", "--no-flip",
    ]  # fmt: skip
    assert started[4][3] == [
        "--run", str(tmp_path / runs[0]), "--device", "cpu", "--split", "val",
        "--json", str(tmp_path / runs[0] / "report-val.json"),
    ]  # fmt: skip
    written = json.loads((tmp_path / "aggregate-image-size-val.json").read_text())
    assert [(record["value"], record["seed"]) for record in written] == [
        ("32 24", 0), ("32 24", 4), ("64 48", 0), ("64 48", 4)
    ]  # fmt: skip
    assert all(record["seconds"] == 4 and record["parameters"] == {"total": 2, "trained": 1} for record in written)
    assert not any("--resume" in words for *_, words in started)
    started.clear()
    called(monkeypatch, "siamese", "--seeds", 4, 5, "--output", tmp_path, "--vary", "image-size", "64 48")
    resumed = {run.name: words[-1] == "--resume" for _, name, run, words in started if name == "train"}
    assert resumed == {"image-size-64 48-seed-4": True, "image-size-64 48-seed-5": False}


def test_an_on_off_setting_is_varied(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(repeat, "script", lambda model, name, *words: started.append(words))
    monkeypatch.setattr(repeat, "evaluate", lambda *_: result())
    called(monkeypatch, "siamese", "--vary", "flip", "true", "false", "--output", tmp_path, "--epochs", 2)
    assert [words[1:2] + words[6:] for words in started] == [
        (str(tmp_path / "flip-true-seed-0"), "--flip", "--epochs", "2"),
        (str(tmp_path / "flip-false-seed-0"), "--no-flip", "--epochs", "2"),
    ]


def test_a_changed_option_of_a_later_run_is_refused_before_an_earlier_one_trains(tmp_path, monkeypatch):
    run = tmp_path / "seed-1"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config_of("--seed", 1, "--epochs", 7)))
    monkeypatch.setattr(repeat, "script", lambda *_: pytest.fail("started"))
    with pytest.raises(InputError, match=rf"--epochs 8: the run in {run} was started with 7"):
        called(monkeypatch, "siamese", "--seeds", 0, 1, "--output", tmp_path, "--epochs", 8)


@pytest.mark.parametrize("code", [1, 2])
def test_a_training_that_fails_ends_it_with_the_same_code(code, tmp_path, monkeypatch, capfd):
    (tmp_path / "siamese").mkdir()
    (tmp_path / "siamese" / "train.py").write_text(f"import sys; print('error: no', file=sys.stderr); sys.exit({code})")
    monkeypatch.setattr(repeat, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as left:
        called(monkeypatch, "siamese", "--seeds", 0, 1)
    assert left.value.code == code
    told = capfd.readouterr()
    assert told.err == "error: no\n" and told.out.count("$ python siamese/train.py") == 1


# --- in earnest ----------------------------------------------------------------------------------------


def tiny_words(data: Path, **settings) -> list[str]:
    """What goes to train.py for trainings of a second."""
    words = arguments(data, None, "siamese", **settings)
    where = words.index("--device")
    return words[:where] + words[where + 2 :]


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """Two seeds of the Siamese network, in processes as a user starts them."""
    folder = tmp_path_factory.mktemp("repeat")
    command = [
        sys.executable, str(ROOT / "benchmarks" / "repeat.py"), "siamese", "--seeds", "0", "1", "--output", "runs",
        "--device", "cpu", *tiny_words(data, epochs=1),
    ]  # fmt: skip
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    assert process.returncode == 0, process.stderr
    return folder, process.stdout


@pytest.mark.slow
def test_two_seeds_in_processes(done):
    folder, told = done
    results = json.loads((folder / "runs" / "aggregate-test.json").read_text())
    assert [(record["model"], record["value"], record["seed"]) for record in results] == [
        ("siamese", "", 0), ("siamese", "", 1)
    ]  # fmt: skip
    for record in results:
        run = folder / "runs" / f"seed-{record['seed']}"
        config = json.loads((run / "config.json").read_text())
        assert config["hyperparameters"]["seed"] == record["seed"]
        assert record["parameters"] == config["parameters"]
        assert record["seconds"] == sum(epoch["seconds"] for epoch in metrics(run))
        assert record["split"] == "test" and record["gallery"]["images"] > 0
    assert repeat.describe(results, repeat.Options("siamese", seeds=(0, 1)), "") in told
    assert f"all figures: {Path('runs') / 'aggregate-test.json'}" in told
    assert told.index("$ python siamese/train.py") < told.index("image -> text") < told.index("all figures")


@pytest.fixture
def in_this_process(monkeypatch):
    """Let the scripts run here, without the seconds that importing torch takes; gives what ran."""
    started = []

    def script(model, name, *words):
        started.append(name)
        with monkeypatch.context() as typed:
            typed.setattr(sys, "argv", [f"{name}.py", *words])
            try:
                importlib.import_module(f"{model}.{name}").main()
            except SystemExit as left:
                assert not left.code

    monkeypatch.setattr(repeat, "script", script)
    monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)
    return started


def contents(folder: Path) -> dict[Path, bytes]:
    """All that a training leaves in the runs of a folder."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.suffix not in EVALUATION}


@pytest.mark.slow
def test_a_second_call_trains_nothing_again(done, data, monkeypatch, capsys, in_this_process):
    folder, first = done
    before = contents(folder)
    monkeypatch.chdir(folder)
    words = tiny_words(data, epochs=1)
    called(monkeypatch, "siamese", "--seeds", 0, 1, "--output", "runs", "--device", "cpu", *words)
    told = capsys.readouterr().out
    assert in_this_process == ["train", "train", "eval", "eval"]
    assert told.count("this run is finished; nothing to resume") == 2
    assert before and contents(folder) == before
    assert table(told) == table(first)


def test_an_interrupted_training_goes_on(data, tmp_path, monkeypatch, capsys, in_this_process):
    use_patches(monkeypatch)
    words = ["siamese", "--output", tmp_path, "--device", "cpu", *tiny_words(data, epochs=2)]
    real_save, saved = common.training.save, []

    def save(*arguments):
        real_save(*arguments)
        saved.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(common.training, "save", save)
        called(interrupted, *words)
    run = tmp_path / "seed-0"
    assert len(metrics(run)) == len(saved) == 1
    called(monkeypatch, *words)
    assert f"run: {run}, resumed" in capsys.readouterr().out
    assert len(metrics(run)) == 2 and in_this_process == ["train", "train", "eval"]


def test_a_varied_hyperparameter_and_its_picture(data, tmp_path, monkeypatch, capsys, in_this_process):
    use_patches(monkeypatch)
    drawn, real_errorbar = [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *a, **k: drawn.append((a[1:], k["label"])) or real_errorbar(*a, **k))
    called(
        monkeypatch, "siamese", "--seeds", 0, 1, "--vary", "negatives", "random", "all", "--split", "val",
        "--picture", tmp_path / "new" / "negatives.png", "--output", tmp_path / "runs", "--device", "cpu",
        *tiny_words(data, epochs=1),
    )  # fmt: skip
    told = capsys.readouterr().out
    results = json.loads((tmp_path / "runs" / "aggregate-negatives-val.json").read_text())
    assert [(record["value"], record["seed"], record["split"]) for record in results] == [
        ("random", 0, "val"), ("random", 1, "val"), ("all", 0, "val"), ("all", 1, "val")
    ]  # fmt: skip
    for value, seed in (("random", 0), ("random", 1), ("all", 0), ("all", 1)):
        config = json.loads((tmp_path / "runs" / f"negatives-{value}-seed-{seed}" / "config.json").read_text())
        settings = config["hyperparameters"]
        assert (settings["negatives"], settings["seed"], settings["epochs"]) == (value, seed, 1)
    assert [line.split()[0] for line in table(told)[3:5]] == ["random", "all"]
    picture = (tmp_path / "new" / "negatives.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert f"picture: {tmp_path / 'new' / 'negatives.png'}" in told
    for (values, means, spreads), label in drawn[:-1]:
        assert values == ["random", "all"]
        direction = {"image -> text": "image_to_text", "text -> image": "text_to_image"}[label.rsplit(" ", 1)[0]]
        recalls = np.reshape([record[direction][label.split()[-1]] for record in results], (2, 2))
        assert means == pytest.approx(recalls.mean(1))
        assert spreads == pytest.approx(recalls.std(1, ddof=1))
    assert {label for _, label in drawn[:-1]} == {
        f"{words} {cutoff}" for words in ("image -> text", "text -> image") for cutoff in ("R@1", "R@10")
    }
    (_, means, spreads), label = drawn[-1]
    assert label == "mean of the six recalls"
    sixths = np.reshape([record["rsum"] / 6 for record in results], (2, 2))
    assert means == pytest.approx(sixths.mean(1)) and spreads == pytest.approx(sixths.std(1, ddof=1))


def test_the_picture_of_one_seed_has_no_bars(tmp_path, monkeypatch):
    drawn, real_errorbar = [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda *a, **k: drawn.append(a[1:]) or real_errorbar(*a, **k))
    results = [result("a", 0, 10, rsum=90.0), result("b", 0, 30, rsum=210.0)]
    repeat.draw(results, "margin", repeat.Options("siamese", picture=tmp_path / "one.png"))
    # R@10 and R@1 from images to texts, then from texts to images, then all six
    assert [means for _, means, _ in drawn] == [[20, 40], [11, 31], [21, 41], [12, 32], [15, 35]]
    assert all(spreads is None for _, _, spreads in drawn)

"""common/report/ledger.py and assets/write_results.py: from eval.py --record to the README's table and chart."""

import copy
import json
import shlex
import statistics

import pytest
from tiny_runs import evaluate, train, use_patches

from assets import write_results
from common.errors import InputError
from common.hashing import digest
from common.hyperparameters import read_block
from common.options import ROOT
from common.report import ledger

DIRECTIONS = ("image_to_text", "text_to_image")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        return train(monkeypatch, data, tmp_path_factory.mktemp("ledger") / "run", epochs=2, seed=3)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A ledger of its own."""
    use_patches(monkeypatch)
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "results")
    return tmp_path / "results"


# --- recording ----------------------------------------------------------------------------------------------


def test_a_record_holds_the_report_and_what_it_rests_on(run, folder, monkeypatch, capsys):
    report = evaluate(monkeypatch, run, "--record", "tiny-3")
    assert f"recorded: {folder / 'tiny-3.json'}" in capsys.readouterr().out
    text = (folder / "tiny-3.json").read_text()
    found = json.loads(text)
    config = json.loads((run / "config.json").read_text())
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert found["report"] == {key: value for key, value in report.items() if key != "run"}
    assert found["catalogue"] == {"name": "tiny.csv", "fingerprint": config["data"]["fingerprint"]}
    assert found["hyperparameters"] == config["hyperparameters"] and found["parameters"] == config["parameters"]
    assert found["training"]["epochs"] == 2
    assert found["training"]["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in epochs))
    assert found["training"]["validation_rsum"] == max(epoch["val"]["rsum"] for epoch in epochs)
    words = found["command"].split()
    assert words[:4] == ["python", "deep_cmpl/train.py", "--data", "tiny.csv"]
    assert "--seed 3" in found["command"] and "--epochs 2" in found["command"] and "--patience" not in words
    assert str(run) not in text and str(run.parent) not in text, "no path of this machine"


def test_the_command_names_the_columns_and_can_be_typed(run):
    config = json.loads((run / "config.json").read_text())
    config["data"]["options"] |= {"caption_column": "product title", "image_root": "/here"}
    config["hyperparameters"] |= {"cmpc_column": "article type"}
    block = read_block(ROOT / "deep_cmpl" / "README.md")
    words = shlex.split(ledger.command(config, "shop.csv", block))
    assert words[:6] == ["python", "deep_cmpl/train.py", "--data", "shop.csv", "--caption-column", "product title"]
    assert words[words.index("--cmpc-column") + 1] == "article type" and "/here" not in words


def test_the_same_figures_again_are_fine_others_are_not_overwritten(run, folder, monkeypatch):
    evaluate(monkeypatch, run, "--record", "tiny")
    before = (folder / "tiny.json").read_text()
    evaluate(monkeypatch, run, "--record", "tiny")
    assert (folder / "tiny.json").read_text() == before
    (folder / "tiny.json").write_text("mine")
    with pytest.raises(InputError, match=r"--record tiny: .*tiny\.json holds other figures; delete it first"):
        evaluate(monkeypatch, run, "--record", "tiny")
    assert (folder / "tiny.json").read_text() == "mine"


def test_what_json_writes_in_another_way_is_the_same_figure(run, folder):
    config = json.loads((run / "config.json").read_text())
    report = {"model": "deep_cmpl", "catalogue": "tiny.csv", "items": {3: 1.0}, "interval": (1.0, 2.0)}
    for _ in range(2):
        ledger.record("tiny", report, run, config, "f")
    with pytest.raises(InputError, match="holds other figures"):
        ledger.record("tiny", report | {"items": {2: 1.0}}, run, config, "f")


@pytest.mark.parametrize("name", ["../tiny", "Tiny", "a/b", "", ".hidden", "two words"])
def test_names_that_make_no_good_file_are_refused(name, run, folder, monkeypatch):
    with pytest.raises(InputError, match=r"--record .*: expected small letters, digits"):
        evaluate(monkeypatch, run, "--record", name)
    assert not folder.exists()


def test_only_the_test_split_is_recorded(run, folder, monkeypatch):
    with pytest.raises(InputError, match="--record x: the ledger is for the test split, not for val"):
        evaluate(monkeypatch, run, "--record", "x", "--split", "val")


def test_a_file_that_is_no_record_is_named(folder):
    folder.mkdir()
    (folder / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"broken\.json: not a record"):
        ledger.read_ledger(folder)


# --- the table and the chart ----------------------------------------------------------------------------------


def record(model: str = "siamese", seed: int = 0, recall: float = 10.0, products: int = 50, **settings) -> dict:
    """A record whose recalls are all the same, with intervals of one point to either side."""
    figures = {f"R@{k}": recall for k in (1, 5, 10)}
    bounds = {name: [recall - 1, recall + 1] for name in figures}
    return {
        "report": {
            "model": model,
            "gallery": {"images": products, "texts": 40, "products": products},
            **dict.fromkeys(DIRECTIONS, figures),
            "rsum": 6 * recall,
            "interval": {**dict.fromkeys(DIRECTIONS, bounds), "rsum": [6 * recall - 6, 6 * recall + 6]},
            "chance": {direction: {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0} for direction in DIRECTIONS},
        },
        "catalogue": {"name": "shop.csv", "fingerprint": f"f{products}"},
        "hyperparameters": {
            "image_encoder": "efficientnet-lite0",
            "image_weights": "imagenet",
            "image_size": [80, 60],
            "batch_size": 64,
            "seed": seed,
            **({"freeze_image_encoder": False} if model == "deep_cmpl" else {"finetune": False}),
            **settings,
        },
        "training": {"epochs": 5, "seconds": 120.0},
        "parameters": {"total": 2_000_000, "trained": 1_000_000},
        "hardware": {"device": "CPU, 2 threads", "cores": 2},
        "versions": {"torch": "2.14.1+cu130"},
    }


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_seeds_are_one_row_with_mean_and_spread():
    found = rows(write_results.section([record(seed=0, recall=10.0), record(seed=1, recall=13.0)]))
    assert len(found) == 4  # header, rule, one system, chance
    name, image_to_text, text_to_image, rsum, parameters, device, training = found[2]
    assert (
        name == "[Siamese network, frozen efficientnet-lite0 at 80x60](siamese/README.md#commands-and-what-they-give)"
    )
    assert image_to_text == text_to_image == " / ".join(["11.5 ± 2.1"] * 3)
    assert statistics.stdev([10, 13]) == pytest.approx(2.1, abs=0.05)
    assert rsum == f"69.0 ± {statistics.stdev([60, 78]):.1f} (63.0 to 75.0)"
    assert (parameters, device, training) == ("2.0 M (1.0 M)", "CPU", "5 epochs, batch 64, 2 min, 2 seeds")
    assert found[3][:4] == ["chance", "1.00 / 2.00 / 3.00", "1.00 / 2.00 / 3.00", "12.0"]


def test_other_settings_and_models_are_rows_of_their_own_best_first():
    records = [
        record("deep_cmpl", recall=30),
        record(recall=20),
        record(recall=15, margin=1.0),
        record("deep_cmpl", recall=5, image_encoder="mobilenet-v1", image_weights="none", image_size=[224, 224]),
        record("deep_cmpl", recall=4, divergence="forward", scale="paper"),
        record("deep_cmpl", recall=3, divergence="forward", scale="learned"),
        record("deep_cmpl", recall=2, freeze_image_encoder=True),
        record(recall=1, finetune=True),
    ]
    records[0]["parameters"] = {"total": 2_000_000, "trained": 2_000_000}
    found = rows(write_results.section(records))[2:-1]
    assert [row[0].split("]")[0].strip("[") for row in found] == [
        "modified Deep CMPL, efficientnet-lite0 at 80x60",
        "Siamese network, frozen efficientnet-lite0 at 80x60",
        "Siamese network, frozen efficientnet-lite0 at 80x60",
        "Deep CMPL, mobilenet-v1 from scratch at 224x224",
        "modified Deep CMPL with the paper's loss, efficientnet-lite0 at 80x60",
        "modified Deep CMPL, efficientnet-lite0 at 80x60",
        "modified Deep CMPL, frozen efficientnet-lite0 at 80x60",
        "Siamese network, efficientnet-lite0 at 80x60",
    ]
    assert [row[3].split()[0] for row in found] == ["180.0", "120.0", "90.0", "30.0", "24.0", "18.0", "12.0", "6.0"]
    assert found[0][4] == "2.0 M (all)"


def test_every_gallery_has_its_table_and_its_chart():
    text = write_results.section([record(products=50), record(products=400)])
    assert text.index("400 products") < text.index("(assets/results.png)") < text.index("50 products, 50 images")
    assert "(assets/results-2.png)" in text


def test_every_device_has_its_row():
    on_a_gpu = record()  # the same seed
    on_a_gpu["hardware"] = {"device": "NVIDIA H100 (cuda:0)", "cores": 16}
    on_a_gpu["training"] = {"epochs": 5, "seconds": 22.4, "images_per_second": 6490.4, "peak_memory_gb": 7.05}
    text = write_results.section([record(), on_a_gpu])
    assert text.count("| chance |") == 1
    assert "CPU, 2 threads, 2 cores, torch 2.14.1; NVIDIA H100 (cuda:0), 16 cores, torch 2.14.1." in text
    assert "| NVIDIA H100 | 5 epochs, batch 64, 22 s, 6,490 images/s, 7.0 GB, 1 seed |" in text
    assert "| CPU | 5 epochs, batch 64, 2 min, 1 seed |" in text
    on_a_gpu["training"]["share_of_bare_speed"] = 0.9449
    assert "7.0 GB, 94% of the bare speed, 1 seed |" in write_results.section([on_a_gpu])
    other_seed = copy.deepcopy(on_a_gpu)
    other_seed["hyperparameters"]["seed"] = 7
    other_seed["hardware"]["device"] = "NVIDIA H100 (cuda:1)"  # another one like it
    del other_seed["training"]["share_of_bare_speed"]
    assert "7.0 GB, 94% of the bare speed, 2 seeds |" in write_results.section([on_a_gpu, other_seed])


def test_the_script_replaces_its_part_of_the_readme_and_nothing_else(folder, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    before, after = "# Title\n\nwords\n", "\n\nmore words\n"
    readme.write_text(f"{before}{write_results.BEGIN}\nold\n{write_results.END}{after}")
    (tmp_path / "assets").mkdir()
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(record()))
    monkeypatch.setattr(write_results, "README", readme)
    monkeypatch.setattr(write_results, "ROOT", tmp_path)
    monkeypatch.setattr(write_results, "read_ledger", lambda: ledger.read_ledger(folder))
    write_results.main()
    assert readme.read_text() == before + write_results.section([record()]) + after
    assert write_results.drawn_from(tmp_path / "assets" / "results.png") == digest([record()])
    write_results.main()
    assert readme.read_text() == before + write_results.section([record()]) + after
    readme.write_text("no marks")
    with pytest.raises(InputError, match="expected the lines"):
        write_results.main()


def test_a_training_that_is_recorded_twice_is_refused():
    with pytest.raises(InputError, match=r"recorded twice with one seed \(seeds \[4, 4\]\)"):
        write_results.section([record(seed=4), record(seed=4)])


def test_any_other_figure_gives_another_section():
    changed = copy.deepcopy(record())
    changed["report"]["rsum"] += 0.1
    assert write_results.section([changed]) != write_results.section([record()])
    assert digest([changed]) != digest([record()])


def test_the_readme_and_its_charts_are_those_of_the_ledger():
    records = ledger.read_ledger()
    assert records, "the ledger is empty"
    assert write_results.section(records) in write_results.README.read_text(encoding="utf-8"), (
        "README.md differs from assets/results/: run python assets/write_results.py"
    )
    for same, chart in write_results.galleries(records):
        assert write_results.drawn_from(chart) == digest(same), f"{chart} is not drawn from assets/results/"

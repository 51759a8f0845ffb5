"""benchmarks/training_speed.py: what it measures is what train.py would train, on every side."""

import json
import re
from contextlib import contextmanager

import pytest
import torch
from tiny_runs import MODELS, Patches, arguments, evaluate, run_main, train, use_patches

import common.report.ledger
from benchmarks import training_speed
from common.errors import InputError

LINES = ("loop_images_per_second", "bare_images_per_second", "embedding_ratio", "ratio")
ON_IMAGES = ("ordinary_images_per_second", "factor_over_ordinary")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    use_patches(monkeypatch)
    monkeypatch.setattr(training_speed, "WORKERS", 1)
    monkeypatch.setattr(training_speed, "EMBEDDED_AT_ONCE", 8)


def measure(monkeypatch, data, *words, model="deep_cmpl", **settings) -> int:
    """Run the benchmark with the tiny settings; its exit status."""
    given = [model, "--steps", "1", "--repeats", "2", *words, *arguments(data, model=model, **settings)]
    with pytest.raises(SystemExit) as ended:
        run_main(training_speed.main, monkeypatch, *given)
    return ended.value.code


def printed(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(\w+): ([\d.]+)$", text, re.M)}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_measured(model, data, monkeypatch, capsys):
    measure(monkeypatch, data, "--repeats", "1", model=model)
    found = printed(capsys.readouterr().out)
    assert set(found) == {*LINES, *(ON_IMAGES if model == "deep_cmpl" else ())}
    loop, bare = (found[f"{side}_images_per_second"] for side in ("loop", "bare"))
    printed_to = 0.05 / min(loop, bare) + 0.0005 / found["ratio"]  # of the speeds, one decimal; of the ratio, three
    assert found["ratio"] == pytest.approx(loop / bare, rel=2 * printed_to)


@pytest.mark.parametrize(("lowest", "status"), [(0.0, 0), (1000.0, 1)])
def test_a_ratio_below_the_lowest_fails(lowest, status, data, monkeypatch):
    monkeypatch.setattr(training_speed, "LOWEST_RATIO", {"cpu": lowest})
    monkeypatch.setattr(training_speed, "LOWEST_EMBEDDING_RATIO", 0.0)
    assert measure(monkeypatch, data, model="siamese") == status


def test_all_sides_train_one_model_and_the_ordinary_one_in_float32(data, monkeypatch):
    trained, real_update = [], training_speed.Sides.update

    def update(sides, batch):
        before = sides.model.image_joint[0].weight.clone()
        real_update(sides, batch)
        changed = not torch.equal(before, sides.model.image_joint[0].weight)
        trained.append((batch.images.dtype, sides.model.precision, changed))

    monkeypatch.setattr(training_speed.Sides, "update", update)
    measure(monkeypatch, data, precision="bfloat16")
    assert set(trained) == {(torch.uint8, torch.bfloat16, True), (torch.uint8, torch.float32, True)}


def test_a_replayed_encoder_is_also_measured_without(data, monkeypatch, capsys):
    calls = {"replayed": 0, "own": 0}

    @contextmanager
    def replayed(model, session):
        encoder = model.image_encoder
        own_forward = encoder.forward

        def counted(images):
            calls["replayed"] += 1
            return own_forward(images)

        encoder.forward = counted
        yield
        encoder.forward = own_forward

    def own(patches, images):
        calls["own"] += 1
        return real_forward(patches, images)

    real_forward = Patches.forward
    monkeypatch.setattr(Patches, "forward", own)
    monkeypatch.setattr(training_speed, "replayed", replayed)
    monkeypatch.setattr(
        training_speed, "timed_in_turn", lambda sides, *_: {side: [1.0] for side in map(run_once, sides)}
    )
    measured = []

    def run_once(side):
        calls.update(replayed=0, own=0)
        side()
        measured.append((side.__name__, calls["replayed"], calls["own"]))
        return side

    measure(monkeypatch, data)
    assert measured[:3] == [("loop", 1, 1), ("bare", 1, 1), ("bare_without_replay", 0, 1)]
    assert {"bare_without_replay_images_per_second", "factor_of_replay"} <= set(printed(capsys.readouterr().out))


def test_a_machine_that_changes_its_speed_changes_both_sides_of_a_turn():
    assert training_speed.median_ratio([1.0, 2.0, 30.0], [1.0, 4.0, 5.0]) == 1.0


def test_more_steps_than_an_epoch_has(data, monkeypatch):
    with pytest.raises(InputError, match=r"--steps 1000: an epoch of this catalogue has \d+; use no more"):
        run_main(training_speed.main, monkeypatch, "siamese", "--steps", "1000", *arguments(data, model="siamese"))


@pytest.mark.parametrize("words", [("--steps", "0"), ("--repeats", "-1")])
def test_no_steps_or_repeats(words, monkeypatch):
    with pytest.raises(InputError, match=r"--steps -?\d+ --repeats -?\d+: expected 1 or more of each"):
        run_main(training_speed.main, monkeypatch, "siamese", *words)


# --- the ledger ----------------------------------------------------------------------------------------


@pytest.fixture
def ledger(monkeypatch, tmp_path):
    monkeypatch.setattr(common.report.ledger, "LEDGER", tmp_path / "results")
    return tmp_path / "results"


def test_the_share_is_kept_with_the_training_that_it_is_of(ledger, data, tmp_path, monkeypatch, capsys):
    run = train(monkeypatch, data, tmp_path / "run", model="siamese")
    evaluate(monkeypatch, run, "--record", "tiny", model="siamese")
    before = json.loads((ledger / "tiny.json").read_text())
    capsys.readouterr()
    measure(monkeypatch, data, "--record", "tiny", model="siamese")
    out = capsys.readouterr().out
    assert f"recorded: {ledger / 'tiny.json'}" in out
    after = json.loads((ledger / "tiny.json").read_text())
    assert after["training"].pop("share_of_bare_speed") == pytest.approx(printed(out)["ratio"], abs=0.001)
    assert after == before
    kept = (ledger / "tiny.json").read_text()
    evaluate(monkeypatch, run, "--record", "tiny", model="siamese")
    assert (ledger / "tiny.json").read_text() == kept


def test_a_record_of_another_training_is_left_as_it_is(ledger, data, tmp_path, monkeypatch):
    run = train(monkeypatch, data, tmp_path / "run", model="siamese")
    evaluate(monkeypatch, run, "--record", "tiny", model="siamese")
    before = (ledger / "tiny.json").read_text()
    with pytest.raises(
        InputError, match=r"--record tiny: .*tiny\.json is of another training \(batch_size 16, here 8\)"
    ):
        run_main(
            training_speed.main, monkeypatch,
            "siamese", "--steps", "1", "--record", "tiny", *arguments(data, model="siamese", batch_size=8),
        )  # fmt: skip
    with pytest.raises(InputError, match=r"--record none: .*none\.json is not there; train with these options"):
        run_main(
            training_speed.main, monkeypatch,
            "siamese", "--steps", "1", "--record", "none", *arguments(data, model="siamese"),
        )  # fmt: skip
    assert (ledger / "tiny.json").read_text() == before
    (ledger / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"--record broken: .*broken\.json is not a record; delete it"):
        run_main(
            training_speed.main, monkeypatch,
            "siamese", "--steps", "1", "--record", "broken", *arguments(data, model="siamese"),
        )  # fmt: skip

"""common/training.py and monitoring.py: what is learned, kept, logged, and exactly how a run goes on."""

import dataclasses
import importlib
import json
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import (
    MODELS,
    TINY,
    Patches,
    assert_same_run,
    metrics,
    remove_caches,
    resume,
    state,
    train,
    use_patches,
    weights,
    without_clock,
)
from torch import nn

import common.monitoring
import common.training
from common.batches import Pairs
from common.errors import InputError, TrainingStopped
from common.monitoring import draw_curves, warnings
from common.optimization import build_optimizer, learning_rate_share
from common.training import MADE_IN_A_ROW, fit, in_rows

LOSSES = {
    "deep_cmpl": ["cmpm"],
    "siamese": ["contrastive"],
    "correlational": ["reconstruction_both", "reconstruction_image", "reconstruction_text", "correlation"],
}


@pytest.fixture(autouse=True)
def patches(monkeypatch):
    use_patches(monkeypatch)
    # drawing takes longer than all else in these trainings
    monkeypatch.setattr(common.monitoring, "draw_curves", lambda *_: None)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """The name of each model in turn."""
    return request.param


@pytest.fixture(scope="module")
def finished(model, data, tmp_path_factory):
    """An uninterrupted run of three epochs, its curves drawn."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_patches(monkeypatch)
        yield train(monkeypatch, data, tmp_path_factory.mktemp("runs") / "finished", model=model)


def watch_session(monkeypatch):
    """The session of the next training, in a list."""
    seen = []

    def watched(model, embed, losses, session, at_chance, rates):
        seen.append(session)
        fit(model, embed, losses, session, at_chance, rates)

    monkeypatch.setattr(common.training, "fit", watched)
    return seen


# --- learning ------------------------------------------------------------------------------------------


def test_the_loss_falls_and_validation_recall_beats_chance(model, data, tmp_path, monkeypatch):
    sessions = watch_session(monkeypatch)
    long_enough = {"epochs": 8} if model == "deep_cmpl" else {"epochs": 20, "batch_size": 8, "word_dim": 16}
    records = metrics(train(monkeypatch, data, tmp_path / "run", model=model, **long_enough))
    gallery = len(sessions[0].val.images)
    assert [record["epoch"] for record in records] == list(range(1, long_enough["epochs"] + 1))
    at_chance = {"deep_cmpl": 2 * math.log(16), "siamese": 0.5**2 / 4, "correlational": 3.0}
    assert records[-1]["loss"] < min(0.6 * records[0]["loss"], at_chance[model])
    chance = 100 * min(1, 1 / gallery), 100 * min(1, 5 / gallery)
    for direction in ("image_to_text", "text_to_image"):
        best = max(records, key=lambda record: record["val"]["rsum"])["val"][direction]
        assert best["R@1"] > 2 * chance[0] and best["R@5"] > 1.2 * chance[1]


def test_a_record_an_epoch(model, finished):
    records = metrics(finished)
    steps = records[0]["steps"]
    for number, record in enumerate(records, 1):
        assert list(record) == [
            "epoch", "steps", "loss", *LOSSES[model], "learning_rate", "images_per_second", "seconds", "peak_memory_gb",
            "val"
        ]  # fmt: skip
        assert (record["epoch"], record["steps"]) == (number, number * steps)
        assert record["loss"] == pytest.approx(sum(record[name] for name in LOSSES[model]))
        assert record["seconds"] > 0
        assert record["images_per_second"] == pytest.approx(16 * steps / record["seconds"])
        directions = {"image_to_text", "text_to_image"}
        assert set(record["val"]) == directions | {"rsum", "R@1_at_chance", "image_spread", "text_spread"}
    assert records[-1]["learning_rate"] == pytest.approx(0, abs=1e-12)


def test_the_run_folder_holds_everything(model, finished, data):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "vocabulary.json", "metrics.jsonl", "curves.png", "training_state.pt",
        "train_products.json", "tensorboard",
    }  # fmt: skip
    config = json.loads((finished / "config.json").read_text())
    assert config["model"] == model and config["precision"] == "float32"
    hyperparameters = importlib.import_module(f"{model}.train").Hyperparameters
    assert config["hyperparameters"].keys() == {field.name for field in dataclasses.fields(hyperparameters)}
    assert config["hyperparameters"]["image_size"] == [32, 24] and config["hyperparameters"]["seed"] == 0
    assert config["data"]["path"] == str(data)
    assert {"fingerprint", "options"} <= config["data"].keys() and {"versions", "hardware"} <= config.keys()
    assert (
        sum(value.numel() for name, value in weights(finished).items() if is_parameter(name))
        == (config["parameters"]["total"])
    )


def is_parameter(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_parameters_are_counted_by_hand(data, tmp_path, monkeypatch, capsys):
    """Towers of two layers from 64 and 8 to 32 to 16, an image encoder of one layer, 20 + 2 vectors of words."""
    towers = (64 * 32 + 32) + (32 * 16 + 16) + (8 * 32 + 32) + (32 * 16 + 16)
    total = towers + (8 * 6 * 3 * 64 + 64) + 22 * 8
    run = train(monkeypatch, data, tmp_path / "run", model="siamese", epochs=1)
    assert json.loads((run / "config.json").read_text())["parameters"] == {"total": total, "trained": towers}
    assert f"model: {total:,} parameters, {towers:,} of them trained" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_run_and_another_seed_another(model, finished, data, tmp_path, monkeypatch):
    assert_same_run(train(monkeypatch, data, tmp_path / "again", model=model), finished)
    other = train(monkeypatch, data, tmp_path / "other", model=model, seed=1)
    assert metrics(other)[0]["loss"] != metrics(finished)[0]["loss"]
    first = {"deep_cmpl": "image_joint.0", "siamese": "image_tower.1", "correlational": "network.image_branch.0.0"}
    name = f"{first[model]}.weight"
    assert not torch.equal(weights(other)[name], weights(finished)[name])


# --- the test split is for eval.py alone ---------------------------------------------------------------


def test_training_never_touches_the_test_split(model, data, tmp_path, monkeypatch):
    """Neither its pixels (or their features), nor its captions: not for the words, not for the choice of an epoch."""
    sessions = watch_session(monkeypatch)
    used = []
    real_take = common.batches.take

    def take(pixels, which):
        used.extend(which.tolist())
        return real_take(pixels, which)

    monkeypatch.setattr("common.batches.take", take)
    monkeypatch.setattr("common.embedding.take", take)
    train(monkeypatch, data, tmp_path / "run", model=model)
    session = sessions[0]
    images = {split: set(session.data.rows(split)["image"]) for split in ("train", "val", "test")}
    assert images["test"] and not images["test"] & set(used)
    assert images["val"] <= set(used) <= images["train"] | images["val"]
    known = set(session.tokenizer.known)
    assert known == {word for caption in session.data.rows("train")["caption"] for word in caption.lower().split()}


def test_a_word_of_the_test_captions_alone_is_unknown(data, tmp_path, monkeypatch):
    lines = data.read_text().splitlines()
    marked = data.with_name("marked.csv")
    with_unique = [f"{line.split(',')[0]},{line.split(',')[1]},unique{n} {line.split(',', 2)[2]}"
                   for n, line in enumerate(lines[1:])]  # fmt: skip
    marked.write_text("\n".join([lines[0], *with_unique]) + "\n")
    sessions = watch_session(monkeypatch)
    run = train(monkeypatch, marked, tmp_path / "run", epochs=1)
    remove_caches(marked)
    unique = {split: {caption.split()[0] for caption in sessions[0].data.rows(split)["caption"]}
              for split in ("train", "val", "test")}  # fmt: skip
    known = set(json.loads((run / "vocabulary.json").read_text())["words"])
    assert unique["train"] <= known and not known & (unique["val"] | unique["test"])


@pytest.mark.parametrize("rsums", [[10, 30, 20], [30, 30, 10], [10, 20, 30]])
def test_the_epoch_with_the_best_validation_is_kept(rsums, data, tmp_path, monkeypatch):
    """The first one of equals."""
    kept, real_validate = [], common.training.validate

    def validate(model, *rest):
        kept.append({key: value.clone() for key, value in model.state_dict().items()})
        return real_validate(model, *rest) | {"rsum": float(rsums[len(kept) - 1])}

    monkeypatch.setattr(common.training, "validate", validate)
    run = train(monkeypatch, data, tmp_path / "run")
    best = rsums.index(max(rsums))
    assert state(run)["progress"]["best_epoch"] == best + 1
    own = weights(run)
    assert all(torch.equal(own[key], value) for key, value in kept[best].items())


def test_patience(data, tmp_path, monkeypatch):
    """Epoch 2 is the best; two epochs later without a better one the training ends."""
    rsums, real_validate = iter([10.0, 30.0, 20.0, 30.0, 40.0]), common.training.validate
    monkeypatch.setattr(common.training, "validate", lambda *a: real_validate(*a) | {"rsum": next(rsums)})
    run = train(monkeypatch, data, tmp_path / "run", epochs=5, patience=2)
    assert [record["val"]["rsum"] for record in metrics(run)] == [10, 30, 20, 30]
    assert state(run)["progress"]["finished"]


# --- going on ------------------------------------------------------------------------------------------


def interrupt_in_step(monkeypatch, step):
    """Send SIGINT to this process at the beginning of that step (from 1, over all epochs)."""
    done, real_step = [], common.training.train_step

    def train_step(*arguments):
        done.append(1)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(*arguments)

    monkeypatch.setattr(common.training, "train_step", train_step)


@pytest.mark.parametrize("where", ["first step", "middle of epoch 2", "last step of epoch 2", "very last step"])
def test_interrupted_and_resumed_equals_uninterrupted(where, model, finished, data, tmp_path, monkeypatch):
    steps = metrics(finished)[0]["steps"]
    assert steps >= 4
    step = {"first step": 1, "middle of epoch 2": steps + 2, "last step of epoch 2": 2 * steps,
            "very last step": 3 * steps}[where]  # fmt: skip
    run = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as interrupted:
        interrupt_in_step(interrupted, step)
        with pytest.raises(TrainingStopped, match=f"interrupted; the state is saved, go on with --resume .*{run}"):
            train(interrupted, data, run, model=model)
    assert signal.getsignal(signal.SIGINT) is handler
    progress = state(run)["progress"]
    assert progress["epoch"] * steps + progress["step"] == step
    assert_same_run(resume(monkeypatch, run, model), finished)


def test_interrupted_twice_equals_uninterrupted(model, finished, data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    for start in (lambda m: train(m, data, run, model=model), lambda m: resume(m, run, model)):
        with monkeypatch.context() as interrupted:
            interrupt_in_step(interrupted, 5)
            with pytest.raises(TrainingStopped):
                start(interrupted)
    assert_same_run(resume(monkeypatch, run, model), finished)


@pytest.mark.parametrize("moment", ["before the state is saved", "after the state is saved"])
def test_killed_and_resumed_equals_uninterrupted(moment, model, finished, data, tmp_path, monkeypatch):
    """A kill just before saving loses the second epoch, which is then done again."""
    run, real_save, saved = tmp_path / "run", common.training.save, []

    class Killed(BaseException):
        pass

    def save(*arguments):
        saved.append(1)
        if len(saved) < 2 or moment.startswith("after"):
            real_save(*arguments)
        if len(saved) == 2:
            raise Killed

    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(common.training, "save", save)
        train(killed, data, run, model=model)
    assert state(run)["progress"]["epoch"] == (2 if moment.startswith("after") else 1)
    assert_same_run(resume(monkeypatch, run, model), finished)


def test_a_finished_run_says_so_and_changes_nothing(model, finished, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    monkeypatch.setattr("common.session.load_data", None)  # its data may be gone
    with pytest.raises(SystemExit) as left:
        resume(monkeypatch, finished, model)
    assert not left.value.code
    assert f"{finished}: this run is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_the_state_holds_tensors_and_plain_values_only(finished):
    saved = state(finished)  # with weights_only=True
    assert saved.keys() == {"model", "optimizer", "schedule", "random", "progress"}
    assert saved["progress"]["finished"] is True and saved["progress"]["epoch"] == 3


def test_other_data_is_not_resumed(data, tmp_path, tiny_catalogue, monkeypatch):
    run, other = tmp_path / "run", tiny_catalogue(tmp_path / "other", products=60)
    with monkeypatch.context() as interrupted, pytest.raises(TrainingStopped):
        interrupt_in_step(interrupted, 1)
        train(interrupted, data, run)
    with pytest.raises(InputError, match=r"not the data that the run in .* was started with"):
        train(monkeypatch, other, run, "--resume")
    remove_caches(other)


def test_a_changed_hyperparameter_is_not_resumed(model, finished, data, monkeypatch):
    with pytest.raises(InputError, match=r"--learning-rate 0\.02: the run in .* was started with 0\.01"):
        train(monkeypatch, data, finished, "--resume", model=model, learning_rate="0.02")


CHANGED = {
    "deep_cmpl": {"--scale paper": "--scale paper: .* was started with learned"},
    "siamese": {
        "--finetune": "--finetune True: .* was started with False",
        "--negatives all": "--negatives all: .* was started with hardest",
        "--word2vec cbow": "--word2vec cbow: .* was started with skip-gram",
    },
    "correlational": {
        "--hidden-dims 32 17": r"--hidden-dims \(32, 17\): .* was started with \(32, 16\)",
        "--network shallow": "--network shallow: .* was started with deep",
    },
}


def test_no_setting_of_a_model_is_changed_by_resuming(model, finished, data, monkeypatch):
    for words, message in CHANGED[model].items():
        with pytest.raises(InputError, match=message):
            train(monkeypatch, data, finished, "--resume", *words.split(), model=model)


def test_a_broken_state_is_an_error(data, tmp_path, monkeypatch):
    run = train(monkeypatch, data, tmp_path / "run", epochs=1)
    (run / "training_state.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"training_state\.pt: not a training state that can be read"):
        resume(monkeypatch, run)


# --- trouble -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["deep_cmpl", "siamese"])
def test_the_image_encoder_is_trained_with_the_momentum_of_the_block(model, data, tmp_path, monkeypatch):
    """Also when the training goes on; the batch norm is in the stub."""
    seen, real_step = [], common.training.train_step

    def train_step(network, *rest):
        seen.append(network.image_encoder.norm.momentum)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(network, *rest)

    def with_norm(*given):
        encoder = Patches(frozen=False)
        encoder.norm = nn.BatchNorm2d(1, momentum=0.01)
        return encoder

    monkeypatch.setattr(f"{model}.model.build_image_encoder", with_norm)
    monkeypatch.setattr(common.training, "train_step", train_step)
    flags = ["--finetune"] if model == "siamese" else []
    with pytest.raises(TrainingStopped):
        train(monkeypatch, data, tmp_path / "run", *flags, model=model, epochs=1, norm_momentum=0.25)
    resume(monkeypatch, tmp_path / "run", model)
    assert len(seen) == 6 and set(seen) == {0.25}


ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize(
    ("device", "images_from"),
    [("cpu", "disk"), pytest.param("cuda", "disk", marks=ON_A_GPU), pytest.param("cuda", "device", marks=ON_A_GPU)],
)
def test_losses_that_are_read_late_are_those_of_the_steps(model, device, images_from, data, tmp_path, monkeypatch):
    seen, real = [], common.training.compute_gradients

    def compute_gradients(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(common.training, "compute_gradients", compute_gradients)
    run = train(monkeypatch, data, tmp_path / "run", model=model, device=device, images_from=images_from)
    steps = metrics(run)[0]["steps"]
    for name in LOSSES[model]:
        losses = [terms[name].item() for terms in seen]
        found = [record[name] for record in metrics(run)]
        assert found == pytest.approx([np.mean(losses[start : start + steps]) for start in range(0, len(seen), steps)])
        assert len(found) == 3 and found[-1] < found[0]


@pytest.mark.parametrize("step", [3, 6])
def test_a_loss_that_is_not_finite_names_the_step_and_the_products(step, data, tmp_path, monkeypatch):
    """In the sixth and last step of an epoch too, before anything is saved."""
    import deep_cmpl.loss

    sessions, calls, real_cmpm = watch_session(monkeypatch), [], deep_cmpl.loss.cmpm

    def cmpm(*arguments):
        calls.append(1)
        return real_cmpm(*arguments) * (float("nan") if len(calls) == step + 1 else 1)  # one is the chance level

    batches, real_batch = [], Pairs.batch
    monkeypatch.setattr(Pairs, "batch", lambda *a, **k: batches.append(real_batch(*a, **k)) or batches[-1])
    monkeypatch.setattr(deep_cmpl.loss, "cmpm", cmpm)
    with pytest.raises(TrainingStopped) as stopped:
        train(monkeypatch, data, tmp_path / "run")
    assert f"not finite in epoch 1, step {step} (cmpm = nan)" in str(stopped.value)
    rows = sessions[0].data.rows("train")
    products = rows["product"].iloc[batches[step - 1].pairs]
    assert len(rows) // 16 == 6 and len(products) == 16
    assert str(stopped.value).endswith(f"products: {', '.join(products)}")
    assert not (tmp_path / "run" / "training_state.pt").exists()


def record(cmpm=1.0, image_spread=0.5, text_spread=0.5, recall=1.5, chance=1.0):
    directions = ("image_to_text", "text_to_image")
    recalls = {direction: {"R@1": recall} for direction in directions}
    at_chance = {"R@1_at_chance": dict.fromkeys(directions, chance)}
    return {"cmpm": cmpm, "val": {"image_spread": image_spread, "text_spread": text_spread, **recalls, **at_chance}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record(), []),
        (record(cmpm=9.8), []),
        (record(cmpm=9.95), ["warning: cmpm is at chance level (9.950 of 10.000): nothing is learned"]),
        (record(cmpm=9.95, recall=2.5), []),
        (record(image_spread=0.005), ["the image tower has collapsed"]),
        (record(text_spread=0.005), ["the text tower has collapsed"]),
        (record(image_spread=0.0, text_spread=0.0, recall=100, chance=100), []),  # one image and one text
        (record(cmpm=12.0, recall=100, chance=100), []),  # where nothing can be wrong
    ],
)
def test_warnings(found, expected):
    told = warnings(found, {"cmpm": 10.0})
    assert len(told) == len(expected)
    assert all(words in line for words, line in zip(expected, told, strict=True))


def test_no_word_of_chance_while_validation_recall_is_far_above_it(data, tmp_path, monkeypatch, capsys):
    """With a learned scale of 20 the loss starts above that of embeddings that know nothing."""
    sessions = watch_session(monkeypatch)
    run = train(monkeypatch, data, tmp_path / "run", epochs=5)
    chance = 100 / len(sessions[0].val.images)
    lines = capsys.readouterr().out.splitlines()
    for epoch in metrics(run):
        place = next(n for n, line in enumerate(lines) if line.startswith(f"epoch {epoch['epoch']}:"))
        if min(epoch["val"][direction]["R@1"] for direction in ("image_to_text", "text_to_image")) >= 2 * chance:
            assert "nothing is learned" not in lines[place + 1]


def test_a_collapsed_tower_and_a_loss_at_chance_are_told_in_a_training(data, tmp_path, monkeypatch, capsys):
    class Constant(nn.Module):
        dim = 4

        def forward(self, images):
            return torch.ones(len(images), 4)

    monkeypatch.setattr("deep_cmpl.model.build_image_encoder", lambda *_: Constant())
    train(monkeypatch, data, tmp_path / "run", epochs=1)
    told = capsys.readouterr()
    assert "warning: the image tower has collapsed" in told.out + told.err
    assert "warning: cmpm is at chance level" in told.out + told.err


# --- schedule, optimiser, batches ----------------------------------------------------------------------


def test_learning_rate_by_hand():
    """Ten steps, a warm-up of two, then half a cosine over the other eight."""
    shares = [learning_rate_share(step, 10, 0.2) for step in range(11)]
    cosine = [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(9)]
    assert shares == pytest.approx([0.5, 1.0, *cosine])
    assert learning_rate_share(0, 10, 0.0) == 1.0
    assert all(0 <= learning_rate_share(step, 1, 1.0) <= 1 for step in range(3))


def test_every_step_of_a_training_has_its_rate(data, tmp_path, monkeypatch):
    rates, real_step = [], common.training.train_step

    def train_step(model, embed, losses, batch, optimizer, *rest):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return real_step(model, embed, losses, batch, optimizer, *rest)

    monkeypatch.setattr(common.training, "train_step", train_step)
    run = train(monkeypatch, data, tmp_path / "run", epochs=2, image_learning_rate="0.001", warmup="0.25")
    total = metrics(run)[-1]["steps"]
    assert len(rates) == total
    for step, found in enumerate(rates):
        share = learning_rate_share(step, total, 0.25)
        assert found == pytest.approx([0.001 * share, 0.001 * share, 0.01 * share, 0.01 * share])


def test_biases_and_norms_have_no_weight_decay_and_parts_have_their_own_rate():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.image_encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
            self.image_encoder[2].requires_grad_(False)
            self.text_encoder = nn.Linear(2, 2, bias=False)
            self.joint = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
            self.log_scale = nn.Parameter(torch.tensor(3.0))

    model = Model()
    settings = SimpleNamespace(learning_rate=0.1, weight_decay=0.5, gradient_clip=0)
    optimizer = build_optimizer(model, settings, {model.image_encoder: 0.01, model.text_encoder: 0.05})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"])
              for group in optimizer.param_groups]  # fmt: skip
    assert groups == [
        ({"image_encoder.0.weight"}, 0.01, 0.5),
        ({"image_encoder.0.bias", "image_encoder.1.weight", "image_encoder.1.bias"}, 0.01, 0.0),
        ({"text_encoder.weight"}, 0.05, 0.5),
        ({"joint.0.weight"}, 0.1, 0.5),
        ({"joint.0.bias", "joint.1.weight", "joint.1.bias", "log_scale"}, 0.1, 0.0),
    ]
    assert isinstance(optimizer, torch.optim.AdamW)
    alike = build_optimizer(model, settings, {})
    assert [(group["lr"], group["weight_decay"]) for group in alike.param_groups] == [(0.1, 0.5), (0.1, 0.0)]


@pytest.mark.parametrize(
    ("model", "flags", "expected"),
    [
        ("siamese", [], [0.01, 0.01]),  # matrices, biases
        ("siamese", ["--finetune"], [0.002, 0.002, 0.01, 0.01]),
        ("correlational", [], [0.01, 0.01]),
    ],
)
def test_only_what_is_trained_is_in_the_optimizer(model, flags, expected, data, tmp_path, monkeypatch):
    seen, real_build = [], common.training.build_optimizer
    monkeypatch.setattr(common.training, "build_optimizer", lambda *a: seen.append(real_build(*a)) or seen[-1])
    if model == "siamese":
        flags = [*flags, "--image-learning-rate", "0.002"]
    train(monkeypatch, data, tmp_path / "run", *flags, model=model, epochs=1)
    assert [group["initial_lr"] for group in seen[0].param_groups] == expected
    assert {group["weight_decay"] for group in seen[0].param_groups} == {4e-5, 0.0}
    assert all(parameter.requires_grad for group in seen[0].param_groups for parameter in group["params"])


@pytest.mark.parametrize("batch_size", [16, 40, 1000])
def test_each_pair_once_an_epoch_and_a_short_last_batch_only_when_it_is_the_only_one(
    batch_size, data, tmp_path, monkeypatch
):
    asked, real_batch, sessions = [], Pairs.batch, watch_session(monkeypatch)
    monkeypatch.setattr(Pairs, "batch", lambda self, which, **k: asked.append(which) or real_batch(self, which, **k))
    train(monkeypatch, data, tmp_path / "run", epochs=2, batch_size=batch_size)
    pairs = len(sessions[0].train)
    assert pairs % 16 and 40 < pairs < 1000
    steps = max(1, pairs // batch_size)
    assert [len(which) for which in asked] == 2 * steps * [min(batch_size, pairs)]
    first, second = ([n for which in part for n in which.tolist()] for part in (asked[:steps], asked[steps:]))
    assert len(set(first)) == len(first) and len(set(second)) == len(second)
    assert first != second


def test_batches_of_features_are_made_some_at_a_time_and_none_is_lost():
    made = []
    rows = in_rows(made.append(n) or n for n in range(2 * MADE_IN_A_ROW + 3))
    taken = [(n, len(made)) for n in rows]
    ends = [MADE_IN_A_ROW] * MADE_IN_A_ROW + [2 * MADE_IN_A_ROW] * MADE_IN_A_ROW + [2 * MADE_IN_A_ROW + 3] * 3
    assert taken == list(enumerate(ends))


def test_images_are_fetched_a_batch_at_a_time(model, data, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(common.training, "in_rows", lambda batches: rows.append(1) or batches)
    train(monkeypatch, data, tmp_path / "run", model=model, epochs=1)
    assert len(rows) == (model != "deep_cmpl")


def test_the_gradient_is_clipped(data, tmp_path, monkeypatch):
    limits, real_clip = [], nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda p, limit: limits.append(limit) or real_clip(p, limit))
    train(monkeypatch, data, tmp_path / "run", epochs=1, gradient_clip="0.5")
    assert limits and set(limits) == {0.5}
    limits.clear()
    train(monkeypatch, data, tmp_path / "free", epochs=1, gradient_clip="0")
    assert not limits


# --- other methods -------------------------------------------------------------------------------------


def test_the_loop_serves_any_model_with_any_named_losses(data, tmp_path, monkeypatch):
    """Two losses, no Deep CMPL: both are logged, their sum is minimised."""

    class Towers(nn.Module):
        def __init__(self, words):
            super().__init__()
            self.image_encoder = nn.Linear(3, 6)
            self.text_encoder = nn.EmbeddingBag(words, 6)

        def encode_image(self, images):
            return self.image_encoder(images.float().mean((2, 3)) / 255)

        def encode_text(self, tokens, lengths):
            return self.text_encoder(tokens)

    seen = []

    def fit_towers(model, embed, losses, session, at_chance, rates):
        torch.manual_seed(0)
        towers = Towers(len(session.tokenizer))

        def own_embed(batch):
            return towers.encode_image(batch.images), towers.encode_text(batch.tokens, batch.lengths)

        def own_losses(batch, image_emb, text_emb):
            seen.append(((image_emb - text_emb).square().mean(), 0.1 * image_emb.square().mean()))
            return {"distance": seen[-1][0], "size": seen[-1][1]}

        fit(towers, own_embed, own_losses, session, {"distance": torch.tensor(1.0), "size": 0.1}, {})

    monkeypatch.setattr(common.monitoring, "draw_curves", draw_curves)
    monkeypatch.setattr(common.training, "fit", fit_towers)
    records = without_clock(metrics(train(monkeypatch, data, tmp_path / "run")))
    steps = records[0]["steps"]
    for number, record in enumerate(records):
        mine = seen[number * steps : (number + 1) * steps]
        assert record["distance"] == pytest.approx(sum(d.item() for d, _ in mine) / steps)
        assert record["size"] == pytest.approx(sum(s.item() for _, s in mine) / steps)
        assert record["loss"] == pytest.approx(record["distance"] + record["size"])
    assert records[-1]["loss"] < records[0]["loss"]
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_classification_loss_is_added_on_request(data, tmp_path, monkeypatch):
    records = metrics(train(monkeypatch, data, tmp_path / "run", cmpc_column="shape"))
    assert all(record["loss"] == pytest.approx(record["cmpm"] + record["cmpc"]) for record in records)
    assert records[-1]["cmpc"] < records[0]["cmpc"]
    assert weights(tmp_path / "run")["class_weight"].shape == (int(TINY["deep_cmpl"]["embedding_dim"]), 6)


def test_each_training_product_can_be_a_class(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (record, *_) = metrics(train(monkeypatch, data, run, cmpc_column="product"))
    classes = len(json.loads((run / "train_products.json").read_text(encoding="utf-8")))
    assert weights(run)["class_weight"].shape == (int(TINY["deep_cmpl"]["embedding_dim"]), classes)
    assert record["cmpc"] == pytest.approx(2 * math.log(classes), rel=0.05)  # so early no better than by chance

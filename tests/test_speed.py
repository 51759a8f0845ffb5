"""common/speed.py: precision by measurement, and compiled encoders, which are to change speed and nothing else."""

import json
import re
from contextlib import contextmanager

import pytest
import torch
from tiny_runs import Patches, assert_same_run, resume, train
from torch import nn

import common.speed
import common.training
from common.devices import choose_device, encoding_in, evaluation_precision
from common.errors import InputError, TrainingStopped
from common.image_encoders import build_image_encoder
from common.speed import compile_image_encoder, fastest_precision

CPU = torch.device("cpu")
QUICK = ("mobilenet-v1",)
SLOW = (
    "efficientnet-lite0", "efficientnet-b0",
    "mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large", "resnet50", "resnet152",
    *(f"efficientnet-b{number}" for number in range(1, 8)),
)  # fmt: skip


@pytest.fixture
def without_compiler(monkeypatch):
    """Graphs are captured as ever, but run as they are: the compiler takes a minute."""
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **given: real(module, backend="eager", **given))
    torch._dynamo.reset()


def compiled_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


# --- compile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_encoder_is_one_graph(name, without_compiler, capsys):
    """Forward and backward in training, and in evaluation with any number of images."""
    encoder = build_image_encoder(name, "none")
    before = {key: value.clone() for key, value in encoder.state_dict().items() if "num_batches" not in key}
    state = torch.get_rng_state()
    compile_image_encoder(encoder, torch.float32, (32, 32), 2, True, CPU)
    assert re.search(r"^compile: the image encoder was compiled in \d+\.\d s$", capsys.readouterr().out, re.M)
    assert encoder.training and torch.equal(torch.get_rng_state(), state)
    assert encoder.state_dict().keys() >= before.keys()
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    pixels = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8)  # below 16 a CPU has other convolutions
    images, graphs = pixels.permute(0, 3, 1, 2), compiled_graphs()
    with encoding_in(torch.float32, CPU):  # as models call their encoders
        encoder(images[:2]).sum().backward()
        with torch.no_grad():
            encoder(images[:2])
        with torch.inference_mode():
            encoder.eval()(images.clone())  # as evaluation makes its batches, within
    assert compiled_graphs() == graphs, "nothing is compiled in a training"
    plain = build_image_encoder(name, "none").eval()
    plain.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), plain(images), rtol=1e-4, atol=1e-4)


def test_a_graph_that_breaks_is_an_error(without_compiler):
    class Broken(Patches):
        def forward(self, images):
            torch._dynamo.graph_break()
            return super().forward(images)

    with pytest.raises(
        InputError, match=r"compile = true: the image encoder cannot be compiled here \(.*compile = false"
    ):
        compile_image_encoder(Broken(), torch.float32, (32, 24), 4, False, CPU)


@pytest.mark.parametrize("flags", [(), ("--shift", "0", "--no-flip")], ids=["augmented", "as they are"])
def test_a_compiled_training_is_the_same(flags, patches, without_compiler, data, tmp_path, monkeypatch, capsys):
    graphs, real_fit = {}, common.training.fit

    def watched(*given):
        graphs["before"] = compiled_graphs()
        real_fit(*given)
        graphs["after"] = compiled_graphs()

    with monkeypatch.context() as patched:
        patched.setattr(common.training, "fit", watched)
        compiled = train(patched, data, tmp_path / "compiled", "--compile", *flags, epochs=2)
    assert "compile: the image encoder was compiled in" in capsys.readouterr().out
    assert graphs["after"] == graphs["before"] > 0, "what a training compiles is none of the warm-up that is printed"
    assert_same_run(compiled, train(monkeypatch, data, tmp_path / "plain", *flags, epochs=2))


@pytest.mark.slow
def test_a_training_with_the_compiler_itself(data, tmp_path, monkeypatch):
    """Nearly the same numbers: a compiler adds in another order."""
    torch._dynamo.reset()
    settings = {"epochs": 1, "image_encoder": "mobilenet-v3-small"}
    compiled = train(monkeypatch, data, tmp_path / "compiled", "--compile", **settings)
    plain = train(monkeypatch, data, tmp_path / "plain", **settings)
    first, second = (json.loads((run / "metrics.jsonl").read_text())["loss"] for run in (compiled, plain))
    assert first == pytest.approx(second, rel=0.02)


# --- precision -----------------------------------------------------------------------------------------


def seconds(monkeypatch, **of):
    """The time that a step takes in each precision; counts the steps."""
    steps = []

    def step_seconds(encoder, precision, size, pairs, device):
        steps.append(precision)
        return of[str(precision).removeprefix("torch.")]

    monkeypatch.setattr(common.speed, "step_seconds", step_seconds)
    return steps


@pytest.mark.parametrize(("float32", "bfloat16", "faster"), [(0.1, 0.05, torch.bfloat16), (0.05, 0.1, torch.float32)])
def test_the_faster_precision_is_chosen_and_printed(float32, bfloat16, faster, patches, monkeypatch, capsys):
    monkeypatch.setattr(common.speed, "build_image_encoder", lambda *_: Patches())
    seconds(monkeypatch, float32=float32, bfloat16=bfloat16)

    class Settings:
        image_encoder, image_size = "mobilenet-v3-small", (32, 24)

    assert fastest_precision(Settings, CPU, 10) == faster
    speeds = f"float32 {10 / float32:.0f} images/s, bfloat16 {10 / bfloat16:.0f} images/s"
    name = str(faster).removeprefix("torch.")
    assert capsys.readouterr().out == f"precision: {name}, the faster one here ({speeds})\n"


def test_a_real_measurement(monkeypatch, capsys):
    class Settings:
        image_encoder, image_size = "mobilenet-v3-small", (32, 24)

    assert fastest_precision(Settings, CPU, 4) in (torch.float32, torch.bfloat16)
    assert re.match(
        r"precision: (b?float\d\d), the faster one here \(float32 [\d,]+ images/s, ", capsys.readouterr().out
    )


@contextmanager
def interrupted():
    yield lambda: True


def test_auto_is_recorded_and_used_again_on_resume(patches, data, tmp_path, monkeypatch):
    monkeypatch.setattr(common.speed, "build_image_encoder", lambda *_: Patches())
    steps = seconds(monkeypatch, float32=2.0, bfloat16=1.0)
    run, seen, real_fit = tmp_path / "run", [], common.training.fit
    with monkeypatch.context() as patched, pytest.raises(TrainingStopped):
        patched.setattr(common.training, "interrupts", interrupted)
        train(patched, data, run, precision="auto")
    config = json.loads((run / "config.json").read_text())
    assert config["precision"] == "bfloat16" and config["hyperparameters"]["precision"] == "auto"
    assert len(steps) == 8
    steps.clear()
    seconds(monkeypatch, float32=1.0, bfloat16=2.0)  # it would be chosen otherwise now

    def watched(model, embed, losses, session, *rest):
        seen.append(session.precision)
        real_fit(model, embed, losses, session, *rest)

    monkeypatch.setattr(common.training, "fit", watched)
    resume(monkeypatch, run)
    assert not steps and seen == [torch.bfloat16]


def test_the_default_measures_nothing(patches, data, tmp_path, monkeypatch):
    steps = seconds(monkeypatch, float32=2.0, bfloat16=1.0)
    run = train(monkeypatch, data, tmp_path / "run", epochs=1, precision="default")
    assert not steps and json.loads((run / "config.json").read_text())["precision"] == "float32"


@pytest.mark.parametrize(
    ("setting", "recorded", "device", "expected"),
    [
        ("default", "bfloat16", "cpu", torch.float32),
        ("default", "bfloat16", "cuda", torch.bfloat16),
        ("default", "float32", "cuda", torch.float32),
        ("auto", "bfloat16", "cpu", torch.bfloat16),
        ("bfloat16", "bfloat16", "cpu", torch.bfloat16),
        ("float32", "float32", "cuda", torch.float32),
    ],
)
def test_a_run_is_evaluated_in_its_precision_but_for_the_default_of_a_gpu_on_a_cpu(setting, recorded, device, expected):
    assert evaluation_precision(setting, recorded, torch.device(device)) is expected


def test_a_cpu_is_the_cpu_whatever_its_number():
    """torch knows of several, what reads weights does not."""
    assert choose_device("cpu:1") == CPU


def test_a_gpu_that_cannot_be_used_is_told_beside_what_is_printed(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("common.devices.why_no_cuda", lambda: "no driver")
    monkeypatch.setattr("common.devices.Path.glob", lambda *_: ["/dev/nvidia0"])
    assert choose_device("auto") == CPU
    out, err = capsys.readouterr()
    assert out == "" and err == "device: the CPU, although this machine has an NVIDIA GPU: no driver\n"

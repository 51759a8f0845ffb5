"""common/replay.py: a training whose encoder is replayed is the very training it was. What a GPU does, a GPU shows."""

import gc
import re
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import assert_same_run, train
from torch import nn

import common.replay
import common.training
from common.devices import encoding_in, random_state
from common.errors import TrainingStopped
from common.image_encoders import build_image_encoder, freeze_first_layers
from common.replay import record, replayed, step_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SHAPE = (6, 3, 40, 32)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def batch(number: int = SHAPE[0], device: torch.device = CPU) -> torch.Tensor:
    return torch.randint(0, 256, (number, *SHAPE[1:]), dtype=torch.uint8).to(device)


# --- when, on any machine ------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    """In place of torch's graphs: counts what would be replayed, after as many warming steps as torch makes."""
    counts = {"recorded": 0, "replayed": 0, "devices": [], "streams": []}

    def make_graphed_callables(module, sample):
        for _ in range(4):
            torch.autograd.grad(module(*sample).sum(), [p for p in module.parameters() if p.requires_grad])
        counts["recorded"] += 1
        own_forward, recorded_in = module.forward, module.training

        def forward(*inputs):
            counts["replayed"] += module.training == recorded_in
            return own_forward(*inputs)

        module.forward = forward

    @contextmanager
    def device(which):
        counts["devices"].append(which)
        yield

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "own")
    monkeypatch.setattr(torch.cuda, "set_stream", counts["streams"].append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return counts


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_recording_leaves_no_trace_and_only_training_batches_of_the_shape_are_replayed(precision, graphs):
    encoder = build_image_encoder("mobilenet-v3-small", "none").eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    record(encoder, precision, SHAPE, CPU)
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert graphs == {"recorded": 1, "replayed": 0, "devices": [CPU], "streams": ["own"]}
    encoder(batch()).sum().backward()
    assert graphs["replayed"] == 1
    encoder(batch(4)).sum().backward()
    with torch.no_grad():
        encoder(batch())
    encoder.eval()(batch())
    assert graphs["replayed"] == 1


def test_a_second_batch_within_a_step_is_not_replayed(graphs):
    """Its activations would overwrite those of the first, which the backward of that still needs."""
    encoder = build_image_encoder("mobilenet-v1", "none")
    record(encoder, torch.float32, SHAPE, CPU)
    for step in (1, 2):
        loss = encoder(batch()).sum() + encoder(batch()).sum()
        assert graphs["replayed"] == step
        loss.backward()


def test_norms_random_numbers_and_stream_are_put_back_when_recording_fails(graphs, monkeypatch):
    def fail(module, sample):
        module(*sample)
        torch.rand(1)
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    encoder = build_image_encoder("mobilenet-v1", "none")
    norm = next(module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    before, state = norm.running_mean.clone(), torch.get_rng_state()
    with pytest.raises(torch.OutOfMemoryError):
        record(encoder, torch.float32, SHAPE, CPU)
    assert torch.equal(norm.running_mean, before) and torch.equal(torch.get_rng_state(), state)
    assert graphs["streams"] == ["own"]


class Encoder(nn.Module):
    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=not frozen)

    def forward(self, images):
        return images


def session(device: str = "cuda", parts: int = 1, compiled: bool = False) -> SimpleNamespace:
    settings = SimpleNamespace(image_size=SHAPE[2:], compile=compiled)
    return SimpleNamespace(
        device=torch.device(device), precision=torch.bfloat16, parts=parts, batch_size=SHAPE[0], settings=settings
    )


def mark(encoder, *_) -> None:
    encoder.forward = lambda images: "replayed"


@pytest.fixture
def memory(monkeypatch):
    """The bytes of a GPU: those that are free, and those that a step takes."""
    of = {"free": 100, "step": 40}
    monkeypatch.setattr(common.replay, "free_memory", lambda device: of["free"])
    monkeypatch.setattr(common.replay, "step_memory", lambda *_: of["step"])
    return of


def test_a_gpu_replays_within_and_not_afterwards(memory, monkeypatch, capsys):
    recorded = []

    def seen(encoder, *given):
        recorded.append(given)
        mark(encoder)

    monkeypatch.setattr(common.replay, "record", seen)
    model = SimpleNamespace(image_encoder=Encoder())
    with pytest.raises(ZeroDivisionError), replayed(model, session()):
        assert model.image_encoder(1) == "replayed"
        raise ZeroDivisionError
    assert model.image_encoder(1) == 1
    assert recorded == [(torch.bfloat16, SHAPE, torch.device("cuda"))]
    assert re.fullmatch(r"replay: a step of the image encoder was recorded in \d+\.\d s\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("device", "parts", "compiled", "frozen"),
    [("cpu", 1, False, False), ("cuda", 2, False, False), ("cuda", 1, True, False), ("cuda", 1, False, True)],
)
def test_what_is_not_replayed(device, parts, compiled, frozen, monkeypatch, capsys):
    monkeypatch.setattr(common.replay, "record", mark)
    model = SimpleNamespace(image_encoder=Encoder(frozen))
    with replayed(model, session(device, parts, compiled)):
        assert model.image_encoder(1) == 1
    assert capsys.readouterr().out == ""


def test_graphs_that_hold_each_other_are_gone_afterwards(memory, monkeypatch):
    """Torch keeps them in a class, which refers to itself; left to a forked worker, they would kill it."""
    kept = []

    def hold(encoder, *_):
        class Graphed:
            forward = staticmethod(lambda images: Graphed)

        kept.append(weakref.ref(Graphed))
        encoder.forward = Graphed.forward

    monkeypatch.setattr(common.replay, "record", hold)
    with replayed(SimpleNamespace(image_encoder=Encoder()), session()):
        gc.collect()
        assert kept[0]() is not None
    assert kept[0]() is None


def test_graphs_that_would_leave_too_little_memory(memory, monkeypatch, capsys):
    memory |= {"free": 3 * 10**9, "step": 2 * 10**9}
    monkeypatch.setattr(common.replay, "record", mark)
    model = SimpleNamespace(image_encoder=Encoder())
    with replayed(model, session()):
        assert model.image_encoder(1) == 1
    expected = "replay: none, a recorded step of the image encoder would keep 2.0 GB of the GPU\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0"), "CUDA out of memory"),
        (RuntimeError("CUDA error: operation not permitted\nFor debugging"), "CUDA error: operation not permitted"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_step_that_cannot_be_recorded_is_trained_as_it_is(error, reason, memory, monkeypatch, capsys):
    def fail(encoder, *_):
        mark(encoder)
        raise error

    monkeypatch.setattr(common.replay, "record", fail)
    model = SimpleNamespace(image_encoder=Encoder())
    with replayed(model, session()):
        assert model.image_encoder(1) == 1
    expected = f"replay: none, a step of the image encoder could not be recorded ({reason})\n"
    assert capsys.readouterr().out == expected


def test_every_step_of_a_training_is_within(patches, data, tmp_path, monkeypatch):
    """And neither its end nor what is written afterwards."""
    within, real_step = [], common.training.train_step

    @contextmanager
    def entered(model, session):
        within.append("in")
        yield
        within.append("out")

    def step(*given):
        within.append("step")
        return real_step(*given)

    monkeypatch.setattr(common.training, "replayed", entered)
    monkeypatch.setattr(common.training, "train_step", step)
    train(monkeypatch, data, tmp_path / "run", epochs=1)
    assert within[0] == "in" and within[-1] == "out" and set(within[1:-1]) == {"step"}


# --- the graphs themselves -----------------------------------------------------------------------------


@pytest.fixture
def deterministic(monkeypatch):
    """Of cuDNN's ways to compute a convolution only those that give the same bits each time."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


ENCODERS = ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3-small", "efficientnet-lite0", "efficientnet-b0", "resnet50")


def trained(encoder: nn.Module, precision: torch.dtype, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights and statistics after a step with each batch, and the state of the random numbers."""
    torch.manual_seed(1)
    weights = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, fused=True)
    encoder.train()
    for images in batches:
        optimizer.zero_grad(set_to_none=True)
        with encoding_in(precision, GPU):
            features = encoder(images)
        features.float().square().mean().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return {key: value.clone() for key, value in encoder.state_dict().items()} | random_state(GPU)


@needs_gpu
@pytest.mark.parametrize(
    ("name", "precision", "frozen_layers"),
    [*((name, torch.bfloat16, 0) for name in ENCODERS), ("mobilenet-v1", torch.float32, 0),
     ("efficientnet-lite0", torch.bfloat16, 4)],
)  # fmt: skip
def test_replayed_steps_are_the_same_steps(name, precision, frozen_layers, deterministic):
    """Bit for bit, dropped connections too; a smaller batch in between is computed as ever, and so is evaluation."""
    torch.manual_seed(0)
    plain, recorded = (build_image_encoder(name, "none").to(GPU) for _ in range(2))
    recorded.load_state_dict(plain.state_dict())
    for encoder in (plain, recorded):
        freeze_first_layers(encoder, frozen_layers)
    batches = [batch(number, GPU) for number in (6, 6, 4, 6)]
    record(recorded, precision, SHAPE, GPU)
    expected, found = (trained(encoder, precision, batches) for encoder in (plain, recorded))
    assert not [key for key in expected if not torch.equal(expected[key], found[key])]
    with torch.inference_mode(), encoding_in(precision, GPU):
        assert torch.equal(plain.eval()(batches[0]), recorded.eval()(batches[0]))


@needs_gpu
def test_the_memory_of_a_step_is_measured_without_a_trace():
    encoder = build_image_encoder("mobilenet-v1", "none").to(GPU)
    before, state = {key: value.clone() for key, value in encoder.state_dict().items()}, random_state(GPU)
    small, large = (step_memory(encoder, torch.float32, (number, *SHAPE[1:]), GPU) for number in (8, 64))
    weights = sum(value.nbytes for value in encoder.parameters())
    assert weights < small < large
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())
    assert all(torch.equal(random_state(GPU)[key], value) for key, value in state.items())


@needs_gpu
def test_two_batches_within_a_step_have_their_own_gradients(deterministic):
    torch.manual_seed(0)
    plain, recorded = (build_image_encoder("mobilenet-v1", "none").to(GPU) for _ in range(2))
    recorded.load_state_dict(plain.state_dict())
    first, second = batch(device=GPU), batch(device=GPU)
    record(recorded, torch.float32, SHAPE, GPU)
    for encoder in (plain, recorded):
        (encoder(first).square().mean() + encoder(second).square().mean()).backward()
    for one, other in zip(plain.parameters(), recorded.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_replayed_training_is_the_same(precision, deterministic, data, tmp_path, monkeypatch, capsys):
    given = {"device": "cuda", "image_encoder": "mobilenet-v3-small", "epochs": 2, "precision": precision}
    found = train(monkeypatch, data, tmp_path / "replayed", **given)
    assert "replay: a step of the image encoder was recorded in" in capsys.readouterr().out
    monkeypatch.setattr(common.replay, "record", lambda *_: None)
    assert_same_run(found, train(monkeypatch, data, tmp_path / "plain", **given))


@needs_gpu
def test_a_batch_that_does_not_fit_is_told_as_ever(data, tmp_path, monkeypatch, capsys):
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_allocated() + 2**30
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    given = {"device": "cuda", "image_encoder": "resnet50", "image_size": "224 224", "batch_size": 40}
    try:
        with pytest.raises(TrainingStopped, match=r"too little memory for 40 pairs at once \(each needs \d+ MiB"):
            train(monkeypatch, data, tmp_path / "run", **given)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (
        "replay: none, a step of the image encoder could not be recorded (CUDA out of memory)"
        in capsys.readouterr().out
    )

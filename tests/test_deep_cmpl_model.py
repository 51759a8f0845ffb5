"""deep_cmpl/model.py: the paper's figure, a batch of one, and what its settings switch."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common.captions import Vocabulary
from deep_cmpl.model import FIRST_SCALE, LARGEST_SCALE, DeepCMPL, build_model

SETTINGS = SimpleNamespace(
    image_encoder="mobilenet-v3-small", image_weights="none", freeze_image_encoder=False,
    text_encoder="bilstm", text_weights="", freeze_text_encoder=False, word_dim=8, lstm_dim=5, dropout=0.3, max_words=9,
    embedding_dim=7, scale="paper",
)  # fmt: skip
TOKENIZER = Vocabulary(["red", "blue", "disc", "square"], max_words=9)
CAPTIONS = ["red disc", "blue square and red disc", "blue"]


def build(precision=torch.float32, classes=0, **changes):
    torch.manual_seed(0)
    return build_model(SimpleNamespace(**vars(SETTINGS) | changes), TOKENIZER, precision, classes=classes)


def inputs():
    images = torch.randint(0, 256, (3, 3, 32, 24), generator=torch.Generator().manual_seed(0)).byte()
    return images, *(torch.from_numpy(array) for array in TOKENIZER(CAPTIONS))


class Stub(nn.Module):
    """An encoder that gives its second argument, or its first, as features."""

    dim = 4

    def forward(self, *arguments):
        return arguments[0]


@pytest.mark.parametrize("tower", ["image", "text"])
def test_each_feature_goes_through_one_linear_layer_and_a_batch_norm(tower):
    """No activation, and no normalisation: lengths matter in the loss."""
    torch.manual_seed(0)
    model = DeepCMPL(Stub(), Stub(), embedding_dim=7).train()
    features = torch.randn(10, 4)
    emb = model.encode_image(features) if tower == "image" else model.encode_text(features, None)
    linear = getattr(model, f"{tower}_joint")[0]
    projected = features @ linear.weight.T + linear.bias  # (10, 7)
    expected = (projected - projected.mean(0)) / (projected.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(emb, expected)
    assert (emb < 0).any()


def test_the_towers_share_nothing():
    model = build()
    image_parameters = {id(p) for part in (model.image_encoder, model.image_joint) for p in part.parameters()}
    text_parameters = {id(p) for part in (model.text_encoder, model.text_joint) for p in part.parameters()}
    assert not image_parameters & text_parameters
    assert image_parameters | text_parameters == {id(p) for p in model.parameters()}


def test_a_batch_of_one_is_embedded_as_within_a_batch():
    model = build().eval()
    images, tokens, lengths = inputs()
    with torch.inference_mode():
        image_emb, text_emb = model.encode_image(images), model.encode_text(tokens, lengths)
        assert image_emb.shape == text_emb.shape == (3, 7)
        for one in range(3):
            alone = model.encode_image(images[one : one + 1])
            text_alone = model.encode_text(tokens[one : one + 1], lengths[one : one + 1])
            torch.testing.assert_close(alone[0], image_emb[one], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(text_alone[0], text_emb[one], atol=1e-5, rtol=1e-4)


def test_bfloat16_is_for_the_encoders_only():
    model = build(torch.bfloat16).train()
    seen = []
    model.image_encoder.backbone.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    images, tokens, lengths = inputs()
    assert model.encode_image(images).dtype == model.encode_text(tokens, lengths).dtype == torch.float32
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_papers_form_has_no_scale():
    assert build().scale() is None


def test_the_learned_scale_is_positive_and_bounded():
    model = build(scale="learned")
    assert model.scale().item() == pytest.approx(FIRST_SCALE)
    for log_scale, expected in ((-3.0, math.exp(-3)), (9.0, LARGEST_SCALE)):
        nn.init.constant_(model.log_scale, log_scale)
        assert model.scale().item() == pytest.approx(expected)
    assert model.log_scale.requires_grad


def test_a_scale_at_its_bound_can_come_down_again():
    model = build(scale="learned")
    nn.init.constant_(model.log_scale, 9.0)
    optimizer = torch.optim.SGD([model.log_scale], lr=1e-4)
    for _ in range(20):
        optimizer.zero_grad()
        (model.scale() - 40).square().backward()
        optimizer.step()
    assert model.scale().item() < LARGEST_SCALE / 2


@pytest.mark.parametrize("classes", [0, 4])
def test_class_weights_exist_only_for_the_classification_loss(classes):
    weight = build(classes=classes).class_weight
    assert weight is None if classes == 0 else weight.shape == (7, classes)


@pytest.mark.parametrize("frozen", [True, False])
def test_freezing_concerns_the_image_encoder_only(frozen):
    model = build(freeze_image_encoder=frozen)
    still = {name.split(".")[0] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert still == ({"image_encoder"} if frozen else set())


def test_weights_that_will_be_loaded_from_a_run_are_not_fetched_first(monkeypatch, tmp_path):
    asked = []
    build_encoder = "deep_cmpl.model.build_image_encoder"
    monkeypatch.setattr(build_encoder, lambda name, weights, frozen, folder: asked.append(folder) or Stub())
    settings = SimpleNamespace(**vars(SETTINGS) | {"image_weights": "imagenet"})
    build_model(settings, TOKENIZER, torch.float32, folder=tmp_path)
    build_model(settings, TOKENIZER, torch.float32)
    assert asked == [tmp_path, None]

"""siamese/model.py: the two towers, what is trained and what is not, and the bugs of the earlier implementation."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import siamese.model
from common.captions import Vocabulary
from common.features import features_of
from common.monitoring import warnings
from common.recall import metrics, rank_queries, relevant_ranks
from common.text_encoders import build_text_encoder, save_text_config
from common.validation import spread
from siamese.loss import contrastive, distances
from siamese.model import Siamese, build_model, tower

SETTINGS = SimpleNamespace(
    image_encoder="mobilenet-v3-small", image_weights="none", finetune=False,
    text_encoder="word2vec", text_weights="", word2vec="skip-gram", word_dim=8, word_window=2, word_epochs=1,
    max_words=9, hidden_dim=20, embedding_dim=7, dropout=0.3, seed=0,
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("learned")
TOKENIZER = Vocabulary(["red", "blue", "disc", "square"], max_words=9)
CAPTIONS = ["red disc", "blue square and red disc", "blue"]
both_towers = pytest.mark.parametrize("which", ["image", "text"])
each_text_encoder = pytest.mark.parametrize("text_encoder", ["word2vec", "bert"])


def with_settings(**changes):
    return SimpleNamespace(**vars(SETTINGS) | changes)


def build(precision=torch.float32, folder=None, **changes):
    torch.manual_seed(0)
    return build_model(with_settings(**changes), TOKENIZER, precision, folder, CAPTIONS)


def build_settled(*arguments, **changes):
    """With norms that have seen the images of `inputs`: else the features of random weights hardly differ."""
    model = build(*arguments, **changes).train()
    norms = [module for module in model.image_encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, one here
        norm.train()
    with torch.no_grad():
        model.image_encoder(inputs()[0])
    return model.eval()


def inputs():
    images = torch.randint(0, 256, (3, 3, 32, 24), generator=torch.Generator().manual_seed(0)).byte()
    return images, *(torch.from_numpy(array) for array in TOKENIZER(CAPTIONS))


def encode(model, images, tokens, lengths):
    """Both embeddings one after the other, (2 B, D)."""
    return torch.cat([model.encode_image(images), model.encode_text(tokens, lengths)])


class Stub(nn.Module):
    """An encoder that is never asked: features are given in place of images and tokens."""

    dim, frozen = 4, True


def stub_model(dropout=0.0, dim=7):
    torch.manual_seed(0)
    return Siamese(Stub(), Stub(), hidden_dim=20, embedding_dim=dim, dropout=dropout)


def encoder_of(model, which):
    return {
        "image": model.encode_image,
        "text": lambda features: model.encode_text(features, torch.ones(len(features), dtype=torch.int64)),
    }[which]


# --- the towers ----------------------------------------------------------------------------------------


@both_towers
def test_features_are_standardised_and_go_through_two_layers(which):
    """Standardise, Linear, ReLU, Linear, unit length; whatever the scale of a feature."""
    model = stub_model().train()
    features = torch.randn(10, 4) * torch.tensor([1.0, 10.0, 100.0, 0.1]) + torch.tensor([0.0, 5.0, -300.0, 2.0])
    emb = encoder_of(model, which)(features)
    first, second = (layer for layer in getattr(model, f"{which}_tower") if isinstance(layer, nn.Linear))
    standardised = (features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()
    hidden = (standardised @ first.weight.T + first.bias).clamp(min=0)  # (10, 20)
    expected = hidden @ second.weight.T + second.bias  # (10, 7)
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(emb, expected, atol=1e-5, rtol=1e-4)
    assert hidden.eq(0).any() and emb.shape == (10, 7)


@both_towers
def test_in_evaluation_features_are_standardised_as_in_training(which):
    """With the statistics that training saw, not with those of the batch."""
    model = stub_model()
    layers = getattr(model, f"{which}_tower")
    with torch.no_grad():
        layers[0].running_mean.copy_(torch.tensor([1.0, -2.0, 3.0, 0.0]))
        layers[0].running_var.copy_(torch.tensor([4.0, 1.0, 0.25, 9.0]))
    features = torch.randn(5, 4)
    found = encoder_of(model.eval(), which)(features)
    standardised = (features - layers[0].running_mean) / layers[0].running_var.sqrt()
    torch.testing.assert_close(found, F.normalize(layers[1:](standardised), dim=1), atol=1e-4, rtol=1e-4)


def test_a_tower_is_five_layers_and_no_more():
    layers = tower(4, 20, 7, 0.3)
    assert [type(layer) for layer in layers] == [nn.BatchNorm1d, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [tuple(parameter.shape) for parameter in layers.parameters()] == [(20, 4), (20,), (7, 20), (7,)]


@both_towers
def test_dropout_is_on_the_hidden_layer_and_in_training_only(which):
    model = stub_model(dropout=0.75)
    layers, features = getattr(model, f"{which}_tower"), torch.randn(200, 4)
    hidden = []
    layers[-1].register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    model.train()
    encoder_of(model, which)(features)
    kept = layers[:3](features)  # (200, 20) before dropout
    share = hidden[0][kept > 0].eq(0).float().mean().item()
    assert share == pytest.approx(0.75, abs=0.05)
    alive = hidden[0] > 0
    torch.testing.assert_close(hidden[0][alive], 4 * kept[alive])
    model.eval()
    assert torch.equal(encoder_of(model, which)(features), encoder_of(model, which)(features))
    assert torch.equal(hidden[-1], layers[:3](features))


def test_the_towers_share_nothing():
    """Although their features have the same size here."""
    model = stub_model().train()
    of_image, of_text = ({id(p) for p in part.parameters()} for part in (model.image_tower, model.text_tower))
    assert not of_image & of_text and of_image | of_text == {id(p) for p in model.parameters()}
    assert not torch.equal(model.image_tower[1].weight, model.text_tower[1].weight)
    encoder_of(model, "image")(torch.randn(5, 4)).sum().backward()
    assert all(p.grad is not None for p in model.image_tower.parameters())
    assert all(p.grad is None for p in model.text_tower.parameters())
    assert model.image_tower[0].num_batches_tracked == 1 and model.text_tower[0].num_batches_tracked == 0


@pytest.mark.parametrize("training", [True, False])
def test_embeddings_are_of_unit_length_and_go_in_all_directions(training):
    """Half of the components are negative or so: a ReLU at the end would leave none."""
    model = stub_model(dim=64).train(training)
    for which in ("image", "text"):
        emb = encoder_of(model, which)(torch.randn(100, 4))
        torch.testing.assert_close(emb.norm(dim=1), torch.ones(100))
        assert 0.3 < (emb < 0).float().mean() < 0.7
        assert spread(emb) > 0.3


def test_ranking_by_distance_is_ranking_by_cosine():
    """The loss knows distances, the evaluation cosines."""
    model = stub_model().eval()
    with torch.inference_mode():
        image_emb, text_emb = (encoder_of(model, which)(torch.randn(40, 4)) for which in ("image", "text"))
    by_distance = relevant_ranks(-distances(image_emb.double(), text_emb.double()), torch.eye(40, dtype=torch.bool))
    by_cosine = rank_queries(image_emb, text_emb, torch.arange(40).expand(2, -1))
    assert torch.equal(by_distance.best, by_cosine.best) and len(by_cosine.best.unique()) > 10


# --- with encoders -------------------------------------------------------------------------------------


@each_text_encoder
def test_a_batch_of_one_is_embedded_as_within_a_batch(text_encoder, bert):
    model = build_settled(text_encoder=text_encoder, text_weights=bert)
    images, tokens, lengths = inputs()
    with torch.inference_mode():
        together = encode(model, images, tokens, lengths)  # (2 * 3, 7)
        assert together.shape == (6, 7) and torch.cdist(together, together).add(torch.eye(6)).min() > 0.05
        for one in range(3):
            alone = encode(model, images[one, None], tokens[one, None], lengths[one, None])
            torch.testing.assert_close(alone, together[[one, 3 + one]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@each_text_encoder
def test_features_in_place_of_pixels_and_tokens_give_exactly_the_same(text_encoder, precision, bert):
    """In evaluation, and in training as far as dropout lets compare."""
    model = build_settled(precision, text_encoder=text_encoder, text_weights=bert)
    images, tokens, lengths = inputs()
    with torch.inference_mode():
        of_images = features_of(model.image_encoder, precision, images)
        of_texts = features_of(model.text_encoder, precision, tokens, lengths)
    assert of_images.shape == (3, 576) and of_texts.shape == (3, 12 if text_encoder == "bert" else 8)
    assert of_images.dtype == of_texts.dtype == torch.float32
    assert torch.cdist(of_images, of_images).add(torch.eye(3)).min() > 0.1
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)
        expected = encode(model, images, tokens, lengths)
        torch.manual_seed(0)
        assert torch.equal(encode(model, of_images.clone(), of_texts.clone(), lengths), expected)


def test_bfloat16_is_for_the_encoders_only(bert):
    model = build(torch.bfloat16, text_encoder="bert", text_weights=bert, dropout=0.0).train()
    seen = {}

    def record(name):
        return lambda _, inputs, output: seen.update({name: (inputs[0].dtype, output.dtype)})

    model.image_encoder.backbone.register_forward_hook(record("backbone"))
    model.text_encoder.model.encoder.layer[0].output.dense.register_forward_hook(record("transformer"))
    towers = {f"{which} {place}": layer for which in ("image", "text")
              for place, layer in enumerate(getattr(model, f"{which}_tower"))}  # fmt: skip
    for name, layer in towers.items():
        layer.register_forward_hook(record(name))
    assert encode(model, *inputs()).dtype == torch.float32
    assert seen["backbone"][1] == seen["transformer"][1] == torch.bfloat16
    assert {name: seen[name] for name in towers} == dict.fromkeys(towers, (torch.float32, torch.float32))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("finetune", [False, True])
@each_text_encoder
def test_only_finetune_trains_the_image_encoder_and_nothing_the_text_encoder(text_encoder, finetune, bert):
    """A step of an optimiser that is given everything, weight decay included."""
    model = build(text_encoder=text_encoder, text_weights=bert, finetune=finetune).train()
    assert model.text_encoder.frozen and model.image_encoder.frozen is not finetune
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    images, tokens, lengths = inputs()
    image_emb, text_emb = model.encode_image(images), model.encode_text(tokens, lengths)
    contrastive(image_emb, text_emb, torch.eye(3, dtype=torch.bool), margin=1.0).backward()
    optimizer.step()
    trained = {"image_tower", "text_tower"} | ({"image_encoder"} if finetune else set())
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        assert parameter.requires_grad is (part in trained) and (parameter.grad is not None) is (part in trained)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == trained


def test_a_frozen_transformer_has_no_dropout_in_training(bert):
    model = build(text_encoder="bert", text_weights=bert, dropout=0.0).train()
    assert not any(module.training for part in (model.text_encoder, model.image_encoder) for module in part.modules())
    _, tokens, lengths = inputs()
    assert torch.equal(model.encode_text(tokens, lengths), model.encode_text(tokens, lengths))


@pytest.mark.parametrize(
    ("settings", "image_sizes", "text_sizes"),
    [
        ({}, (576, 20, 7), (8, 20, 7)),
        ({"word_dim": 5, "hidden_dim": 30, "embedding_dim": 11}, (576, 30, 11), (5, 30, 11)),
        ({"text_encoder": "bert"}, (576, 20, 7), (12, 20, 7)),
    ],
)
def test_sizes_follow_the_settings(settings, image_sizes, text_sizes, bert):
    model = build(**settings, text_weights=bert)
    assert sizes(model.image_tower) == image_sizes and sizes(model.text_tower) == text_sizes
    assert model.eval().encode_image(inputs()[0]).shape == (3, image_sizes[-1])
    assert model.encode_text(*inputs()[1:]).shape == (3, text_sizes[-1])


def sizes(layers):
    norm, first, second = layers[0], layers[1], layers[4]
    assert norm.num_features == first.in_features and first.out_features == second.in_features
    return first.in_features, first.out_features, second.out_features


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_follows_the_settings(dropout):
    model = build(dropout=dropout)
    assert model.image_tower[3].p == model.text_tower[3].p == dropout


# --- pretrained or from a run --------------------------------------------------------------------------


def test_weights_that_will_be_loaded_from_a_run_are_not_fetched_first(monkeypatch, tmp_path, learned):
    """Nor is word2vec learned again."""
    asked = []

    def fake(*given):
        asked.append(given)
        return Stub()

    monkeypatch.setattr(siamese.model, "build_image_encoder", fake)
    loaded = build(folder=tmp_path, image_weights="imagenet")
    assert asked == [("mobilenet-v3-small", "imagenet", True, tmp_path)] and learned == []
    first = build(image_weights="imagenet", finetune=True)
    assert asked[1:] == [("mobilenet-v3-small", "imagenet", False, None)] and learned == [CAPTIONS]
    loaded.load_state_dict(first.state_dict())
    _, tokens, lengths = inputs()
    assert torch.equal(loaded.eval().encode_text(tokens, lengths), first.eval().encode_text(tokens, lengths))


def test_a_transformer_is_rebuilt_from_a_run_without_its_source(monkeypatch, tmp_path, bert):
    import transformers

    first = build_settled(text_encoder="bert", text_weights=bert)
    save_text_config(first.text_encoder, tmp_path)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("fetched"))
    loaded = build(folder=tmp_path, text_encoder="bert", text_weights="/gone").eval()
    loaded.load_state_dict(first.state_dict())
    assert loaded.text_encoder.frozen and torch.equal(encode(loaded, *inputs()), encode(first, *inputs()))


def test_an_unseen_word_does_not_move_a_caption_and_order_does_not_matter():
    """The text feature is the mean of the known words' vectors."""
    encoder = build_text_encoder(SETTINGS, TOKENIZER, frozen=True)
    tokens, lengths = (torch.from_numpy(array) for array in TOKENIZER(["red disc", "a disc in bright red", "red"]))
    same, reordered, other = encoder(tokens, lengths)
    torch.testing.assert_close(same, encoder.embedding.weight[[2, 4]].mean(0))
    torch.testing.assert_close(reordered, same)
    assert not torch.allclose(other, same)


# --- bugs of the earlier implementation ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features"), [("resnet152", 2048), ("efficientnet-lite0", 1280), ("mobilenet-v1", 1024)]
)
def test_the_image_tower_is_as_wide_as_the_pooled_features(name, features):
    """And not as the classifier's 1000 classes; the text tower as a word's vector."""
    with torch.device("meta"):  # no weights are made
        model = build(image_encoder=name, word_dim=512, hidden_dim=500, embedding_dim=512)
    assert sizes(model.image_tower) == (features, 500, 512) and sizes(model.text_tower) == (512, 500, 512)
    assert not any(isinstance(module, nn.Linear) for module in model.image_encoder.modules())


def test_the_image_feature_is_the_last_convolution_pooled():
    """No softmax and no classifier between the backbone and the tower."""
    model = build_settled(image_encoder="efficientnet-lite0")
    seen = []
    model.image_tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = F.interpolate(inputs()[0], (96, 64))  # 3 x 2 places to pool
    with torch.inference_mode():
        model.encode_image(images)
        expected = model.image_encoder.backbone.network.extract_features((images - 127.5) / 127.5).mean((2, 3))
    assert seen[0].shape == (3, 1280)
    torch.testing.assert_close(seen[0], expected, atol=1e-4, rtol=1e-4)
    assert (seen[0].sum(1) - 1).abs().min() > 0.1  # of a softmax it would be 1


@pytest.mark.parametrize("noise", [0.0, 1e-8])
@pytest.mark.parametrize("by", ["distance", "cosine"])
def test_tied_distances_are_failures(by, noise):
    """A gallery with one vector for all, up to rounding: the earlier code reported the best of the tied ranks."""
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(100, 16, generator=generator), dim=1)
    gallery = torch.ones(100, 16) / 4 + noise * torch.randn(100, 16, generator=generator)
    if by == "distance":
        ranks = relevant_ranks(-distances(queries.double(), gallery.double()), torch.eye(100, dtype=torch.bool))
    else:
        ranks = rank_queries(queries, gallery, torch.arange(100).expand(2, -1))
    found = metrics(ranks)
    assert [found[f"R@{k}"] for k in (1, 5, 10)] == [0, 0, 0] and found["median_rank"] == 100


def collapse(model, which, left=0.0):
    """Let a tower give one vector for everything, or nearly so."""
    getattr(model, f"{which}_tower")[-1].weight.data.mul_(left)


def record_of(model, count=300, margin=0.5):
    """What a training would log of a gallery of pairs whose image and text features are alike."""
    features = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        image_emb, text_emb = (encoder_of(model.eval(), which)(features) for which in ("image", "text"))
        loss = contrastive(image_emb, text_emb, torch.eye(count, dtype=torch.bool), margin).item()
    pairs = torch.arange(count).expand(2, -1)
    return {
        "contrastive": loss,
        "val": {
            "image_to_text": metrics(rank_queries(image_emb, text_emb, pairs)),
            "text_to_image": metrics(rank_queries(text_emb, image_emb, pairs)),
            "R@1_at_chance": dict.fromkeys(("image_to_text", "text_to_image"), 100 / count),
            "image_spread": spread(image_emb),
            "text_spread": spread(text_emb),
        },
    }


@both_towers
def test_a_collapsed_tower_is_seen(which):
    """Its recall is 0 as a gallery, and exactly 1, 5 and 10 of 300 as queries, as in the earlier results."""
    model = stub_model()
    collapse(model, which)
    record = record_of(model)
    as_gallery, as_queries = ("text_to_image", "image_to_text")[:: 1 if which == "image" else -1]
    assert [record["val"][as_gallery][f"R@{k}"] for k in (1, 5, 10)] == [0, 0, 0]
    assert [record["val"][as_queries][f"R@{k}"] for k in (1, 5, 10)] == pytest.approx([k / 3 for k in (1, 5, 10)])
    other = "text" if which == "image" else "image"
    assert record["val"][f"{which}_spread"] < 1e-5 and record["val"][f"{other}_spread"] > 0.2
    found = warnings(record, {"contrastive": 0.5**2 / 4})
    assert f"the {which} tower has collapsed" in found[0]
    assert not any(f"the {other} tower" in line for line in found)


@both_towers
def test_a_nearly_collapsed_tower_is_seen(which):
    model = stub_model()
    collapse(model, which, left=0.05)
    record = record_of(model)
    assert 1e-5 < record["val"][f"{which}_spread"] < 0.01
    assert f"the {which} tower has collapsed" in warnings(record, {"contrastive": 0.5**2 / 4})[0]


def test_both_towers_collapsed_on_one_point_is_a_loss_above_chance_level():
    """margin^2/2, where margin^2/4 is the best that one distance between all can do."""
    model = stub_model()
    for which in ("image", "text"):
        collapse(model, which)
    model.text_tower[-1].bias.data.copy_(model.image_tower[-1].bias)
    record = record_of(model)
    assert record["contrastive"] == pytest.approx(0.5**2 / 2, rel=0.01)
    found = "\n".join(warnings(record, {"contrastive": 0.5**2 / 4}))
    assert all(words in found for words in ("the image tower", "the text tower", "contrastive is at chance level"))


def test_towers_that_learned_something_raise_no_warning():
    """The same tower for both modalities, whose features are alike here."""
    model = stub_model()
    model.text_tower.load_state_dict(model.image_tower.state_dict())
    record = record_of(model)
    assert record["val"]["image_to_text"]["R@1"] == record["val"]["text_to_image"]["R@1"] == 100
    assert warnings(record, {"contrastive": 0.5**2 / 4}) == []

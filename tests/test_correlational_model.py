"""correlational/model.py and the objective of train.py: the figure of the paper, and the bugs of earlier code."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import correlational.train
from common.batches import Batch
from common.captions import Vocabulary
from common.features import features_of
from common.recall import metrics, rank_queries
from common.text_encoders import save_text_config
from correlational.model import Correlational, DeepCorrNet, ShallowCorrNet, build_model

B, F, G, D = 9, 5, 4, 6  # batch, image view, text view, code
HIDDEN = (8, 7)
SETTINGS = SimpleNamespace(
    image_encoder="mobilenet-v3-small", image_weights="none", text_encoder="word2vec", text_weights="",
    word2vec="skip-gram", word_dim=8, word_window=2, word_epochs=1, max_words=9,
    network="deep", hidden_dims=(30, 20), code_dim=D, seed=0,
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("learned")
TOKENIZER = Vocabulary(["red", "blue", "disc", "square"], max_words=9)
CAPTIONS = ["red disc", "blue square and red disc", "blue"]
VIEWS = ("image", "text")
SOURCES = ("both", *VIEWS)
OTHER = {"image": "text", "text": "image"}
both_networks = pytest.mark.parametrize("network", ["shallow", "deep"])
both_views = pytest.mark.parametrize("view", VIEWS)
both_text_encoders = pytest.mark.parametrize("text_encoder", ["word2vec", "bert"])


@pytest.fixture
def handed_over(monkeypatch):
    """A function from a model to what train.py hands to fit() for it: `losses` and `at_chance`."""

    def hand_over(model, weight=0.3):
        handed = SimpleNamespace()

        def fit(model, embed, losses, session, at_chance, rates):
            handed.losses, handed.at_chance = lambda batch: losses(batch, *embed(batch)), at_chance

        name = "shallow" if isinstance(model.network, ShallowCorrNet) else "deep"
        settings = SimpleNamespace(network=name, correlation_weight=weight, compile=False)
        session = SimpleNamespace(
            tokenizer=None,
            precision=None,
            resumed_from=None,
            train=SimpleNamespace(captions=()),
            device="cpu",
            settings=settings,
        )
        monkeypatch.setattr("correlational.train.train_command_line", lambda *_: (None, settings))
        monkeypatch.setattr("common.session.prepare", lambda *_: session)
        monkeypatch.setattr("common.features.precompute_features", lambda session, model: session)
        monkeypatch.setattr("correlational.model.build_model", lambda *_: model)
        monkeypatch.setattr("common.training.fit", fit)
        correlational.train.main()
        return handed

    return hand_over


class Stub(nn.Module):
    """An encoder that is never asked: features are given in place of images and tokens."""

    frozen = True

    def __init__(self, dim):
        super().__init__()
        self.dim = dim


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(name, image_dim=F, text_dim=G, hidden=HIDDEN, code=D):
    """A network in float64 whose biases are not zero."""
    torch.manual_seed(0)
    if name == "deep":
        return DeepCorrNet(image_dim, text_dim, hidden, code).double()
    network = ShallowCorrNet(image_dim, text_dim, code, output=nn.Identity()).double()
    for bias in (network.bias, network.image_bias, network.text_bias):
        nn.init.normal_(bias)
    return network


def feature_model(name, image_dim=F, text_dim=G, **sizes):
    return Correlational(Stub(image_dim), Stub(text_dim), net(name, image_dim, text_dim, **sizes)).double()


def batch_of(images, tokens, lengths=None):
    """Pixels or features, tokens with their lengths or features."""
    size = len(images)
    numbers = torch.arange(size)
    lengths = numbers if lengths is None else lengths
    return Batch(images, tokens, lengths, numbers.expand(3, -1), numbers, pairs=np.arange(size))


def with_settings(**changes):
    return SimpleNamespace(**vars(SETTINGS) | changes)


def build(precision=torch.float32, folder=None, **changes):
    torch.manual_seed(0)
    return build_model(with_settings(**changes), TOKENIZER, precision, folder, CAPTIONS)


def build_settled(*arguments, **changes):
    """With norms that have seen the inputs: else the features of random weights hardly differ."""
    model = build(*arguments, **changes).train()
    for part in model.image_encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean of all batches, one here
            part.train()
    for norm in (model.image_standard, model.text_standard):
        norm.momentum = None
    with torch.no_grad():
        model.image_encoder(inputs()[0])
        encode(model.train(), *inputs())
    return model.eval()


def inputs():
    images = torch.randint(0, 256, (3, 3, 32, 24), generator=torch.Generator().manual_seed(0)).byte()
    return images, *(torch.from_numpy(array) for array in TOKENIZER(CAPTIONS))


def encode(model, images, tokens, lengths):
    """Both codes one after the other, (2 B, D)."""
    return torch.cat([model.encode_image(images), model.encode_text(tokens, lengths)])


def encode_features(model, view, features):
    if view == "image":
        return model.encode_image(features)
    return model.encode_text(features, torch.ones(len(features), dtype=torch.int64))


def standardised(features):
    return (features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()


# --- the shallow network -------------------------------------------------------------------------------


def test_shallow_codes_are_the_papers():
    network, image, text = net("shallow"), draw(B, F), draw(B, G, seed=1)
    image_weight, text_weight, bias = (
        value.detach().numpy() for value in (network.image_weight, network.text_weight, network.bias)
    )
    from_image, from_text = image.numpy() @ image_weight.T, text.numpy() @ text_weight.T
    for found, total in (
        (network.encode(image, text), from_image + from_text + bias),
        (network.encode(image=image), from_image + bias),
        (network.encode(text=text), from_text + bias),
    ):
        np.testing.assert_allclose(found.detach().numpy(), 1 / (1 + np.exp(-total)), rtol=1e-12)


@pytest.mark.parametrize("output", [nn.Identity(), nn.Sigmoid()], ids=["linear", "sigmoid"])
def test_shallow_reconstructions_are_the_papers(output):
    """By the transposed weights of the encoder."""
    network, code = net("shallow"), draw(B, D)
    network.output = output
    image, text = network.decode(code)
    torch.testing.assert_close(image, output(code @ network.image_weight + network.image_bias))
    torch.testing.assert_close(text, output(code @ network.text_weight + network.text_bias))
    assert image.shape == (B, F) and text.shape == (B, G)


def test_shallow_weights_are_tied_and_the_codes_bias_is_shared():
    network = net("shallow")
    shapes = sorted(tuple(parameter.shape) for parameter in network.parameters())
    assert shapes == sorted([(D, F), (D, G), (D,), (F,), (G,)])


@both_views
def test_one_weight_encodes_and_decodes(view):
    """Changing it changes both, and both give it a gradient."""
    network, features, code = net("shallow"), draw(B, F if view == "image" else G), draw(B, D)
    weight, place = getattr(network, f"{view}_weight"), VIEWS.index(view)
    before = network.encode(**{view: features}), network.decode(code)[place]
    gradients = [torch.autograd.grad(value.sum(), weight)[0] for value in before]
    with torch.no_grad():
        weight += 0.1
    after = network.encode(**{view: features}), network.decode(code)[place]
    for gradient, old, new in zip(gradients, before, after, strict=True):
        assert gradient.norm() > 0.1 and not torch.isclose(old, new).any()


def test_one_bias_serves_both_views():
    network = net("shallow")
    nothing = network.bias.sigmoid()
    torch.testing.assert_close(network.encode(image=torch.zeros(1, F).double())[0], nothing)
    torch.testing.assert_close(network.encode(text=torch.zeros(1, G).double())[0], nothing)


@both_views
def test_shallow_code_of_one_view_is_exactly_that_with_zeros_for_the_other(view):
    network, features = net("shallow"), draw(B, F if view == "image" else G)
    zeros = torch.zeros(B, G if view == "image" else F, dtype=torch.float64)
    assert torch.equal(network.encode(**{view: features}), network.encode(**{view: features, OTHER[view]: zeros}))


# --- the deep network ----------------------------------------------------------------------------------


def branch_by_hand(branch, view):
    """Linear, ReLU, Linear, ReLU, Linear, batch norm of a training."""
    first, second, third = (layer for layer in branch.modules() if isinstance(layer, nn.Linear))
    hidden = (view @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    assert hidden.eq(0).any()
    return standardised(hidden @ third.weight.T + third.bias)


def test_deep_codes_are_the_branches_summed():
    network, image, text = net("deep").train(), draw(B, F), draw(B, G, seed=1)
    from_image, from_text = branch_by_hand(network.image_branch, image), branch_by_hand(network.text_branch, text)
    torch.testing.assert_close(network.encode(image, text), (from_image + from_text).tanh())
    torch.testing.assert_close(network.encode(image=image), from_image.tanh())
    torch.testing.assert_close(network.encode(text=text), from_text.tanh())


@both_views
def test_deep_code_of_one_view_is_not_that_with_zeros_for_the_other(view):
    """A vector of zeros would add the biases of its branch: the branch is left out."""
    network, features = net("deep").train(), draw(B, F if view == "image" else G)
    for seed in range(20):  # the norms see something
        network.encode(draw(B, F, seed=seed), draw(B, G, seed=seed + 20))
    network.eval()
    zeros = torch.zeros(B, G if view == "image" else F, dtype=torch.float64)
    alone, beside_zeros = network.encode(**{view: features}), network.encode(**{view: features, OTHER[view]: zeros})
    assert (alone - beside_zeros).abs().max() > 0.05


@both_views
def test_a_branch_left_out_is_not_run(view):
    """It gets no gradient and its norm sees no batch."""
    network, features = net("deep").train(), draw(B, F if view == "image" else G)
    code = network.encode(**{view: features})
    sum(part.square().sum() for part in network.decode(code)).backward()
    ran, other = (getattr(network, f"{name}_branch") for name in (view, OTHER[view]))
    assert ran[-1].num_batches_tracked == 1 and other[-1].num_batches_tracked == 0
    assert all(parameter.grad is not None for parameter in ran.parameters())
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize("hidden", [(300, 200), (11,), (13, 12, 11)], ids=str)
def test_decoders_mirror_the_branches(hidden):
    network = DeepCorrNet(64, 32, hidden, 50)
    for view, dim in (("image", 64), ("text", 32)):
        assert sizes(getattr(network, f"{view}_branch")) == [dim, *hidden, 50]
        assert sizes(getattr(network, f"{view}_decoder")) == [50, *reversed(hidden), dim]


def sizes(layers):
    linear = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


@both_views
def test_deep_reconstructions_are_three_layers_without_a_relu_at_the_end(view):
    network, code = net("deep"), draw(B, D)
    decoder = getattr(network, f"{view}_decoder")
    first, second, third = (layer for layer in decoder.modules() if isinstance(layer, nn.Linear))
    hidden = (code @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    expected = hidden @ third.weight.T + third.bias
    torch.testing.assert_close(network.decode(code)[VIEWS.index(view)], expected)
    assert hidden.eq(0).any() and hidden.gt(0).any()


def test_deep_parts_share_nothing():
    network = net("deep")
    parts = [getattr(network, f"{view}_{part}") for view in VIEWS for part in ("branch", "decoder")]
    owned = [parameter for part in parts for parameter in part.parameters()]
    assert len(owned) == len({id(parameter) for parameter in owned}) == len(list(network.parameters())) == 4 * 3 * 2


# --- no ReLU on codes and reconstructions --------------------------------------------------------------


def test_deep_codes_go_in_all_directions():
    network = net("deep", code=50).train()
    for code in (network.encode(draw(200, F)), network.encode(text=draw(200, G))):
        assert 0.3 < (code < 0).double().mean() < 0.7 and code.std(0).min() > 0.3


def test_shallow_codes_are_on_both_sides_of_the_middle():
    """A ReLU before the sigmoid would leave none below."""
    network = net("shallow", code=50)
    for code in (network.encode(draw(200, F)), network.encode(text=draw(200, G))):
        assert 0.3 < (code < 0.5).double().mean() < 0.7 and code.min() > 0 and code.max() < 1


@pytest.mark.parametrize("target", [-2.0, 2.0])
@both_networks
def test_decoders_can_fit_features_of_either_sign_and_size(network, target):
    """As `build_model` makes them: a ReLU would stay at 0 and a sigmoid or tanh within 1."""
    model = build(network=network).train()
    code = torch.rand(20, D, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.network.parameters(), lr=0.05)
    for _ in range(200):
        decoded = model.network.decode(code)
        loss = sum((part - target).square().mean() for part in decoded)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # of 8 at the start
    assert all(target * part.min() > 0 and target * part.max() > 0 for part in decoded)


@both_networks
def test_reconstructions_take_both_signs(network):
    model = build(network=network).train()
    for source in SOURCES:
        views = {"image": torch.randn(50, model.image_encoder.dim), "text": torch.randn(50, model.text_encoder.dim)}
        code = model.network.encode(**(views if source == "both" else {source: views[source]}))
        for decoded in model.network.decode(code):
            assert 0.2 < (decoded < 0).float().mean() < 0.8


# --- from features to codes ----------------------------------------------------------------------------


@both_networks
@both_views
def test_features_are_standardised_before_the_network(network, view):
    model = feature_model(network).train()
    dim = F if view == "image" else G
    features = 10 ** draw(dim, seed=1) * draw(B, dim) + 100 * draw(dim, seed=2)
    expected = model.network.encode(**{view: standardised(features)})
    torch.testing.assert_close(encode_features(model, view, features), expected)


@both_networks
@both_views
def test_in_evaluation_features_are_standardised_as_in_training(network, view):
    """With the statistics that training saw, not with those of the batch."""
    model = feature_model(network)
    standard, dim = getattr(model, f"{view}_standard"), F if view == "image" else G
    standard.running_mean.copy_(draw(dim, seed=1))
    standard.running_var.copy_(draw(dim, seed=2).square() + 0.5)
    model.eval()
    features = draw(B, dim)
    expected = (features - standard.running_mean) / (standard.running_var + 1e-5).sqrt()
    found = encode_features(model, view, features)
    torch.testing.assert_close(found, model.network.encode(**{view: expected}))
    torch.testing.assert_close(encode_features(model, view, features[3:4]), found[3:4])


@both_networks
@both_views
def test_a_view_is_encoded_by_its_own_weights_and_no_others(network, view):
    """The features of both views have the same size here, so that swapped views would go unnoticed."""
    model, features = feature_model(network, 5, 5).eval(), draw(B, 5)
    expected = encode_features(model, view, features)
    spoilt = copy.deepcopy(model)
    for name, value in [*spoilt.named_parameters(), *spoilt.named_buffers()]:
        if OTHER[view] in name:
            nn.init.constant_(value, 3.0) if value.is_floating_point() else value.fill_(3)
    assert torch.equal(encode_features(spoilt, view, features), expected)
    assert not torch.isclose(encode_features(spoilt, OTHER[view], features), expected).all()
    for name, value in model.named_parameters():
        if name.startswith(f"network.{view}_"):
            nn.init.zeros_(value)
    nothing = encode_features(model, view, features)
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))
    assert (nothing - expected).abs().max() > 0.05


def paired_features(size):
    """Image and text features (size, 16) of the same 8 hidden numbers, a little noise, one map a view."""
    hidden = draw(size, 8)
    return [hidden @ draw(8, 16, seed=10 + k) + 0.3 * draw(size, 16, seed=20 + k) for k in range(2)]


def recall(queries, gallery):
    return metrics(rank_queries(queries, gallery, torch.arange(len(queries)).repeat(2, 1)))


@pytest.mark.parametrize(("network", "weight"), [("shallow", 2.0), ("deep", 0.05)])
def test_a_trained_network_finds_the_text_and_with_swapped_views_it_does_not(network, weight, handed_over):
    image, text = paired_features(500)
    model = feature_model(network, 16, 16, hidden=(40, 30), code=12).train()
    losses = handed_over(model, weight).losses
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(50):
        for pairs in torch.arange(400).split(100):
            loss = sum(losses(batch_of(image[pairs], text[pairs])).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    image, text = image[400:], text[400:]
    with torch.inference_mode():
        right = [encode_features(model, "image", image), encode_features(model, "text", text)]
        swapped = [encode_features(model, "text", image), encode_features(model, "image", text)]
    for codes, low, high in ((right, 60, 100), (swapped, 0, 15)):
        for queries, gallery in (codes, codes[::-1]):
            found = recall(queries, gallery)
            print(found)
            assert low <= found["R@1"] and found["R@5"] <= high


# --- the objective of train.py -------------------------------------------------------------------------


@both_networks
def test_the_objective_is_three_reconstructions_of_both_views_and_the_correlation(network, handed_over):
    model = feature_model(network).train()
    image, text = 3 * draw(B, F) + 1, draw(B, G, seed=1) - 2
    terms = handed_over(model, weight=0.3).losses(batch_of(image, text))
    views = {"image": standardised(image), "text": standardised(text)}
    codes = {view: model.network.encode(**{view: views[view]}) for view in VIEWS}
    codes["both"] = model.network.encode(views["image"], views["text"])
    target = torch.cat([views["image"], views["text"]], 1)
    correlations = [
        np.corrcoef(codes["image"].detach().numpy()[:, k], codes["text"].detach().numpy()[:, k])[0, 1] for k in range(D)
    ]
    expected = {"correlation": -0.3 * sum(correlations)}
    for source, code in codes.items():
        error = (torch.cat(model.network.decode(code), 1) - target).square()
        expected[f"reconstruction_{source}"] = (error.sum() / 2 / B if network == "shallow" else error.mean()).item()
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.network.parameters())


def test_the_norms_of_the_branches_see_features_and_nothing_else(handed_over):
    """In training a batch of zeros in place of a missing view changes no loss, but what these norms remember."""
    model = feature_model("deep").train()
    image, text = 3 * draw(B, F) + 1, draw(B, G, seed=1) - 2
    branches = model.network.image_branch, model.network.text_branch
    for branch in branches:
        branch[-1].momentum = None  # the mean of all batches
    handed_over(model).losses(batch_of(image, text))
    for branch, view in zip(branches, (image, text), strict=True):
        seen = branch[0](standardised(view))
        torch.testing.assert_close(branch[-1].running_mean, seen.mean(0))
        torch.testing.assert_close(branch[-1].running_var, seen.var(0))


@pytest.mark.parametrize("source", SOURCES)
@both_views
@both_networks
def test_every_code_has_to_reconstruct_both_views(network, view, source, handed_over):
    """Another text changes the loss of the code of the image alone, and the text's decoder learns from it."""
    model = feature_model(network).train()
    losses = handed_over(model).losses
    views = {"image": draw(B, F), "text": draw(B, G, seed=1)}
    term = losses(batch_of(*views.values()))[f"reconstruction_{source}"]
    term.backward()
    decoder = getattr(model.network, "text_decoder" if view == "text" else "image_decoder", None)
    learner = getattr(model.network, f"{view}_bias") if decoder is None else decoder[-1].weight
    assert learner.grad.norm() > 0.01
    changed = views | {view: draw(*views[view].shape, seed=9)}
    assert (losses(batch_of(*changed.values()))[f"reconstruction_{source}"] - term).abs() > 1e-6


@both_networks
def test_gradients_of_the_whole_objective_are_right(network, handed_over):
    model = feature_model(network, 3, 2, hidden=(4, 3), code=2).train()
    losses = handed_over(model, weight=1.5).losses
    batch = batch_of(draw(6, 3), draw(6, 2, seed=1))
    # gradcheck moves the numbers of the parameters themselves
    assert torch.autograd.gradcheck(lambda *_: sum(losses(batch).values()), list(model.network.parameters()))


@both_networks
def test_at_chance_is_what_the_mean_of_the_features_gives(network, handed_over):
    """For the log: decoders that give zeros whatever the code, and codes that do not vary."""
    model = feature_model(network).train()
    handed = handed_over(model)
    for name, parameter in model.network.named_parameters():
        if network == "shallow" or "decoder" in name:
            nn.init.zeros_(parameter)
    terms = handed.losses(batch_of(3 * draw(200, F) + 1, draw(200, G, seed=1)))
    if network == "deep":
        terms["correlation"] = torch.zeros(())
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(handed.at_chance, rel=1e-3, abs=1e-9)


# --- with encoders -------------------------------------------------------------------------------------


@both_text_encoders
@both_networks
def test_a_batch_of_one_is_encoded_as_within_a_batch(network, text_encoder, bert):
    model = build_settled(network=network, text_encoder=text_encoder, text_weights=bert)
    images, tokens, lengths = inputs()
    with torch.inference_mode():
        together = encode(model, images, tokens, lengths)  # (2 * 3, D)
        assert together.shape == (6, D) and torch.cdist(together, together).add(torch.eye(6)).min() > 0.05
        for one in range(3):
            alone = encode(model, images[one, None], tokens[one, None], lengths[one, None])
            torch.testing.assert_close(alone, together[[one, 3 + one]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@both_text_encoders
@both_networks
def test_features_in_place_of_pixels_and_tokens_give_exactly_the_same(network, text_encoder, precision, bert):
    model = build_settled(precision, network=network, text_encoder=text_encoder, text_weights=bert)
    images, tokens, lengths = inputs()
    with torch.inference_mode():
        of_images = features_of(model.image_encoder, precision, images)
        of_texts = features_of(model.text_encoder, precision, tokens, lengths)
    assert of_images.shape == (3, 576) and of_texts.shape == (3, 12 if text_encoder == "bert" else 8)
    assert of_images.dtype == of_texts.dtype == torch.float32
    for training in (False, True):
        model.train(training)
        expected = encode(model, images, tokens, lengths)
        assert torch.equal(encode(model, of_images.clone(), of_texts.clone(), lengths), expected)


@both_networks
def test_bfloat16_is_for_the_encoders_only(network, bert):
    model = build(torch.bfloat16, network=network, text_encoder="bert", text_weights=bert).train()
    seen = {}

    def record(name):
        return lambda _, inputs, output: seen.update({name: (inputs[0].dtype, output.dtype)})

    model.image_encoder.backbone.register_forward_hook(record("backbone"))
    model.text_encoder.model.encoder.layer[0].output.dense.register_forward_hook(record("transformer"))
    kinds = (nn.Linear, nn.BatchNorm1d)
    own = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, kinds) and not name.startswith(("image_encoder", "text_encoder")) and "decoder" not in name
    }
    for name, layer in own.items():
        layer.register_forward_hook(record(name))
    codes = encode(model, *inputs())
    assert codes.dtype == torch.float32 and {part.dtype for part in model.network.decode(codes)} == {torch.float32}
    assert seen["backbone"][1] == seen["transformer"][1] == torch.bfloat16
    assert len(own) == (2 if network == "shallow" else 2 + 2 * 4)
    assert {name: seen[name] for name in own} == dict.fromkeys(own, (torch.float32, torch.float32))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@both_text_encoders
@both_networks
def test_the_encoders_are_never_trained(network, text_encoder, bert, handed_over):
    """A step of an optimiser that is given everything, weight decay included."""
    model = build(network=network, text_encoder=text_encoder, text_weights=bert).train()
    assert model.image_encoder.frozen and model.text_encoder.frozen
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    images, tokens, lengths = inputs()
    sum(handed_over(model).losses(batch_of(images, tokens, lengths)).values()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is (parameter.grad is not None) is name.startswith("network.")
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"network", "image_standard", "text_standard"}


@pytest.mark.parametrize(
    ("settings", "image_dim", "text_dim"),
    [({}, 576, 8), ({"word_dim": 5}, 576, 5), ({"text_encoder": "bert"}, 576, 12)],
)
@pytest.mark.parametrize("hidden", [(300, 200), (30, 20)], ids=str)
@pytest.mark.parametrize("code", [50, 7])
def test_sizes_follow_the_settings(settings, image_dim, text_dim, hidden, code, bert):
    settings = settings | {"code_dim": code, "hidden_dims": hidden, "text_weights": bert}
    deep, shallow = (build(network=network, **settings).network for network in ("deep", "shallow"))
    for view, dim in (("image", image_dim), ("text", text_dim)):
        assert sizes(getattr(deep, f"{view}_branch")) == [dim, *hidden, code]
        assert sizes(getattr(deep, f"{view}_decoder")) == [code, *hidden[::-1], dim]
        assert getattr(shallow, f"{view}_weight").shape == (code, dim)


# --- pretrained or from a run --------------------------------------------------------------------------


@both_networks
def test_weights_that_will_be_loaded_from_a_run_are_not_fetched_first(network, monkeypatch, tmp_path, learned):
    """Nor is word2vec learned again."""
    asked = []

    def fake(*given, frozen, folder):
        asked.append((*given, frozen, folder))
        return Stub(F)

    monkeypatch.setattr("correlational.model.build_image_encoder", fake)
    loaded = build(network=network, folder=tmp_path, image_weights="imagenet").eval()
    assert asked == [("mobilenet-v3-small", "imagenet", True, tmp_path)] and learned == []
    first = build(network=network, image_weights="imagenet").eval()
    assert asked[1:] == [("mobilenet-v3-small", "imagenet", True, None)] and learned == [CAPTIONS]
    loaded.load_state_dict(first.state_dict())
    _, tokens, lengths = inputs()
    assert torch.equal(loaded.encode_text(tokens, lengths), first.encode_text(tokens, lengths))


def test_a_transformer_is_rebuilt_from_a_run_without_its_source(monkeypatch, tmp_path, bert):
    import transformers

    first = build_settled(text_encoder="bert", text_weights=bert)
    save_text_config(first.text_encoder, tmp_path)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("fetched"))
    loaded = build(folder=tmp_path, text_encoder="bert", text_weights="/gone").eval()
    loaded.load_state_dict(first.state_dict())
    assert loaded.text_encoder.frozen and torch.equal(encode(loaded, *inputs()), encode(first, *inputs()))

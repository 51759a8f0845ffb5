"""Text encoders by name: token numbers to one feature a caption."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from common.captions import (
    PADDING,
    TRANSFORMER_FOLDER,
    UNKNOWN,
    Tokenizer,
    TransformerTokenizer,
    Vocabulary,
    first_line,
)
from common.devices import send
from common.errors import InputError

FIRST_DEVIATION = 0.1
"""Standard deviation of word vectors that are learned and averaged, at the start."""


class BiLSTM(nn.Module):
    """Word embeddings, a bidirectional LSTM and the maximum over time (Zhang and Lu 2018, section 3.2).

    The sequences are packed, so the backward direction starts at each caption's own last word,
    and padding takes no part in the maximum.
    """

    def __init__(self, vocabulary_size: int, word_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.dim = 2 * hidden_dim
        self.embedding = nn.Embedding(vocabulary_size, word_dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(word_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 padded with 0, (B,) int64 on the CPU -> (B, 2 * hidden_dim)"""
        vectors = self.dropout(self.embedding(tokens))  # (B, L, word_dim)
        # Not the vectors are packed but their places, on the CPU: torch packs and unpacks word by word of the longest
        # caption, and its copies to a GPU wait until that has finished everything before.
        places = torch.arange(tokens.numel()).view(tokens.shape)
        packed = pack_padded_sequence(places, lengths, batch_first=True, enforce_sorted=False)
        places = send(packed.data, tokens.device)  # (words,)
        words = vectors.flatten(0, 1).index_select(0, places)  # (words, word_dim)
        with torch.autocast(tokens.device.type, enabled=False):  # cuDNN's LSTM would run in float16
            states = self.lstm(PackedSequence(words, packed.batch_sizes))[0].data  # (words, 2 * hidden_dim)
        padding = states.new_full((tokens.numel(), self.dim), float("-inf"))
        states = padding.index_copy(0, places, states).view(*tokens.shape, self.dim)  # (B, L, 2 * hidden_dim)
        return self.dropout(states.amax(1))


class WordMean(nn.Module):
    """The mean of the vectors of a caption's known words: word2vec's as they are, or vectors that are learned.

    A caption without a known word has the vector of an unknown word; word2vec's is the mean of all words
    of the training captions.

    Attributes:
        dim: size of a word's vector.
        frozen: whether the vectors stay as they are.
    """

    def __init__(self, vectors: Tensor, frozen: bool = True, dropout: float = 0.0) -> None:
        """vectors: (vocabulary size, dim), those of padding and of an unknown word first"""
        super().__init__()
        self.dim = vectors.shape[1]
        self.frozen = frozen
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=frozen)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 padded with 0, (B,) int64 on the CPU -> (B, dim)"""
        known = tokens > UNKNOWN  # (B, L)
        counted = known | ((tokens == UNKNOWN) & ~known.any(1, keepdim=True))
        total = (self.dropout(self.embedding(tokens)) * counted[..., None]).sum(1)  # (B, dim)
        return total / counted.sum(1, keepdim=True)


class Transformer(nn.Module):
    """Any encoder of transformers, its last states averaged over the caption's tokens.

    Attributes:
        dim: size of a state.
        frozen: no gradient and no dropout.
    """

    def __init__(self, model: nn.Module, frozen: bool = False) -> None:
        super().__init__()
        self.model = model
        self.dim = model.config.hidden_size
        self.frozen = frozen
        self.model.requires_grad_(not frozen)
        self.train()

    def train(self, mode: bool = True) -> "Transformer":
        return super().train(mode and not self.frozen)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 padded with 0, (B,) int64 on the CPU -> (B, hidden size)"""
        mask = send(torch.arange(tokens.shape[1]) < lengths[:, None], tokens.device)  # (B, L)
        states = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state  # (B, L, D)
        states = states.float() * mask[..., None]
        return states.sum(1) / mask.sum(1, keepdim=True)


def build_tokenizer(settings: Any, train_captions: Iterable[str]) -> Tokenizer:
    """The tokenizer that the text encoder needs; a vocabulary comes from the training captions alone."""
    if settings.text_encoder == "bert":
        return TransformerTokenizer(settings.text_weights, settings.max_words)
    return Vocabulary.from_captions(train_captions, settings.min_word_count, settings.max_words)


def load_tokenizer(settings: Any, folder: Path) -> Tokenizer:
    """The tokenizer of a run folder."""
    if settings.text_encoder == "bert":
        return TransformerTokenizer.load(folder, settings.max_words)
    return Vocabulary.load(folder)


def build_text_encoder(
    settings: Any, tokenizer: Tokenizer, frozen: bool, folder: Path | None = None, train_captions: Sequence[str] = ()
) -> nn.Module:
    """Build an encoder.

    Args:
        settings: the hyperparameters whose names begin with text, word or lstm.
        tokenizer: what `build_tokenizer` or `load_tokenizer` gave.
        frozen: whether to keep it as it is in training; word2vec always is.
        folder: a run folder whose weights will be loaded: nothing pretrained is fetched then.
        train_captions: what word2vec learns from.

    Raises:
        InputError: the pretrained encoder cannot be had.
    """
    if settings.text_encoder in ("bilstm", "mean"):
        if folder is None and frozen:
            raise InputError(
                f"freeze_text_encoder = true: '{settings.text_encoder}' starts from random weights, "
                "it has to be trained"
            )
        if settings.text_encoder == "mean":
            # small at first: what is learned soon outweighs it, also of words that are seen a few times
            vectors = FIRST_DEVIATION * torch.randn(len(tokenizer), settings.word_dim)
            return WordMean(vectors, frozen=False, dropout=settings.dropout)
        return BiLSTM(len(tokenizer), settings.word_dim, settings.lstm_dim, settings.dropout)
    if settings.text_encoder == "word2vec":
        if folder is not None:
            return WordMean(torch.zeros(len(tokenizer), settings.word_dim))
        from common.word2vec import word_vectors

        return WordMean(torch.from_numpy(word_vectors(tokenizer, train_captions, settings)))
    import transformers

    # a checkpoint that also holds a classifier or pooler is reported at length; it is of no concern here
    transformers.logging.set_verbosity_error()
    if folder is not None:
        config = transformers.AutoConfig.from_pretrained(folder / TRANSFORMER_FOLDER, trust_remote_code=False)
        return Transformer(transformers.AutoModel.from_config(config, trust_remote_code=False), frozen)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = transformers.AutoModel.from_pretrained(settings.text_weights, trust_remote_code=False)
            return Transformer(model, frozen)
    except (OSError, ValueError) as error:
        raise InputError(f"text_weights = {settings.text_weights!r}: no model there ({first_line(error)})") from None


def save_text_config(encoder: nn.Module, folder: Path) -> None:
    """Write what `build_text_encoder` needs to rebuild a transformers encoder from a run folder."""
    if isinstance(encoder, Transformer):
        encoder.model.config.save_pretrained(folder / TRANSFORMER_FOLDER)

"""Captions as numbers: folding, the word vocabulary and the tokenizers of transformers."""

import json
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from common.columns import AT_ONCE
from common.errors import InputError
from common.files import write_atomically

PADDING, UNKNOWN = 0, 1
WITHOUT_SPACES = re.compile("([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff])")
"""Thai, Japanese and Chinese, whose words are not parted by spaces: each sign is taken for a word."""
VOCABULARY_FILE = "vocabulary.json"
TRANSFORMER_FOLDER = "text_encoder"

Tokens = tuple[np.ndarray, np.ndarray]
"""(N, L) int32 token numbers padded with 0 at the end, and (N,) int64 lengths of at least 1."""


def fold(caption: str) -> str:
    """The caption without differences of case and white space; equal folded captions are the same."""
    return " ".join(unicodedata.normalize("NFC", caption.casefold()).split())


def words(caption: str) -> list[str]:
    """The words of a caption: runs of letters, their marks, digits and underscores, without case."""
    spaced = WITHOUT_SPACES.sub(r" \1 ", fold(caption))
    return "".join(sign if sign == "_" or unicodedata.category(sign)[0] in "LMN" else " " for sign in spaced).split()


class Vocabulary:
    """Numbers for words. Number 0 is padding, 1 any word that the training captions lack.

    Args:
        known: the words, the first one gets number 2.
        max_words: longer captions are cut.
    """

    def __init__(self, known: Sequence[str], max_words: int) -> None:
        self.known = list(known)
        self.max_words = max_words
        self.number = {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int, max_words: int) -> "Vocabulary":
        """Collect the words that occur at least `min_count` times, the most frequent first."""
        counts = Counter(word for caption in captions for word in words(caption))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)), max_words)

    def __len__(self) -> int:
        return len(self.known) + UNKNOWN + 1

    def __call__(self, captions: Iterable[str]) -> Tokens:
        """Encode captions; one without any word becomes a single unknown word."""
        return pad(
            [self.number.get(word, UNKNOWN) for word in words(caption)[: self.max_words]] or [UNKNOWN]
            for caption in captions
        )

    def unknown_share(self, captions: Iterable[str]) -> float:
        """The share of the captions' words that the vocabulary lacks."""
        count = unknown = 0
        for caption in captions:
            found = words(caption)
            count += len(found)
            unknown += sum(word not in self.number for word in found)
        return unknown / max(1, count)

    def save(self, folder: Path) -> None:
        content = {"max_words": self.max_words, "words": self.known}
        write_atomically(folder / VOCABULARY_FILE, json.dumps(content, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        content = json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))
        return cls(content["words"], content["max_words"])


class TransformerTokenizer:
    """The tokenizer of a transformers encoder, by hub name or from a local folder.

    Raises:
        InputError: the tokenizer cannot be had.
    """

    def __init__(self, name: str, max_words: int) -> None:
        import transformers

        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            why = first_line(error) if name else "it is empty"
            raise InputError(
                f"text_weights = {name!r}: no tokenizer there ({why}). Give the folder of a "
                "transformers model, the name of one that this machine can download, or choose another text_encoder"
            ) from None
        # two more for the tokens that mark beginning and end
        self.max_length = min(max_words + 2, self.tokenizer.model_max_length)

    def __call__(self, captions: Iterable[str]) -> Tokens:
        captions = iter(captions)
        pieces = iter(lambda: list(islice(captions, AT_ONCE)), [])
        encoded = (self.tokenizer(piece, truncation=True, max_length=self.max_length) for piece in pieces)
        return pad(chain.from_iterable(piece["input_ids"] for piece in encoded))

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder / TRANSFORMER_FOLDER)

    @classmethod
    def load(cls, folder: Path, max_words: int) -> "TransformerTokenizer":
        return cls(str(folder / TRANSFORMER_FOLDER), max_words)


Tokenizer = Vocabulary | TransformerTokenizer


def describe_unknown(tokenizer: Tokenizer, tokens_of: dict[str, np.ndarray]) -> str:
    """Say how much of each split's captions, as its tokens (N, L), the tokenizer does not know."""
    if not isinstance(tokenizer, Vocabulary):
        return "words: cut into the pieces that the text encoder knows"
    parts = [f"vocabulary: {len(tokenizer.known):,} words of the train captions"]
    for split, tokens in tokens_of.items():
        unknown = (tokens == UNKNOWN).sum() / max(1, (tokens != PADDING).sum())
        lost = (tokens.max(1, initial=PADDING) <= UNKNOWN).sum()
        parts.append(
            f"in {split} {unknown:.1%} of the words are unknown, "
            f"{lost:,} of {len(tokens):,} captions have no known word"
        )
    return "; ".join(parts)


def pad(numbers: Iterable[Sequence[int]]) -> Tokens:
    """Token lists as a (N, L) array padded with 0, and their lengths."""
    tokens, counts = array("i"), array("i")
    for row in numbers:
        tokens.extend(row)
        counts.append(len(row))
    lengths = np.asarray(counts, dtype=np.int64)
    padded = np.full((len(lengths), lengths.max(initial=1)), PADDING, dtype=np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.asarray(tokens)
    return padded, lengths


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

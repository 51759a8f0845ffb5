"""Word vectors learned from the training captions (word2vec, Mikolov et al. 2013, by gensim)."""

from array import array
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec
from tqdm import tqdm

from common.captions import UNKNOWN, Vocabulary, words
from common.files import kept_array
from common.hashing import digest, hashed, json_list


def word_vectors(vocabulary: Vocabulary, captions: Sequence[str], settings: Any) -> np.ndarray:
    """The vectors of a vocabulary's words, learned from captions; kept on disk by all that they depend on.

    Args:
        vocabulary: the words; others are passed over.
        captions: of the training split alone.
        settings: the hyperparameters word2vec, word_dim, word_window, word_epochs and seed.

    Returns:
        (vocabulary size, word_dim) float32: zeros for padding, for an unknown word the mean over all
        words of the captions.
    """
    chosen = [settings.word2vec, settings.word_dim, settings.word_window, settings.word_epochs, settings.seed]
    key = digest([version("gensim"), version("numpy"), chosen, vocabulary.known])
    name = f"word2vec-{hashed(json_list(captions))}-{digest(chosen)}"
    shape = (len(vocabulary), settings.word_dim)
    return np.array(kept_array(name, key, shape, lambda vectors: learn(vectors, vocabulary, captions, settings)))


def learn(vectors: np.ndarray, vocabulary: Vocabulary, captions: Sequence[str], settings: Any) -> None:
    """Fill the vectors (vocabulary size, word_dim)."""
    sentences = Sentences(vocabulary, captions)
    if not len(sentences.numbers):
        return
    with tqdm(total=settings.word_epochs, desc="learning word2vec", unit="epoch") as bar:
        model = Word2Vec(
            sentences,
            vector_size=settings.word_dim,
            window=settings.word_window,
            epochs=settings.word_epochs,
            sg=int(settings.word2vec == "skip-gram"),
            seed=settings.seed,
            min_count=1,  # the vocabulary has left out the rare ones
            workers=1,  # more would let the result depend on their timing
            callbacks=[Epochs(bar)],
        )
    for word, number in vocabulary.number.items():
        vectors[number] = model.wv[word]
    counts = [model.wv.get_vecattr(word, "count") for word in vocabulary.known]
    vectors[UNKNOWN] = np.average(vectors[UNKNOWN + 1 :], axis=0, weights=counts)


class Sentences:
    """The known words of each caption, as often as they are asked for; kept as numbers, 4 bytes each.

    Attributes:
        numbers: (W,) int32 of all words, one caption after the other.
        ends: (M,) int64, where each caption ends in them.
    """

    def __init__(self, vocabulary: Vocabulary, captions: Sequence[str]) -> None:
        self.word_of = dict(enumerate(vocabulary.known, start=UNKNOWN + 1))
        numbers, ends = array("i"), array("q")
        for caption in captions:
            numbers.extend(vocabulary.number[word] for word in words(caption) if word in vocabulary.number)
            ends.append(len(numbers))
        self.numbers, self.ends = np.asarray(numbers), np.asarray(ends)

    def __iter__(self) -> Iterator[list[str]]:
        start = 0
        for end in self.ends:
            yield [self.word_of[number] for number in self.numbers[start:end].tolist()]
            start = end


class Epochs(CallbackAny2Vec):
    """Moves a progress bar on after each epoch."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def on_epoch_end(self, model: Word2Vec) -> None:
        self.bar.update()

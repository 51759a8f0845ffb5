"""common/word2vec.py and the mean of its vectors: what is learned, from which captions, and what unknown words get."""

import dataclasses
import functools
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from gensim.models import Word2Vec
from tiny_runs import evaluate, metrics, remove_caches, train, use_patches, weights

import common.training
import common.word2vec
from common.captions import PADDING, UNKNOWN, Vocabulary, words
from common.files import kept_array
from common.text_encoders import WordMean, build_text_encoder
from common.word2vec import Sentences, word_vectors

ROOT = Path(__file__).resolve().parents[1]
WORDS = {"warm": ["wool", "coat", "winter", "scarf", "thick"], "cool": ["linen", "shirt", "summer", "sandal", "thin"]}


def some_captions(count: int = 60) -> list[str]:
    """Each caption has words of one kind alone, and a word of its own."""
    chance = random.Random(0)
    kinds = [list(WORDS)[number % 2] for number in range(count)]
    return [f"{' '.join(chance.choices(WORDS[kind], k=6))} No{number}" for number, kind in enumerate(kinds)]


@dataclasses.dataclass(frozen=True)
class Settings:
    word2vec: str = "skip-gram"
    word_dim: int = 6
    word_window: int = 4
    word_epochs: int = 3
    seed: int = 0


CAPTIONS = some_captions()
VOCABULARY = Vocabulary.from_captions(CAPTIONS, min_count=2, max_words=9)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of word vectors in these tests."""
    monkeypatch.setattr(common.word2vec, "kept_array", functools.partial(kept_array, folder=tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def learnings(monkeypatch):
    """A list that grows whenever vectors are learned."""
    calls, real_learn = [], common.word2vec.learn
    monkeypatch.setattr(common.word2vec, "learn", lambda *a: calls.append(1) or real_learn(*a))
    return calls


def vectors(captions=CAPTIONS, vocabulary=VOCABULARY, **changes) -> np.ndarray:
    return word_vectors(vocabulary, captions, dataclasses.replace(Settings(), **changes))


# --- the vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "skip_gram"), [("skip-gram", 1), ("cbow", 0)])
def test_they_are_those_of_gensim_on_the_known_words(kind, skip_gram):
    """The words that stand once in the captions, No0 and so on, are passed over."""
    found = vectors(word2vec=kind, seed=3)
    sentences = [[word for word in words(caption) if not word.startswith("no")] for caption in CAPTIONS]
    model = Word2Vec(sentences, vector_size=6, window=4, epochs=3, sg=skip_gram, seed=3, min_count=1, workers=1)
    assert found.shape == (10 + 2, 6) and found.dtype == np.float32
    assert sorted(VOCABULARY.known) == sorted(WORDS["warm"] + WORDS["cool"])
    for word, number in VOCABULARY.number.items():
        assert np.array_equal(found[number], model.wv[word])


def test_words_of_the_same_captions_are_near_each_other():
    captions = some_captions(400)
    found = vectors(captions, word_dim=16, word_epochs=20)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)
    cosine = unit @ unit.T
    kind = {VOCABULARY.number[word]: kind for kind, same in WORDS.items() for word in same}
    pairs = [(i, j) for i in kind for j in kind if i < j]
    alike = [cosine[i, j] for i, j in pairs if kind[i] == kind[j]]
    apart = [cosine[i, j] for i, j in pairs if kind[i] != kind[j]]
    assert min(alike) > max(apart)


def test_padding_is_zero_and_an_unknown_word_the_mean_over_the_captions():
    """Of every word as often as it is said; rare words take no part."""
    found = vectors()
    said = [found[VOCABULARY.number[word]] for caption in CAPTIONS for word in words(caption)
            if word in VOCABULARY.number]  # fmt: skip
    assert len(said) == 6 * len(CAPTIONS)
    assert (found[PADDING] == 0).all()
    assert np.allclose(found[UNKNOWN], sum(said) / len(said), atol=1e-7)
    counts = {word: sum(words(caption).count(word) for caption in CAPTIONS) for word in VOCABULARY.known}
    assert len(set(counts.values())) > 1, "else the mean over the vocabulary would be the same"


def test_sentences_can_be_gone_through_again_and_again():
    captions = ["wool coat", "never heard", "", "coat coat rain"]
    sentences = Sentences(Vocabulary(["coat", "wool"], 9), captions)
    expected = [["wool", "coat"], [], [], ["coat", "coat"]]
    assert list(sentences) == expected and list(sentences) == expected
    assert sentences.numbers.tolist() == [3, 2, 2, 2] and sentences.numbers.dtype == np.int32


def test_the_same_seed_repeats_bit_for_bit_and_another_differs(kept, learnings):
    first = vectors()
    for file in kept.iterdir():
        file.unlink()
    assert np.array_equal(vectors(), first) and len(learnings) == 2
    assert not np.allclose(vectors(seed=1), first)


IN_ANOTHER_PROCESS = """
import json, sys
from types import SimpleNamespace
import numpy
import common.word2vec
from common.captions import Vocabulary

def computed(name, key, shape, fill):
    array = numpy.zeros(shape, numpy.float32)
    fill(array)
    return array

common.word2vec.kept_array = computed
captions, known, settings = json.load(sys.stdin)
found = common.word2vec.word_vectors(Vocabulary(known, 9), captions, SimpleNamespace(**settings))
print(found.tobytes().hex())
"""


def test_another_process_learns_the_same():
    """The order of words in a set changes from process to process."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        input=json.dumps([CAPTIONS, VOCABULARY.known, dataclasses.asdict(Settings())]),
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "77"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == vectors().tobytes().hex()


# --- the cache -----------------------------------------------------------------------------------------


def test_they_are_learned_once(learnings):
    first = vectors()
    assert np.array_equal(vectors(), first) and len(learnings) == 1
    assert first.flags.writeable, "torch takes no read-only memory"


CHANGES = {
    "word_dim": {"word_dim": 5},
    "word_window": {"word_window": 1},
    "word_epochs": {"word_epochs": 4},
    "word2vec": {"word2vec": "cbow"},
    "seed": {"seed": 1},
    "captions": {"captions": [*CAPTIONS[1:], "coat coat scarf"]},
    "order of the captions": {"captions": CAPTIONS[::-1]},
    "min_word_count": {"vocabulary": Vocabulary.from_captions(CAPTIONS, 1, 9)},
    "another vocabulary of the same size": {"vocabulary": Vocabulary([*VOCABULARY.known[:-1], "no3"], 9)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_learned_under_other_settings_is_not_used(change, kept, learnings, tmp_path, monkeypatch):
    first = vectors()
    changed = vectors(**CHANGES[change])
    assert len(learnings) == 2
    with monkeypatch.context() as fresh:
        fresh.setattr(common.word2vec, "kept_array", functools.partial(kept_array, folder=tmp_path / "fresh"))
        assert np.array_equal(vectors(**CHANGES[change]), changed)
    assert changed.shape != first.shape or not np.array_equal(changed, first)
    assert np.array_equal(vectors(), first), "and back"


def test_another_version_of_gensim_learns_again(learnings, monkeypatch):
    vectors()
    real_version = common.word2vec.version
    monkeypatch.setattr(
        common.word2vec, "version", lambda package: "0.1" if package == "gensim" else real_version(package)
    )
    vectors()
    assert len(learnings) == 2


def test_a_progress_bar_has_a_unit_and_a_total(capsys):
    vectors()
    assert re.search(r"learning word2vec: 100%\|.*\| 3/3 \[.*epoch/s\]", capsys.readouterr().err)
    vectors()
    assert capsys.readouterr().err == ""


# --- too few words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("captions", [[], [""], ["?!", ""], ["rare words"]])
def test_captions_without_a_known_word_give_zeros(captions, learnings):
    found = vectors(captions)
    assert found.shape == (12, 6) and (found == 0).all()


def test_an_empty_vocabulary_has_padding_and_the_unknown_word():
    found = vectors(vocabulary=Vocabulary([], 9))
    assert found.shape == (2, 6) and (found == 0).all()


def test_a_single_word():
    found = vectors(["coat", "coat", "rare coat"], Vocabulary(["coat"], 9))
    assert np.isfinite(found).all() and found[2].any()
    assert np.allclose(found[UNKNOWN], found[2])


# --- the mean of a caption's words ---------------------------------------------------------------------

VECTORS = torch.tensor([[0.0, 0], [10, 20], [1, 2], [3, 5], [-4, 8]])  # padding, unknown, then three words


def encode(rows: list[list[int]], extra_padding: int = 0) -> torch.Tensor:
    longest = max(map(len, rows)) + extra_padding
    tokens = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
    return WordMean(VECTORS.clone())(tokens, torch.tensor([len(row) for row in rows]))


def test_the_mean_over_the_known_words_by_hand():
    """Unknown words and padding take no part; a word that is said twice counts twice."""
    found = encode([[2], [2, 3], [2, 2, 4], [1, 3], [3, 1, 1], [4, 2, 3, 1]])
    torch.testing.assert_close(found, torch.tensor([[1, 2], [2, 3.5], [-2 / 3, 4], [3, 5], [3, 5], [0, 5]]))


def test_a_caption_without_a_known_word_gets_the_vector_of_an_unknown_one():
    found = encode([[1], [1, 1, 1], [2, 3]])
    assert found.tolist() == [[10, 20], [10, 20], [2, 3.5]]


def test_it_agrees_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(20, 7, generator=generator)
    rows = [torch.randint(1, 20, (int(length),), generator=generator).tolist()
            for length in torch.randint(1, 9, (50,), generator=generator)]  # fmt: skip
    rows += [[UNKNOWN], [UNKNOWN] * 4]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])
    found = WordMean(table)(tokens, torch.tensor([len(row) for row in rows]))
    for row, feature in zip(rows, found, strict=True):
        known = [table[token] for token in row if token > UNKNOWN] or [table[UNKNOWN]]
        torch.testing.assert_close(feature, sum(known) / len(known))


@pytest.mark.parametrize("extra_padding", [1, 7])
def test_a_feature_depends_on_its_caption_alone(extra_padding):
    rows = [[2, 1, 4], [3], [1], [1, 1, 2, 2, 3]]
    together = encode(rows, extra_padding)
    for row, feature in zip(rows, together, strict=True):
        assert torch.equal(encode([row])[0], feature)
    assert torch.equal(encode(rows[::-1], extra_padding).flip(0), together)


def test_it_is_never_trained():
    encoder = WordMean(VECTORS.clone()).train()
    assert encoder.frozen and encoder.dim == 2
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(torch.tensor([[2, 3]]), torch.tensor([2])).requires_grad


def encoder_settings(**changes):
    return SimpleNamespace(**dataclasses.asdict(Settings()), text_encoder="word2vec", text_weights="", **changes)


def test_the_encoder_has_the_vectors_of_the_training_captions():
    encoder = build_text_encoder(encoder_settings(), VOCABULARY, frozen=True, train_captions=CAPTIONS)
    assert isinstance(encoder, WordMean) and encoder.dim == 6
    assert np.array_equal(encoder.embedding.weight.numpy(), vectors())


def test_nothing_is_learned_for_a_run_whose_vectors_will_be_loaded(tmp_path, learnings):
    encoder = build_text_encoder(encoder_settings(), VOCABULARY, frozen=True, folder=tmp_path, train_captions=CAPTIONS)
    assert not learnings and encoder.frozen
    trained = build_text_encoder(encoder_settings(), VOCABULARY, frozen=True, train_captions=CAPTIONS)
    encoder.load_state_dict(trained.state_dict())
    tokens, lengths = map(torch.from_numpy, VOCABULARY(["wool coat", "never heard"]))
    assert torch.equal(encoder(tokens, lengths), trained(tokens, lengths))


# --- in a training -------------------------------------------------------------------------------------


@pytest.fixture
def quick(kept, monkeypatch):
    """Trainings of a second, which keep their features in the folder of these tests too."""
    use_patches(monkeypatch)
    monkeypatch.setattr("common.features.kept_array", functools.partial(kept_array, folder=kept))
    monkeypatch.setattr("common.monitoring.draw_curves", lambda *_: None)


def with_captions(data: Path, name: str, caption_of) -> Path:
    """The table with other captions."""
    lines = [line.split(",") for line in data.read_text().splitlines()]
    changed = [lines[0], *([row[0], row[1], caption_of(row[0], row[2]), *row[3:]] for row in lines[1:])]
    path = data.with_name(name)
    path.write_text("".join(",".join(row) + "\n" for row in changed))
    return path


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_words_are_learned_from_the_training_captions_alone(model, data, tmp_path, quick, monkeypatch):
    """Every product has a word of its own: those of validation and test have no vector."""
    learned_from, real_vectors, sessions = [], word_vectors, []
    monkeypatch.setattr(
        common.word2vec, "word_vectors", lambda *a: learned_from.append((a[0], list(a[1]))) or real_vectors(*a)
    )
    real_fit = common.training.fit
    monkeypatch.setattr(common.training, "fit", lambda *a, **k: sessions.append(a[3]) or real_fit(*a, **k))
    marked = with_captions(data, "marked.csv", lambda product, caption: f"unique{product} {caption}")
    run = train(monkeypatch, marked, tmp_path / "run", model=model, epochs=1)
    remove_caches(marked)
    (vocabulary, captions), = learned_from  # fmt: skip
    own = {split: {f"unique{product}" for product in sessions[0].data.rows(split)["product"]}
           for split in ("train", "val", "test")}  # fmt: skip
    assert all(own.values())
    assert sorted(captions) == sorted(sessions[0].data.rows("train")["caption"])
    said = {word for caption in captions for word in words(caption)}
    assert own["train"] <= said == set(vocabulary.known) and not (own["val"] | own["test"]) & said
    assert json.loads((run / "vocabulary.json").read_text())["words"] == vocabulary.known
    assert len(weights(run)["text_encoder.embedding.weight"]) == len(said) + 2


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_what_is_unknown_is_told_by_training_and_evaluation(model, data, tmp_path, quick, monkeypatch, capsys):
    """Each caption has a word of its own, unknown as it is said once; in three of four the colour follows."""
    rows = [line.split(",") for line in data.read_text().splitlines()[1:]]
    colour, lost = {row[0]: row[3] for row in rows}, {row[0] for row in rows[::4]}
    some = with_captions(
        data, "some.csv", lambda product, _: f"unique{product} {'' if product in lost else colour[product]}"
    )
    run = train(monkeypatch, some, tmp_path / "run", model=model, epochs=1, min_word_count=2)
    told = capsys.readouterr().out
    evaluate(monkeypatch, run, model=model)
    told += capsys.readouterr().out
    remove_caches(some)
    assert f"vocabulary: {len(set(colour.values()))} words of the train captions; " in told
    queries = pd.read_parquet(run / "ranks-test.parquet")
    split = {"train": set(json.loads((run / "train_products.json").read_text())),
             "test": set(queries["query"][queries["direction"] == "image_to_text"])}  # fmt: skip
    split["val"] = set(colour) - split["train"] - split["test"]
    for name, products in split.items():
        count, without = len(products), len(products & lost)
        share = count / (2 * count - without)
        assert (
            f"in {name} {share:.1%} of the words are unknown, {without} of {count} captions have no known word"
        ) in told


@pytest.mark.parametrize("model", ["siamese", "correlational"])
def test_a_training_without_any_known_word_does_not_crash(model, data, tmp_path, quick, monkeypatch, capsys):
    run = train(monkeypatch, data, tmp_path / "run", model=model, epochs=2, min_word_count=1000)
    told = capsys.readouterr().out
    assert "vocabulary: 0 words of the train captions; in train 100.0% of the words are unknown, " in told
    assert "100 of 100 captions have no known word; in val 100.0% of the words are unknown, 10 of 10 captions" in told
    assert all(np.isfinite(record["loss"]) for record in metrics(run))
    found = evaluate(monkeypatch, run, model=model)
    assert "in test 100.0% of the words are unknown, 10 of 10 captions have no known word" in capsys.readouterr().out
    # all captions are the same to it, and ties count against the model
    assert found["image_to_text"]["R@1"] == 0

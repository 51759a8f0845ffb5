"""The methods on scikit-learn's digits: the left half of each against its right half. Seconds, and figures to compare.

Figures known beforehand stand beside the ones measured here; `pytest tests/test_digits.py -s` prints both.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from common.recall import chance, metrics, rank_queries
from correlational.loss import correlation, reconstruction
from correlational.model import ShallowCorrNet
from deep_cmpl.loss import cmpm
from siamese.loss import contrastive

UNITS = 20


@dataclass(frozen=True)
class Halves:
    """Pixels 0..1 of the left and of the right half of the same digits, (N, 32) each."""

    left: torch.Tensor
    right: torch.Tensor

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, which) -> "Halves":
        return Halves(self.left[which], self.right[which])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small are done before a second thread has started."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    images = load_digits().images / 16  # (1797, 8, 8)
    images = torch.from_numpy(images[np.random.RandomState(0).permutation(len(images))]).float()
    return Halves(images[:, :, :4].flatten(1), images[:, :, 4:].flatten(1))


def minimise(loss, data, optimizer, epochs):
    """`loss` is a function of a batch of 100 and of the epoch."""
    for epoch in range(epochs):
        for which in torch.randperm(len(data)).split(100):
            optimizer.zero_grad()
            loss(data[which], epoch).backward()
            optimizer.step()


def recall(queries, gallery) -> dict[str, float]:
    return metrics(rank_queries(queries, gallery, torch.arange(len(queries)).expand(2, -1)))


# --- the Correlational network and canonical correlation analysis --------------------------------------


def sum_correlation(left, right) -> float:
    return sum(np.corrcoef(left[:, k], right[:, k])[0, 1] for k in range(UNITS))


def effective_rank(code) -> float:
    """Number of directions that a code (N, D) varies in, 1 to D: the exponential of the entropy of the
    eigenvalues of its covariance, as shares of their sum."""
    shares = np.linalg.eigvalsh(np.cov(np.asarray(code), rowvar=False)).clip(1e-12)
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def corrnet_codes(train, test, correlation_weight):
    """The paper's network: sigmoids, tied weights, half the squared error."""
    torch.manual_seed(0)
    network = ShallowCorrNet(32, 32, UNITS, output=nn.Sigmoid())
    for weight in (network.image_weight, network.text_weight):
        nn.init.xavier_uniform_(weight, gain=4)  # as the authors start sigmoids
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01, alpha=0.9)

    def loss(batch, epoch):
        left, right = network.encode(image=batch.left), network.encode(text=batch.right)
        codes = (network.encode(batch.left, batch.right), left, right)
        error = sum(reconstruction(network.decode(code), (batch.left, batch.right), "sum") for code in codes)
        return error - correlation_weight * correlation(left, right)

    minimise(loss, train, optimizer, epochs=100)
    with torch.inference_mode():
        return network.encode(image=test.left), network.encode(text=test.right)


def cca_codes(train, test):
    cca = CCA(UNITS).fit(train.left.double(), train.right.double())
    return tuple(torch.from_numpy(code) for code in cca.transform(test.left.double(), test.right.double()))


def test_correlation_makes_codes_correlate_more_than_cca_and_reconstruction_less(digits):
    """A check against regressions and no claim: a sum of correlations rewards redundant units, as the effective
    rank beside it shows, and what is found in the other half gets no better."""
    train, test = digits[:1000], digits[1000:]
    codes = {
        "cca": cca_codes(train, test),
        "lambda = 0": corrnet_codes(train, test, correlation_weight=0),
        "lambda = 2": corrnet_codes(train, test, correlation_weight=2),
    }
    known = {"cca": 7.37, "lambda = 0": 6.11, "lambda = 2": 16.77}
    spread = {"cca": 0.01, "lambda = 0": 0.75, "lambda = 2": 0.54}  # over seeds: 0.25 and 0.18, three times
    found = {name: sum_correlation(left.numpy(), right.numpy()) for name, (left, right) in codes.items()}
    print(
        f"\n{len(test)} test digits, {UNITS} units; chance R@10 {chance(torch.ones(len(test)), len(test))['R@10']:.1f}"
    )
    for name, (left, right) in codes.items():
        ranks, forth, back = [effective_rank(code) for code in (left, right)], recall(left, right), recall(right, left)
        print(
            f"{name:10}  sum-correlation {found[name]:5.2f} (known: {known[name]:5.2f})  "
            f"effective rank {ranks[0]:4.1f} left, {ranks[1]:4.1f} right  "
            f"R@1 / R@10 {forth['R@1']:.1f} / {forth['R@10']:.1f} left to right, "
            f"{back['R@1']:.1f} / {back['R@10']:.1f} right to left"
        )
    assert found["lambda = 2"] > found["cca"] > found["lambda = 0"]
    for name, value in found.items():
        assert value == pytest.approx(known[name], abs=spread[name]), name


# --- Deep CMPL's and the Siamese network's losses ------------------------------------------------------

EPOCHS, WARMUP = 60, 20


def matching(left_emb, right_emb, epoch):
    return cmpm(left_emb, right_emb, torch.eye(len(left_emb), dtype=torch.bool))


def pushing(negatives):
    """Contrastive: all negatives with margin 1, and the hardest ones with margin 0.5 after a warm-up with all."""

    def loss(left_emb, right_emb, epoch):
        unit = F.normalize(left_emb, dim=1), F.normalize(right_emb, dim=1)
        positives = torch.eye(len(left_emb), dtype=torch.bool)
        if negatives == "all" or epoch < WARMUP:
            return contrastive(*unit, positives, margin=1.0, negatives="all")
        return contrastive(*unit, positives, margin=0.5, negatives=negatives)

    return loss


def tower():
    return nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 64))


def trained_recall(train, test, pair_loss) -> tuple[dict[str, float], dict[str, float]]:
    """Left to right and right to left."""
    torch.manual_seed(0)
    towers = nn.ModuleList([tower(), tower()])
    optimizer = torch.optim.Adam(towers.parameters(), lr=1e-3)

    def loss(batch, epoch):
        return pair_loss(towers[0](batch.left), towers[1](batch.right), epoch)

    minimise(loss, train, optimizer, EPOCHS)
    with torch.inference_mode():
        left_emb, right_emb = towers[0](test.left), towers[1](test.right)
    return recall(left_emb, right_emb), recall(right_emb, left_emb)


def test_every_loss_finds_the_other_half_and_the_hardest_negatives_are_best(digits):
    train, test = digits[:1300], digits[1300:]
    losses = {"cmpm": matching, "contrastive, all": pushing("all"), "contrastive, hardest": pushing("hardest")}
    known = {"cmpm": "14.2 / 60.9", "contrastive, all": "13.7 / 56.8", "contrastive, hardest": "21.6 / 68.3"}
    found = {name: trained_recall(train, test, loss) for name, loss in losses.items()}
    at_chance = chance(torch.ones(len(test)), len(test))["R@1"]
    print(f"\n{len(test)} test digits; chance R@1 {at_chance:.2f}")
    for name, (forth, back) in found.items():
        print(
            f"{name:20}  R@1 / R@10 {forth['R@1']:.1f} / {forth['R@10']:.1f} left to right (known: {known[name]}), "
            f"{back['R@1']:.1f} / {back['R@10']:.1f} right to left"
        )
    for name, directions in found.items():
        assert min(direction["R@1"] for direction in directions) > 20 * at_chance, name
    hardest, everything = found["contrastive, hardest"], found["contrastive, all"]
    for cutoff in ("R@1", "R@10"):
        assert sum(direction[cutoff] for direction in hardest) > sum(direction[cutoff] for direction in everything)

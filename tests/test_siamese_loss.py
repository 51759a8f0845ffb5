"""siamese/loss.py: against loops in plain Python, figures worked out by hand, and numerical gradients."""

import math
import typing

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from common.batches import Pairs
from common.captions import Vocabulary
from siamese.loss import Negatives, choose_negatives, contrastive, distances

B, D = 6, 3
KINDS = typing.get_args(Negatives)
REPEATED = torch.tensor([0, 1, 0, 2, 1, 0])  # product of each pair
EYE = torch.eye(B, dtype=torch.bool)


def asymmetric(positives):
    """A caption may be carried by some images that do not carry each other's captions."""
    positives = positives.clone()
    positives[1, 5] = positives[3, 0] = True
    return positives


SAME_PRODUCT = REPEATED[:, None] == REPEATED
POSITIVES = {"one each": EYE, "repeated products": SAME_PRODUCT, "not symmetric": asymmetric(SAME_PRODUCT)}
every_kind = pytest.mark.parametrize("negatives", KINDS)
all_positives = pytest.mark.parametrize("positives", POSITIVES.values(), ids=POSITIVES)


def unit_vectors(seed, count=B):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, D, generator=generator, dtype=torch.float64), dim=1)


@pytest.fixture
def pairs():
    """image_emb and text_emb (B, D) of unit length."""
    return unit_vectors(0), unit_vectors(1)


def at_angles(*degrees):
    """Unit vectors in the plane; two of them at an angle of a are 2 sin(a/2) apart."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


def at_distance(d, count=4):
    """Two sets of unit vectors, every one of the first at distance d of every one of the second."""
    return at_angles(*[0.0] * count), at_angles(*[math.degrees(2 * math.asin(d / 2))] * count)


def repeatable(image_emb, text_emb, positives, margin, negatives):
    """The loss with the same random negatives each time."""
    torch.manual_seed(0)
    return contrastive(image_emb, text_emb, positives, margin, negatives)


def drawn(positives):
    """The pairs that `repeatable` draws."""
    torch.manual_seed(0)
    images, texts = choose_negatives(torch.ones(positives.shape, dtype=torch.float64), positives, "random")
    return list(zip(images.tolist(), texts.tolist(), strict=True))


def gradients(function, *tensors):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(function(*tensors), tensors)


# --- the oracle: one number at a time ------------------------------------------------------------------


def slow_distance(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def slow_hardest(distance, positives):
    """For each image the nearest text that does not belong to it, then for each text the nearest image."""
    count = range(len(distance))
    chosen = []
    for i in count:
        candidates = [(distance[i][j], j) for j in count if not positives[i][j]]
        chosen += [(i, min(candidates)[1])] if candidates else []
    for j in count:
        candidates = [(distance[i][j], i) for i in count if not positives[i][j]]
        chosen += [(min(candidates)[1], j)] if candidates else []
    return chosen


def slow_contrastive(image_emb, text_emb, positives, margin, negatives) -> float:
    images, texts, belong = image_emb.tolist(), text_emb.tolist(), positives.tolist()
    count = range(len(images))
    distance = [[slow_distance(image, text) for text in texts] for image in images]
    pulled = [distance[i][j] ** 2 for i in count for j in count if belong[i][j]]
    chosen = {
        "all": lambda: [(i, j) for i in count for j in count if not belong[i][j]],
        "hardest": lambda: slow_hardest(distance, belong),
        "random": lambda: drawn(positives),
    }[negatives]()
    pushed = [max(0.0, margin - distance[i][j]) ** 2 for i, j in chosen]
    return sum(pulled) / len(pulled) / 2 + (sum(pushed) / len(pushed) / 2 if pushed else 0.0)


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.6])
@all_positives
@every_kind
def test_the_loss_equals_a_loop(pairs, positives, margin, negatives):
    found = repeatable(*pairs, positives, margin, negatives)
    assert found.dtype == torch.float64 and found.shape == ()
    assert found.item() == pytest.approx(slow_contrastive(*pairs, positives, margin, negatives), rel=1e-12)


def test_the_batch_of_that_test_tells_the_kinds_and_margins_apart(pairs):
    """Negatives on both sides of each margin, and another loss for each kind."""
    negative = torch.cdist(*pairs)[~SAME_PRODUCT]
    for margin in (0.5, 1.0, 1.6):
        assert negative.min() < margin < negative.max()
        losses = [repeatable(*pairs, SAME_PRODUCT, margin, kind).item() for kind in KINDS]
        assert min(abs(a - b) for a, b in zip(losses, losses[1:] + losses[:1], strict=True)) > 1e-4


def test_distances_are_euclidean_of_vectors_of_any_length():
    a, b = 3 * unit_vectors(2), 0.5 * unit_vectors(3, count=4)
    expected = [[slow_distance(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(distances(a, b), torch.tensor(expected, dtype=torch.float64))


# --- worked out by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("d", [0.0, 0.25, 0.5, 1.0, 1.5, 2.0])
@every_kind
def test_one_distance_between_all_costs_its_square_and_the_square_of_what_lacks_to_the_margin(d, margin, negatives):
    """d^2/2 + max(0, margin - d)^2/2: with all vectors equal margin^2/2."""
    expected = d**2 / 2 + max(0.0, margin - d) ** 2 / 2
    found = repeatable(*at_distance(d), EYE[:4, :4], margin, negatives)
    assert found.item() == pytest.approx(expected, abs=2e-6)  # a distance of 0 counts as 1e-6


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@every_kind
def test_one_distance_between_all_costs_a_quarter_of_the_margins_square_at_least(margin, negatives):
    losses = {d: repeatable(*at_distance(d), EYE[:4, :4], margin, negatives).item() for d in np.linspace(0, 2, 81)}
    best = min(losses, key=losses.get)
    assert best == pytest.approx(margin / 2) and losses[best] == pytest.approx(margin**2 / 4)


def test_two_pairs_in_the_plane():
    """Images at 0 and 180 degrees, texts at 60 and 90: distances 1, sqrt 2; sqrt 3, sqrt 2."""
    pull = (1 + 2) / 2
    push = ((2 - math.sqrt(2)) ** 2 + (2 - math.sqrt(3)) ** 2) / 2
    for negatives in KINDS:  # with two pairs there is no choice
        found = repeatable(at_angles(0, 180), at_angles(60, 90), EYE[:2, :2], 2.0, negatives)
        assert found.item() == pytest.approx(pull / 2 + push / 2, rel=1e-12)


@every_kind
def test_what_is_in_order_costs_nothing(negatives):
    emb = torch.eye(B, dtype=torch.float64)  # sqrt 2 apart
    assert repeatable(emb, emb, EYE, 1.4, negatives).item() == pytest.approx(0, abs=1e-12)


# --- which negatives -----------------------------------------------------------------------------------


def chosen(distance, positives, negatives):
    images, texts = choose_negatives(torch.as_tensor(distance, dtype=torch.float64), positives, negatives)
    assert len(images) == len(texts)
    return list(zip(images.tolist(), texts.tolist(), strict=True))


def test_hardest_is_the_nearest_for_each_image_and_for_each_text():
    distance = [
        [0.1, 0.2, 0.9, 0.7],
        [0.4, 0.5, 0.3, 0.6],
        [0.8, 0.2, 0.9, 0.5],
        [0.6, 0.4, 0.1, 0.0],
    ]
    belong = EYE[:4, :4].clone()
    belong[0, 1] = True  # the nearest of image 0, and one of the nearest of text 1
    of_images = [(0, 3), (1, 2), (2, 1), (3, 2)]
    of_texts = [(1, 0), (2, 1), (3, 2), (2, 3)]
    assert chosen(distance, belong, "hardest") == of_images + of_texts


@every_kind
def test_what_belongs_together_is_never_a_negative(negatives):
    """Although it is by far the nearest, or the farthest; for all that can belong together."""
    generator = torch.Generator().manual_seed(0)
    for near in (0.0, 2.0):
        for share in (0.1, 0.5, 0.9, 1.0):
            positives = (torch.rand(B, B, generator=generator) < share) | EYE
            distance = torch.where(positives, near, 0.5 + torch.rand(B, B, generator=generator))
            found = chosen(distance, positives, negatives)
            assert not any(positives[pair] for pair in found)
            if negatives == "all":
                assert sorted(found) == sorted(map(tuple, (~positives).nonzero().tolist()))
            else:  # one for each image that has any, then one for each text
                images, texts = ((~positives).any(side).nonzero().flatten().tolist() for side in (1, 0))
                assert [i for i, _ in found[: len(images)]] == images
                assert [j for _, j in found[len(images) :]] == texts


@every_kind
def test_the_same_product_or_the_same_caption_is_never_a_negative(negatives):
    rows = pd.DataFrame({
        "image": range(6),
        "product": ["a", "b", "a", "c", "d", "e"],
        "caption": ["Red disc", "blue", "green", " red  DISC", "blue", "cross"],
    })  # fmt: skip
    pairs = Pairs(rows, np.arange(6), np.zeros((6, 4, 3, 3), dtype=np.uint8), Vocabulary(["red"], max_words=9))
    batch = pairs.batch(np.array([5, 3, 2, 1, 0, 4]))
    together = {(4, 2), (4, 1), (3, 5)}  # places in the batch: same product, same caption twice
    together |= {(j, i) for i, j in together} | {(i, i) for i in range(6)}
    torch.manual_seed(0)
    found = {pair for _ in range(60) for pair in chosen(1 - batch.positives.double(), batch.positives, negatives)}
    assert found and not found & together
    if negatives != "hardest":  # in the end all others are
        assert found == {(i, j) for i in range(6) for j in range(6)} - together


def test_random_negatives_are_drawn_evenly_for_each_image_and_for_each_text():
    """Near or far: over 3000 draws each possible one comes with its frequency, within 5 standard deviations."""
    draws, count = 3000, 5
    positives = REPEATED[:count, None] == REPEATED[:count]
    positives[1, 3] = True
    distance = torch.arange(count * count, dtype=torch.float64).view(count, count) / 13
    torch.manual_seed(0)
    for_image, for_text = torch.zeros(count, count), torch.zeros(count, count)
    for _ in range(draws):
        images, texts = choose_negatives(distance, positives, "random")
        for_image[images[:count], texts[:count]] += 1
        for_text[images[count:], texts[count:]] += 1
    for counts, side in ((for_image, 1), (for_text, 0)):
        assert (counts.sum(side) == draws).all() and (counts[positives] == 0).all()
        p = 1 / (~positives).sum(side, keepdim=True)
        z = (counts - draws * p) / (draws * p * (1 - p)).sqrt()
        assert z[~positives].abs().max() < 5


def test_random_negatives_differ_from_step_to_step(pairs):
    torch.manual_seed(0)
    losses = {contrastive(*pairs, SAME_PRODUCT, 1.0, "random").item() for _ in range(20)}
    assert len(losses) > 10


def test_all_negatives_are_the_default(pairs):
    assert torch.equal(contrastive(*pairs, SAME_PRODUCT, 1.0), contrastive(*pairs, SAME_PRODUCT, 1.0, "all"))


# --- where everything belongs together -----------------------------------------------------------------


@pytest.mark.parametrize("rest", ["a row", "a column", "everything"])
@every_kind
def test_without_a_negative_there_is_nothing_to_push(pairs, rest, negatives):
    """An image, or a text, or a batch with which everything belongs."""
    positives = EYE.clone()
    {"a row": positives[2], "a column": positives[:, 2], "everything": positives}[rest].fill_(True)
    found = repeatable(*pairs, positives, 1.6, negatives)
    assert found.item() == pytest.approx(slow_contrastive(*pairs, positives, 1.6, negatives), rel=1e-12)
    if rest == "everything":
        assert found.item() == pytest.approx(torch.cdist(*pairs).square().mean().item() / 2)
    for gradient in gradients(lambda *emb: repeatable(*emb, positives, 1.6, negatives), *pairs):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


@every_kind
def test_a_batch_of_one_pair(negatives):
    image_emb, text_emb = at_angles(0), at_angles(60)
    assert repeatable(image_emb, text_emb, EYE[:1, :1], 1.0, negatives).item() == pytest.approx(0.5)


# --- gradients -----------------------------------------------------------------------------------------


@all_positives
@every_kind
def test_the_gradient_is_right(pairs, positives, negatives):
    inputs = [tensor.requires_grad_() for tensor in pairs]
    assert torch.autograd.gradcheck(lambda *emb: repeatable(*emb, positives, 1.0, negatives), inputs)


@pytest.mark.parametrize("margin", [0.3, 1.0, math.sqrt(2)])
@every_kind
def test_a_negative_at_the_margin_or_beyond_has_no_gradient(margin, negatives):
    """Negatives are exactly sqrt 2 apart or 2. What remains is the pull, whose gradient is (image - text) / B."""
    image_emb = torch.eye(4, dtype=torch.float64)
    text_emb = torch.stack([image_emb[0], image_emb[1], -image_emb[3], -image_emb[2]])
    for_image, for_text = gradients(lambda *emb: repeatable(*emb, EYE[:4, :4], margin, negatives), image_emb, text_emb)
    assert torch.cdist(image_emb, text_emb)[~EYE[:4, :4]].min() == math.sqrt(2)
    assert torch.equal(for_image, (image_emb - text_emb) / 4)
    assert torch.equal(for_text, (text_emb - image_emb) / 4)


def test_of_two_negatives_only_the_one_within_the_margin_is_pushed():
    """Worked out: of distances d, the one below the margin adds -(margin - d) along its direction, over 2."""
    image_emb, text_emb = at_angles(0, 180), at_angles(10, 100)  # image 1 to text 0 is 170 degrees: 1.99
    for_image, for_text = gradients(lambda *emb: contrastive(*emb, EYE[:2, :2], 1.6), image_emb, text_emb)
    pull = (image_emb - text_emb) / 2
    direction = image_emb[0] - text_emb[1]
    push = (1.6 - direction.norm()) * direction / direction.norm() / 2
    torch.testing.assert_close(for_image, pull - torch.stack([push, 0 * push]))
    torch.testing.assert_close(for_text, -pull + torch.stack([0 * push, push]))
    assert push.norm() > 0.02


@pytest.mark.parametrize("vector", [(1.0, 0.0, 0.0), (1.0, 1.0, 1.0)], ids=["exactly zero", "up to rounding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_kind
def test_the_gradient_is_finite_where_distances_are_zero(vector, dtype, negatives):
    """Of pairs that belong together, and of negatives."""
    same = F.normalize(torch.tensor([vector] * B, dtype=dtype), dim=1)
    for positives in (*POSITIVES.values(), torch.ones_like(EYE)):
        for gradient in gradients(lambda *emb: repeatable(*emb, positives, 1.0, negatives), same, same):  # noqa: B023
            assert gradient.isfinite().all() and gradient.norm() <= 1


@pytest.mark.parametrize("noise", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
@every_kind
def test_nearly_equal_float32_vectors_have_a_finite_gradient_of_the_right_size(noise, negatives):
    """A loss of about margin^2/2, and no entry above what the derivative of a distance, a unit vector, allows."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1, 512, generator=generator)
    emb = [F.normalize(base + noise * torch.randn(32, 512, generator=generator), dim=1) for _ in range(2)]
    positives = torch.eye(32, dtype=torch.bool)
    assert repeatable(*emb, positives, 1.0, negatives).item() == pytest.approx(0.5, abs=0.01)
    for gradient in gradients(lambda *emb: repeatable(*emb, positives, 1.0, negatives), *emb):
        assert gradient.dtype == torch.float32 and gradient.isfinite().all()
        assert gradient.norm(dim=1).max() <= 2


# --- invariances ---------------------------------------------------------------------------------------


@all_positives
@pytest.mark.parametrize("negatives", ["all", "hardest"])
def test_permutation_and_swapping_the_modalities_change_nothing(pairs, positives, negatives):
    image_emb, text_emb = pairs
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = contrastive(*pairs, positives, 1.0, negatives)
    permuted = contrastive(image_emb[order], text_emb[order], positives[order][:, order], 1.0, negatives)
    swapped = contrastive(text_emb, image_emb, positives.T, 1.0, negatives)
    torch.testing.assert_close(permuted, expected)
    torch.testing.assert_close(swapped, expected)


@every_kind
def test_rotating_both_modalities_changes_nothing(pairs, negatives):
    """Distances are all that counts."""
    rotation = torch.linalg.qr(unit_vectors(5, count=D))[0]
    turned = [emb @ rotation for emb in pairs]
    torch.testing.assert_close(
        repeatable(*turned, SAME_PRODUCT, 1.0, negatives), repeatable(*pairs, SAME_PRODUCT, 1.0, negatives)
    )

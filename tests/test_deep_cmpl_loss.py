"""deep_cmpl/loss.py: against loops in plain Python, figures worked out by hand, and numerical gradients."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from common.batches import NO_LABEL
from deep_cmpl.loss import cmpc, cmpm, matching_divergence

B, D = 6, 5
DIVERGENCES = ("forward", "reverse", "sum")
REPEATED = torch.tensor([0, 1, 0, 2, 1, 0])  # product of each pair


@pytest.fixture
def pairs():
    """image_emb, text_emb (B, D) and positives (B, B) of a batch with repeated products."""
    generator = torch.Generator().manual_seed(0)
    image_emb, text_emb = (torch.randn(B, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return image_emb, text_emb, REPEATED[:, None] == REPEATED


# --- the oracle: one number at a time ------------------------------------------------------------------


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    return [x / math.sqrt(dot(a, a)) for x in a]


def slow_softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def slow_direction(queries, gallery, positives, divergence, scale) -> float:
    total = 0.0
    for query, row in zip(queries, positives, strict=True):
        products = [dot(query if scale is None else unit(query), unit(item)) * (scale or 1) for item in gallery]
        p = slow_softmax(products)
        q = [positive / sum(row) for positive in row]
        for p_j, q_j in zip(p, q, strict=True):
            if divergence in ("forward", "sum"):
                total += p_j * math.log(p_j / (q_j + 1e-8))
            if divergence in ("reverse", "sum") and q_j > 0:
                total += q_j * math.log(q_j / p_j)
    return total / len(queries)


def slow_cmpm(image_emb, text_emb, positives, divergence, scale=None) -> float:
    images, texts, positives = image_emb.tolist(), text_emb.tolist(), positives.tolist()
    flipped = [list(column) for column in zip(*positives, strict=True)]
    return slow_direction(images, texts, positives, divergence, scale) + slow_direction(
        texts, images, flipped, divergence, scale
    )


def slow_cmpc(image_emb, text_emb, labels, weight) -> float:
    columns = [unit(column) for column in weight.T.tolist()]
    losses = []
    for image, text, label in zip(image_emb.tolist(), text_emb.tolist(), labels.tolist(), strict=True):
        if label != NO_LABEL:
            both = 0.0
            for mine, partner in ((image, unit(text)), (text, unit(image))):
                projected = [dot(mine, partner) * x for x in partner]
                both -= math.log(slow_softmax([dot(projected, column) for column in columns])[label])
            losses.append(both)
    return sum(losses) / len(losses)


# --- cmpm ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_cmpm_equals_a_loop(pairs, divergence, scale):
    tensor = None if scale is None else torch.tensor(scale, dtype=torch.float64)
    assert cmpm(*pairs, divergence, tensor).item() == pytest.approx(slow_cmpm(*pairs, divergence, scale), rel=1e-12)


@pytest.mark.parametrize("scale", [None, 3.0])
def test_cmpm_equals_a_loop_when_positives_are_not_symmetric(pairs, scale):
    """A caption may be carried by some images that do not carry each other's captions."""
    image_emb, text_emb, positives = pairs
    positives = positives.clone()
    positives[1, 5] = True
    tensor = None if scale is None else torch.tensor(scale, dtype=torch.float64)
    expected = slow_cmpm(image_emb, text_emb, positives, "sum", scale)
    assert cmpm(image_emb, text_emb, positives, "sum", tensor).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("image_emb", "text_emb", "expected"),
    [
        (torch.zeros(16, 16), torch.zeros(16, 16), 28.9936),  # uniform p
        (100 * torch.eye(16), 100 * torch.eye(16), 0.0),  # perfect match
        (100 * torch.eye(16), 100 * torch.eye(16).roll(1, 0), -2 * math.log(1e-8)),  # all on a wrong text: 36.8414
    ],
)
def test_forward_in_hand_worked_cases(image_emb, text_emb, expected):
    found = cmpm(image_emb.double(), text_emb.double(), torch.eye(16, dtype=torch.bool))
    assert found.item() == pytest.approx(expected, abs=5e-5)


def test_reverse_of_uniform_p_is_twice_the_logarithm_of_the_batch():
    nothing = torch.zeros(16, 16, dtype=torch.float64)
    assert cmpm(nothing, nothing, torch.eye(16, dtype=torch.bool), "reverse").item() == pytest.approx(2 * math.log(16))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_four_positives_a_row_with_p_equal_to_q_cost_nothing(divergence):
    """q divided by its L2 norm would be no distribution and give log(1/4) - log(1/2), twice: -1.386."""
    product = torch.arange(16) // 4
    emb = 100 * F.one_hot(product).double()
    assert cmpm(emb, emb, product[:, None] == product, divergence).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_only_the_gallery_side_is_normalised(pairs, divergence):
    """Rescaling the texts changes the image-to-text part not at all, and the other part, and vice versa."""
    image_emb, text_emb, positives = pairs
    factor = torch.linspace(0.5, 3, B, dtype=torch.float64)[:, None]

    def part(queries, gallery):
        return matching_divergence(queries @ F.normalize(gallery, dim=1).T, positives, divergence)

    image_to_text, text_to_image = part(image_emb, text_emb), part(text_emb, image_emb)
    longer_texts = cmpm(image_emb, factor * text_emb, positives, divergence)
    longer_images = cmpm(factor * image_emb, text_emb, positives, divergence)
    torch.testing.assert_close(longer_texts - part(factor * text_emb, image_emb), image_to_text)
    torch.testing.assert_close(longer_images - part(factor * image_emb, text_emb), text_to_image)
    before = image_to_text + text_to_image
    assert abs(longer_texts - before) > 0.01 and abs(longer_images - before) > 0.01


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_with_a_scale_no_length_matters(pairs, divergence):
    image_emb, text_emb, positives = pairs
    scale = torch.tensor(4.0, dtype=torch.float64)
    torch.testing.assert_close(
        cmpm(7 * image_emb, text_emb / 3, positives, divergence, scale), cmpm(*pairs, divergence, scale)
    )


@pytest.mark.parametrize("scale", [None, torch.tensor(3.0)])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_cmpm_is_unchanged_by_permutation_and_by_swapping_the_modalities(pairs, divergence, scale):
    image_emb, text_emb, positives = pairs
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = cmpm(*pairs, divergence, scale)
    permuted = cmpm(image_emb[order], text_emb[order], positives[order][:, order], divergence, scale)
    swapped = cmpm(text_emb, image_emb, positives.T, divergence, scale)
    torch.testing.assert_close(permuted, expected)
    torch.testing.assert_close(swapped, expected)


def test_reverse_is_multi_positive_cross_entropy_without_the_entropy_of_q(pairs):
    image_emb, _, positives = pairs
    logits = image_emb @ image_emb.T
    q = F.normalize(positives.double(), p=1, dim=1)
    entropy = torch.distributions.Categorical(probs=q).entropy().mean()
    torch.testing.assert_close(matching_divergence(logits, positives, "reverse"), F.cross_entropy(logits, q) - entropy)


def test_with_one_positive_a_row_reverse_is_plain_cross_entropy(pairs):
    logits = pairs[0] @ pairs[1].T
    found = matching_divergence(logits, torch.eye(B, dtype=torch.bool), "reverse")
    torch.testing.assert_close(found, F.cross_entropy(logits, torch.arange(B)))


def test_forward_loses_its_gradient_when_confidently_wrong_and_reverse_does_not():
    """The norm of the image gradients at lengths 1, 5 and 20, all of p on a wrong text."""
    norms = {"forward": [], "reverse": []}
    for divergence, found in norms.items():
        for length in (1.0, 5.0, 20.0):
            image_emb = (length * torch.eye(16, dtype=torch.float64)).requires_grad_()
            text_emb = length * torch.eye(16, dtype=torch.float64).roll(1, 0)
            cmpm(image_emb, text_emb, torch.eye(16, dtype=torch.bool), divergence).backward()
            found.append(image_emb.grad.norm().item())
    assert norms["forward"] == pytest.approx([0.509, 0.156, 1.86e-7], rel=0.01)
    assert all(later > earlier for earlier, later in pairwise(norms["reverse"]))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_cmpm_gradient_is_right(pairs, divergence, learned):
    image_emb, text_emb, positives = pairs
    inputs = [image_emb.requires_grad_(), text_emb.requires_grad_()]
    inputs += [torch.tensor(2.5, dtype=torch.float64, requires_grad=True)] if learned else []

    def loss(image_emb, text_emb, scale=None):
        return cmpm(image_emb, text_emb, positives, divergence, scale)

    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_extreme_logits_give_finite_float32_gradients(divergence):
    image_emb = (1e4 * torch.eye(4)).requires_grad_()
    cmpm(image_emb, torch.eye(4).roll(1, 0), torch.eye(4, dtype=torch.bool), divergence).backward()
    assert image_emb.grad.isfinite().all()


# --- cmpc ----------------------------------------------------------------------------------------------


@pytest.fixture
def weight():
    return torch.randn(D, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, NO_LABEL, 0, 2, NO_LABEL, NO_LABEL]])
def test_cmpc_equals_a_loop(pairs, weight, labels):
    labels = torch.tensor(labels)
    expected = slow_cmpc(*pairs[:2], labels, weight)
    assert cmpc(*pairs[:2], labels, weight).item() == pytest.approx(expected, rel=1e-12)


def test_cmpc_normalises_the_columns_of_its_weight(pairs, weight):
    longer = weight * torch.tensor([2.0, 0.1, 30.0], dtype=torch.float64)
    torch.testing.assert_close(cmpc(*pairs[:2], REPEATED, longer), cmpc(*pairs[:2], REPEATED, weight))


def test_cmpc_of_unlabelled_pairs_is_zero_with_zero_gradient(pairs, weight):
    image_emb = pairs[0].requires_grad_()
    loss = cmpc(image_emb, pairs[1], torch.full((B,), NO_LABEL), weight)
    loss.backward()
    assert loss.item() == 0
    assert image_emb.grad.eq(0).all()


@pytest.mark.parametrize("wrong", [-1, 3])
def test_cmpc_refuses_labels_outside_the_classes(pairs, weight, wrong):
    with pytest.raises(IndexError, match="out of bounds"):
        cmpc(*pairs[:2], torch.tensor([0, 1, wrong, 2, 1, 0]), weight)


def test_cmpc_gradient_is_right(pairs, weight):
    labels = torch.tensor([0, 1, NO_LABEL, 2, 1, 0])
    inputs = [tensor.requires_grad_() for tensor in (*pairs[:2], weight)]
    assert torch.autograd.gradcheck(lambda *tensors: cmpc(*tensors[:2], labels, tensors[2]), inputs)

"""correlational/loss.py: against loops in plain Python, numpy and numerical gradients; the invariants of both terms."""

import math

import numpy as np
import pytest
import torch

from correlational.loss import correlation, reconstruction

B, D, F, G = 7, 5, 3, 4  # batch, code, image view, text view
REDUCTIONS = ("sum", "mean")
SCALES = (1e-2, 1.0, 1e3)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def codes():
    """h(x) and h(y), (B, D), that have something in common."""
    image_code, text_code = draw(B, D, seed=0), draw(B, D, seed=1)
    return image_code, image_code * torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0], dtype=torch.float64) + text_code


@pytest.fixture
def views():
    """What was decoded, and the views themselves: image (B, F) and text (B, G) each."""
    return (draw(B, F, seed=2), draw(B, G, seed=3)), (draw(B, F, seed=4), draw(B, G, seed=5))


def each_unit(image_code, text_code):
    """(D,) the correlation of every unit alone."""
    return torch.stack([correlation(image_code[:, [k]], text_code[:, [k]]) for k in range(image_code.shape[1])])


# --- the oracles: one number at a time -----------------------------------------------------------------


def slow_reconstruction(decoded, views, reduction) -> float:
    pairs = len(views[0])
    numbers, total = 0, 0.0
    for pair in range(pairs):
        for found, view in zip(decoded, views, strict=True):
            for a, b in zip(found[pair].tolist(), view[pair].tolist(), strict=True):
                total += (a - b) ** 2
                numbers += 1
    return total / 2 / pairs if reduction == "sum" else total / numbers


def slow_correlation(image_code, text_code) -> float:
    total = 0.0
    for image, text in zip(image_code.T.tolist(), text_code.T.tolist(), strict=True):
        image_mean, text_mean = sum(image) / len(image), sum(text) / len(text)
        covariance = sum((a - image_mean) * (b - text_mean) for a, b in zip(image, text, strict=True))
        image_deviation = math.sqrt(sum((a - image_mean) ** 2 for a in image) + 1e-8)
        text_deviation = math.sqrt(sum((b - text_mean) ** 2 for b in text) + 1e-8)
        total += covariance / image_deviation / text_deviation
    return total


# --- reconstruction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reconstruction_equals_a_loop(views, reduction):
    assert reconstruction(*views, reduction).item() == pytest.approx(slow_reconstruction(*views, reduction), rel=1e-12)


@pytest.mark.parametrize(("reduction", "expected"), [("sum", (1 + 2 + 3 + 4) / 2 / 2), ("mean", (1 + 2 + 3 + 4) / 8)])
def test_reconstruction_of_two_pairs_by_hand(reduction, expected):
    """An image view of one number beside a text view of three: every number counts alike."""
    image, text = torch.zeros(2, 1), torch.zeros(2, 3)
    decoded = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 2**0.5, 0.0], [3**0.5, 0.0, 2.0]])
    assert reconstruction(decoded, (image, text), reduction).item() == pytest.approx(expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_perfect_reconstruction_costs_nothing(views, reduction):
    assert reconstruction(views[1], views[1], reduction).item() == 0


@pytest.mark.parametrize("view", [0, 1], ids=["image", "text"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_both_views_are_reconstructed(views, reduction, view):
    """Each number of each view counts, and each has a gradient towards its target."""
    decoded, targets = views
    found = [part.clone().requires_grad_() for part in decoded]
    reconstruction(tuple(found), targets, reduction).backward()
    share = 1 / B if reduction == "sum" else 2 / (B * (F + G))
    torch.testing.assert_close(found[view].grad, share * (decoded[view] - targets[view]))
    other = [target.clone() for target in targets]
    other[view][3, 1] += 10
    assert reconstruction(decoded, tuple(other), reduction) > reconstruction(decoded, targets, reduction) + 0.5


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reconstruction_does_not_depend_on_the_size_of_the_batch(views, reduction):
    twice = [tuple(torch.cat([part, part]) for part in side) for side in views]
    torch.testing.assert_close(reconstruction(*twice, reduction), reconstruction(*views, reduction))


def test_only_the_sum_grows_with_the_number_of_dimensions(views):
    wider = [tuple(torch.cat([part, part], 1) for part in side) for side in views]
    torch.testing.assert_close(reconstruction(*wider, "sum"), 2 * reconstruction(*views, "sum"))
    torch.testing.assert_close(reconstruction(*wider, "mean"), reconstruction(*views, "mean"))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reconstruction_gradient_is_right(views, reduction):
    inputs = [part.requires_grad_() for side in views for part in side]
    assert torch.autograd.gradcheck(lambda a, b, c, d: reconstruction((a, b), (c, d), reduction), inputs)


# --- correlation ---------------------------------------------------------------------------------------


def test_correlation_equals_a_loop(codes):
    assert correlation(*codes).item() == pytest.approx(slow_correlation(*codes), rel=1e-12)


def test_correlation_of_small_units_equals_a_loop():
    """Units so small that the 1e-8 in the square roots matters: it stands inside each, and once."""
    image_code, text_code = 1e-4 * draw(B, D, seed=0), 1e-4 * draw(B, D, seed=1)
    expected = slow_correlation(image_code, text_code)
    assert correlation(image_code, text_code).item() == pytest.approx(expected, rel=1e-12)
    assert abs(expected - slow_correlation(1e4 * image_code, 1e4 * text_code)) > 0.1


def test_correlation_equals_that_of_numpy(codes):
    image_code, text_code = (code.numpy() for code in codes)
    expected = [np.corrcoef(image_code[:, k], text_code[:, k])[0, 1] for k in range(D)]
    assert each_unit(*codes).tolist() == pytest.approx(expected, abs=1e-7)
    assert correlation(*codes).item() == pytest.approx(sum(expected), abs=1e-7)


@pytest.mark.parametrize("scale", [1e-9, 1e-4, *SCALES, 1e6])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1.0])
def test_no_unit_correlates_more_than_one(scale, noise):
    """Not even with itself, whatever its size."""
    for seed in range(20):
        image_code = draw(B, D, seed=seed)
        for sign in (-1, 1):
            found = each_unit(scale * image_code, sign * (image_code + noise * draw(B, D, seed=seed + 100)))
            assert found.abs().max() <= 1 + 1e-12


def test_a_batch_of_two_gives_plus_or_minus_one_a_unit():
    image_code = torch.tensor([[0.1, 0.2, 0.9, -0.3], [0.4, 0.1, 0.2, 0.3]], dtype=torch.float64)
    text_code = torch.tensor([[0.5, 0.8, 0.1, -0.9], [0.9, 0.2, 0.8, 0.1]], dtype=torch.float64)
    assert each_unit(image_code, text_code).tolist() == pytest.approx([1, 1, -1, 1], abs=1e-5)
    assert correlation(image_code, text_code).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [["image"], ["text"], ["image", "text"]], ids="-".join)
@pytest.mark.parametrize("value", [0.0, 0.1, -1.0])
def test_a_constant_unit_counts_nothing_and_has_a_finite_gradient(codes, constant, value, dtype):
    """0.1 has no exact mean."""
    image_code, text_code = (code.to(dtype) for code in codes)
    others = [k for k in range(D) if k != 2]
    expected = correlation(image_code[:, others], text_code[:, others])
    for name, code in (("image", image_code), ("text", text_code)):
        if name in constant:
            code[:, 2] = value
        code.requires_grad_()
    found = correlation(image_code, text_code)
    found.backward()
    torch.testing.assert_close(found, expected, atol=1e-3 if dtype == torch.float32 else 1e-9, rtol=0)
    assert image_code.grad.isfinite().all() and text_code.grad.isfinite().all()


def test_a_network_that_has_collapsed_correlates_nothing_with_a_finite_gradient():
    inputs = [torch.full((B, D), 0.5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    found = correlation(*inputs)
    found.backward()
    assert found.item() == 0 and all(code.grad.isfinite().all() for code in inputs)


@pytest.mark.parametrize("side", [0, 1], ids=["image", "text"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shift", [0.0, -3.0, 100.0])
def test_shift_and_positive_scale_of_a_unit_change_nothing(codes, side, scale, shift):
    changed = [code.clone() for code in codes]
    changed[side][:, 1] = scale * changed[side][:, 1] + shift
    torch.testing.assert_close(each_unit(*changed), each_unit(*codes), atol=1e-4, rtol=0)
    torch.testing.assert_close(correlation(*changed), correlation(*codes), atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [0, 1], ids=["image", "text"])
@pytest.mark.parametrize("scale", SCALES)
def test_negative_scale_of_a_unit_flips_its_sign_and_no_other(codes, side, scale):
    changed = [code.clone() for code in codes]
    changed[side][:, 1] *= -scale
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(each_unit(*changed), sign * each_unit(*codes), atol=1e-4, rtol=0)
    expected = correlation(*codes) - 2 * each_unit(*codes)[1]
    torch.testing.assert_close(correlation(*changed), expected, atol=1e-4, rtol=0)


def test_units_of_opposite_signs_cancel_however_unlike_their_sizes():
    """One correlation of all units pooled would be close to 1: the large unit would drown the small one."""
    unit = draw(B, 1)
    image_code, text_code = torch.cat([100 * unit, unit], 1), torch.cat([100 * unit, -unit], 1)
    assert np.corrcoef(image_code.flatten(), text_code.flatten())[0, 1] > 0.99
    assert correlation(image_code, text_code).item() == pytest.approx(0, abs=1e-7)


def test_units_that_differ_in_their_means_alone_correlate_nothing():
    """One correlation of all units pooled would be close to 1: it would see the means."""
    levels = torch.arange(D, dtype=torch.float64) * 100
    image_code, text_code = draw(B, D, seed=0) + levels, draw(B, D, seed=1) + levels
    assert np.corrcoef(image_code.flatten(), text_code.flatten())[0, 1] > 0.99
    expected = correlation(image_code - levels, text_code - levels).item()
    assert correlation(image_code, text_code).item() == pytest.approx(expected, abs=1e-7)
    assert abs(expected) < 0.5 * D


@pytest.mark.parametrize("units", [1, 3, 20])
def test_correlation_is_a_sum_over_the_units(units):
    code = draw(B, units)
    assert correlation(code, code).item() == pytest.approx(units, abs=1e-6)
    assert correlation(code, -code).item() == pytest.approx(-units, abs=1e-6)


def test_correlation_is_between_the_same_unit_of_both_views(codes):
    """Another order of the text's units is another sum; one order for both views is the same."""
    image_code, text_code = codes
    order = torch.tensor([4, 0, 1, 2, 3])
    torch.testing.assert_close(correlation(image_code[:, order], text_code[:, order]), correlation(*codes))
    assert abs(correlation(image_code, text_code[:, order]) - correlation(*codes)) > 0.1


def test_correlation_is_between_the_two_codes_of_a_pair(codes):
    """Another order of the texts is another sum; one order for both is the same, and so is swapping the views."""
    image_code, text_code = codes
    order = torch.tensor([3, 0, 5, 6, 1, 4, 2])
    torch.testing.assert_close(correlation(image_code[order], text_code[order]), correlation(*codes))
    torch.testing.assert_close(correlation(text_code, image_code), correlation(*codes))
    assert abs(correlation(image_code, text_code[order]) - correlation(*codes)) > 0.1


def test_correlation_gradient_is_right(codes):
    assert torch.autograd.gradcheck(correlation, [code.requires_grad_() for code in codes])


def test_the_gradient_reaches_both_codes(codes):
    """And leaves alone what changes nothing: a shift of a unit."""
    inputs = [code.requires_grad_() for code in codes]
    correlation(*inputs).backward()
    for code in inputs:
        assert code.grad.norm() > 0.1
        torch.testing.assert_close(code.grad.sum(0), torch.zeros(D, dtype=torch.float64), atol=1e-12, rtol=0)

"""The losses of the Correlational network.

Chandar, Khapra, Larochelle and Ravindran, "Correlational Neural Networks", Neural Computation 2016.

Shapes: views and their reconstructions are (B, F) for the image and (B, G) for the text, codes are (B, D).
"""

from typing import Literal

from torch import Tensor

EPSILON = 1e-8
Reduction = Literal["sum", "mean"]


def reconstruction(decoded: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], reduction: Reduction) -> Tensor:
    """Squared error of both views, z = [x, y], decoded from one code (the L of equation 3).

        sum (the paper):      1/2 sum_k (z'_k - z_k)^2, averaged over the batch
        mean (the deep one):  the same without the 1/2, averaged over the F + G dimensions as well

    Args:
        decoded: image (B, F) and text (B, G), decoded from the same codes.
        views: image (B, F) and text (B, G).
        reduction: which form; the weight of the correlation depends on it.

    Returns:
        ()
    """
    squared = sum((found - view).square().sum() for found, view in zip(decoded, views, strict=True))
    batch = len(views[0])
    if reduction == "sum":
        return squared / 2 / batch
    return squared / batch / sum(view.shape[1] for view in views)


def correlation(image_code: Tensor, text_code: Tensor) -> Tensor:
    """Correlation of the views' codes over the batch, one a unit, summed over the units (equation 4).

        sum_k  cov(image_code_k, text_code_k) / (deviation(image_code_k) deviation(text_code_k))

    1e-8 inside each square root: a constant unit counts 0.

    Args:
        image_code: h(x), (B, D).
        text_code: h(y), (B, D).

    Returns:
        () from -D to D.
    """
    image = image_code - image_code.mean(0)
    text = text_code - text_code.mean(0)
    covariance = (image * text).sum(0)  # (D,)
    deviations = (image.square().sum(0) + EPSILON).sqrt() * (text.square().sum(0) + EPSILON).sqrt()  # (D,)
    return (covariance / deviations).sum()

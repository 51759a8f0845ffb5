"""The optimiser and the course of its learning rate."""

import math
from typing import Any

import torch
from torch import nn


def build_optimizer(model: nn.Module, settings: Any, rates: dict[nn.Module, float]) -> torch.optim.Optimizer:
    """AdamW; parts of the model may have their own rate, biases and norms have no weight decay.

    It clips the gradients before it updates.
    """
    rate_of = dict.fromkeys(model.parameters(), settings.learning_rate)
    for part, rate in rates.items():
        rate_of |= dict.fromkeys(part.parameters(), rate)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in trained if rate_of[p] == rate and (p.ndim > 1) == is_matrix],
            "lr": rate,
            "weight_decay": settings.weight_decay if is_matrix else 0.0,
        }
        for rate in sorted(set(rate_of.values()))
        for is_matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)

    def clip(*_: Any) -> None:
        # of these alone: to look through a frozen encoder's modules at every step would take as long as to clip
        nn.utils.clip_grad_norm_(trained, settings.gradient_clip)

    if settings.gradient_clip:
        optimizer.register_step_pre_hook(clip)
    return optimizer


def learning_rate_share(step: int, total: int, warmup: float) -> float:
    """Share of the full rate: a linear warm-up over a share of all steps, then a cosine to zero."""
    warm = max(1, round(warmup * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))

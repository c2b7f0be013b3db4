"""Bound from below how alike a map stays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import bench
from bench_metrics.smoothing import find_refusal, l2_radius


@dataclass(frozen=True)
class CosineBound(bench.Metric):
    """Bound `cosine` from below, whatever attack stays in an l2 ball (after Wang and Kong, 2024). The bound is for the
    mean of unit gradients over uniform noise; the paper has a bound on the gradients' length in place of unit ones.

    Such means at two images differ by the noise that only one of them meets: by at most 2 (1 - V), where V is the share
    of the noise's ball of radius R that it has in common with the same ball at a distance r, in d dimensions the
    regularised incomplete beta function I((d + 1) / 2, 1 / 2) at 1 - (r / 2R)^2. A mean over n samples misses its
    expectation by at most e = (1 + sqrt(2 log(2 / (1 - c)))) / sqrt(n), for clean and attacked map at once, with
    confidence c (McDiarmid). So a map m of C channels moves by at most D = sqrt(C) (2 (1 - V) + 2 e), and its cosine is
    at least sqrt(1 - D^2 / |m|^2): that of the worst direction. 0 where D exceeds |m|. The paper bounds attributions
    by their expectations alone, and by |m| / sqrt(|m|^2 + D^2), which is the cosine after a change at right angles to
    m, and larger. A linf or l0 ball counts by the l2 ball around it. It takes no pass of the network.
    """

    name = "cosine_bound"
    range = (0.0, 1.0)
    help = "least cosine of clean and attacked map that any attack in the ball leaves"
    paper = bench.Paper(
        "Certified l2 Attribution Robustness via Uniformly Smoothed Attributions",
        "Fan Wang and Adams Wai-Kin Kong",
        "arXiv",
        2024,
        "https://arxiv.org/abs/2405.06361",
    )
    examples = ("", "confidence=0.9")
    confidence: float = bench.param(0.95, "chance that the bound holds for an image", low=0.5, high=0.999999)

    def refuse(self, case: bench.Case) -> str | None:
        needed = {"shape": "ball", "unit": True, "units": "pixel", "times_input": False}
        return find_refusal(case, {"unigrad": needed})

    def __call__(self, explainer: Any, ball: bench.Ball, images: Tensor, clean_attributions: Tensor) -> Tensor:
        size, channels = images[0].numel(), images.shape[1]
        common = share_in_common(float(explainer.radius) * math.sqrt(size), l2_radius(ball, images), size)
        error = (1 + math.sqrt(2 * math.log(2 / (1 - self.confidence)))) / math.sqrt(explainer.samples)
        moved = math.sqrt(channels) * (2 * (1 - common) + 2 * error)
        lengths = clean_attributions.double().abs().sum(1).flatten(1).norm(dim=1)
        bound = (1 - (moved / lengths.where(lengths > 0, 1)).square()).clamp(min=0).sqrt()
        return torch.where(lengths > 0, bound, torch.nan)


def share_in_common(radius: float, distance: float, dimensions: int) -> float:
    """Return the share of a ball's volume that lies in the same ball at a distance."""
    if not distance:
        return 1.0
    if distance >= 2 * radius:
        return 0.0
    from scipy import special

    return float(special.betainc((dimensions + 1) / 2, 0.5, 1 - (distance / (2 * radius)) ** 2))

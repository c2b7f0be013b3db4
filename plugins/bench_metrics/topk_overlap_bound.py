"""Bound from below how many of the most important pixels stay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import bench
from bench_metrics.smoothing import find_refusal, l2_radius


@dataclass(frozen=True)
class TopKOverlapBound(bench.Metric):
    """Bound `topk_overlap` from below, whatever attack stays in the ball (Levine et al., 2019, for
    `sparsified_smoothgrad`; it holds for `votes` as well). The explainer has to average values in [0, 1] over Gaussian
    noise.

    With deviation s, no image within r moves an average h below Phi(Phi^-1(h) - r / s) or above Phi(Phi^-1(h) + r / s).
    The largest i of k pixels stay if the i-th cannot fall behind the (2k - i + 1)-th. A linf or l0 ball counts by the
    l2 ball around it. A pixel is the mean of its channels.

    Averages over n samples miss h by at most e = sqrt(log(4 P / (1 - c)) / 2 n) (Hoeffding), at all P pixels of clean
    and attacked map at once, with confidence c. e is taken off at both maps, so the bound holds for the sampled overlap
    that is reported; the authors' code takes it off at the clean one alone. The confidence is for one attack that does
    not know the noise of the samples. Many of these are needed: with 256, and 32 x 32 pixels, e is 0.15. It takes no
    pass of the network.
    """

    name = "topk_overlap_bound"
    range = (0.0, 1.0)
    help = "least share of the k most important pixels that any attack in the ball leaves in place"
    paper = bench.papers.LEVINE2019
    examples = ("", "k=5,confidence=0.9")
    k: int = bench.param(20, "number of pixels", low=1)
    confidence: float = bench.param(0.95, "chance that the bound holds for an image", low=0.5, high=0.999999)

    @property
    def grain(self) -> float:
        return 1 / self.k

    def refuse(self, case: bench.Case) -> str | None:
        return find_refusal(case, {"sparsified_smoothgrad": {"units": "pixel"}, "votes": {}})

    def __call__(self, explainer: Any, ball: bench.Ball, images: Tensor, clean_attributions: Tensor) -> Tensor:
        pixels = clean_attributions.double().mean(1).flatten(1)
        if self.k > pixels.shape[1]:
            raise bench.BadValue(f"metric {self}: k is {self.k}, but the maps have {pixels.shape[1]} pixels; lower k")
        error = math.sqrt(math.log(4 * pixels.shape[1] / (1 - self.confidence)) / (2 * explainer.samples))
        radius = l2_radius(ball, images)
        shift = 0.0 if not radius else radius / explainer.noise if explainer.noise else math.inf
        kept = certified_overlap(pixels, self.k, shift, error)
        return torch.where(clean_attributions.flatten(1).any(1), kept.double() / self.k, torch.nan)


def certified_overlap(values: Tensor, k: int, shift: float, error: float) -> Tensor:
    """Return how many of the k largest values stay among these, at the least, if each value in [0, 1] moves by at most
    `shift` on the scale of the normal quantile, and is known up to `error` before and after: (N, P) -> (N,)."""
    ordered = values.sort(dim=1, descending=True).values
    least = torch.special.ndtr(torch.special.ndtri((ordered - error).clamp(0, 1)) - shift) - error
    most = torch.special.ndtr(torch.special.ndtri((ordered + error).clamp(0, 1)) + shift) + error
    others = most[:, k : 2 * k]
    missing = others.new_full((len(values), k - others.shape[1]), -torch.inf)  # fewer than 2 k pixels
    return (least[:, :k] > torch.cat([others, missing], 1).flip(1)).sum(1)

"""Count the pixels whose side no attack can change."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

import bench
from bench_metrics.smoothing import find_refusal, l2_radius


@dataclass(frozen=True)
class CertifiedPixels(bench.Metric):
    """Take the share of pixels whose side in `votes` no attack in the ball can change (Anani et al., ICML 2025). These
    are among the most important pixels in more than half of all noisy copies, or in less than half, and stay so: by
    their chance, of which `votes` is a sample.

    With deviation s, a pixel stays on its side within an l2 distance of r if the chance of that side is above Phi(r /
    s). The chance is known from the samples up to the limit of Clopper and Pearson (Biometrika 1934), for both sides of
    all pixels at once (Bonferroni), so with the confidence all pixels counted are safe. A linf or l0 ball counts by the
    l2 ball around it. The authors choose the side by the first samples and test it on the others, for a given
    threshold, which fixes r; here both sides are tested on all samples, and the ball fixes r. An empty map's pixels
    would all count, so read it beside a metric of what the map shows. It takes no pass of the network.
    """

    name = "certified_pixels"
    range = (0.0, 1.0)
    help = "share of pixels that no attack in the ball moves in or out of the most important ones"
    paper = bench.papers.ANANI2025
    examples = ("", "confidence=0.999")
    confidence: float = bench.param(0.95, "chance that all pixels counted of an image are safe", low=0.5, high=0.999999)

    def refuse(self, case: bench.Case) -> str | None:
        return find_refusal(case, {"votes": {}})

    def __call__(self, explainer: Any, ball: bench.Ball, images: Tensor, clean_attributions: Tensor) -> Tensor:
        radius = l2_radius(ball, images)
        chances = least_chances(clean_attributions[:, 0], explainer.samples, self.confidence)
        safe = (chances > NormalDist().cdf(radius / explainer.noise)).double().mean((1, 2))
        return torch.where(clean_attributions.flatten(1).any(1), safe, torch.nan)


def least_chances(votes: Tensor, samples: int, confidence: float) -> Tensor:
    """Return the least chance of the side of one half on which the share of votes is: (N, H, W) -> (N, H, W)."""
    from scipy import special  # here: it takes a while to import, and plugins load with every command

    hits = (votes * samples).round().double()
    hits = torch.maximum(hits, samples - hits)
    level = (1 - confidence) / (2 * votes[0].numel())
    most = hits.cpu().numpy()
    limits = special.betaincinv(most, samples - most + 1, level)
    return torch.as_tensor(limits, device=votes.device)

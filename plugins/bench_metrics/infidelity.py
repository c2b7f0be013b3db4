"""Test an attribution as a forecast of perturbations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import target_logits


@dataclass(frozen=True)
class Infidelity(bench.Metric):
    """Compare what the attribution says of perturbations with what the logit does (Yeh et al., NeurIPS 2019, definition
    2.1). The score is the mean of (b <I, a> - (f(x) - f(x - I)))^2 over perturbations I, with the attribution a of the
    logit f.

    b is the best factor for each image, as in their section 4, so attributions of any scale compare; with scaled=false,
    it is 1. "gaussian" draws I from a normal distribution. "square" sets a random square to the mean colour, or a
    rectangle of the image's proportions where the image is not square. x - I may leave [0, 1]. An attribution of one
    channel counts for all channels. Undefined where the attribution is zero.
    """

    name = "infidelity"
    better = "lower"
    range = (0.0, None)
    help = "squared error of the attribution as a forecast of what perturbations do to the logit"
    paper = bench.Paper(
        "On the (In)fidelity and Sensitivity of Explanations",
        "Chih-Kuan Yeh and Cheng-Yu Hsieh and Arun Sai Suggala and David I. Inouye and Pradeep Ravikumar",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1901.09392",
    )
    examples = ("", "perturbation=square,draws=5", "scaled=false")
    perturbation: Literal["gaussian", "square"] = bench.param("gaussian", "perturbation to subtract from images")
    sigma: float = bench.param(0.1, "standard deviation of gaussian, in pixel units", low=1e-6)
    side: float = bench.param(0.25, "side of the square, as a share of the image's side", low=0.01, high=1)
    draws: int = bench.param(50, "perturbations of each image", low=1)
    scaled: bool = bench.param(True, "whether to scale attributions to the logits first")

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor,
        clean_attributions: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Tensor:
        def errors(images: Tensor, targets: Tensor, attributions: Tensor) -> Tensor:
            whole = target_logits(network(images), images, targets).double()
            forecasts, observed = [], []
            for _ in range(self.draws):
                change = self.draw(network, images)
                forecasts.append((change.double() * attributions).sum((1, 2, 3)))
                observed.append(whole - target_logits(network(images - change), images, targets).double())
            products, falls = torch.stack(forecasts, 1), torch.stack(observed, 1)
            squares = products.square().sum(1, keepdim=True)
            factor = (products * falls).sum(1, keepdim=True) / torch.where(squares > 0, squares, 1)
            return ((factor if self.scaled else 1) * products - falls).square().mean(1)

        values = bench.chunked(
            errors, images, targets, clean_attributions, seed=seed, name="infidelity", indices=test_data.rows
        )
        return torch.where(clean_attributions.flatten(1).any(1), values, torch.nan)

    def draw(self, network: nn.Module, images: Tensor) -> Tensor:
        """Draw a perturbation I of each image: (N, C, H, W)."""
        if self.perturbation == "gaussian":
            return self.sigma * noise.normal(images)
        inside = torch.ones_like(images[:, :1], dtype=torch.bool)
        for axis in (2, 3):
            size = images.shape[axis]
            side = max(1, round(self.side * size))
            start = (noise.uniform(images[:, :1, :1, :1], 0, 1) * (size - side + 1)).long()
            place = (
                torch.arange(size, device=images.device).view(-1, 1)
                if axis == 2
                else torch.arange(size, device=images.device)
            )
            inside = inside & (place >= start) & (place < start + side)
        return (images - bench.normalisation(network)[0]) * inside

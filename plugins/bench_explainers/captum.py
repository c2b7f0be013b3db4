"""Ask captum for an attribution."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import target_logits

BATCH = 16  # perturbed images in a forward pass


@dataclass(frozen=True)
class Captum(bench.Explainer):
    """Attribute the target's logit by a method of captum (Kokhlikyan et al., 2020). The methods are those that need no
    more than a function of images.

    FeatureAblation, KernelShap (Lundberg and Lee, 2017), Lime (Ribeiro et al., 2016) and ShapleyValueSampling treat
    each square of pixels, with all its channels, as one feature; Occlusion moves such a square by its side. What they
    take away gets the colour `fill`, which is also the baseline of GradientShap and IntegratedGradients. Everything
    else has captum's defaults, except that Saliency is signed. InputXGradient multiplies by the image in pixel units.

    Each image is explained alone, with seeds of its own. No gradient passes through, so only transfer and black-box
    attacks reach it. For each image it takes `samples` forward passes (KernelShap, Lime), as many for each square
    (ShapleyValueSampling), one for each square (FeatureAblation, Occlusion), or `samples` or one with a backward pass
    (the others).
    """

    name = "captum"
    differentiable = False
    paper = bench.Paper(
        "Captum: A unified and generic model interpretability library for PyTorch",
        "Narine Kokhlikyan and Vivek Miglani and Miguel Martin and Edward Wang and Bilal Alsallakh and Jonathan "
        "Reynolds and Alexander Melnikov and Natalia Kliushkina and Carlos Araya and Siqi Yan and Orion "
        "Reblitz-Richardson",
        "arXiv",
        2020,
        "https://arxiv.org/abs/2009.07896",
    )
    examples = ("method=KernelShap,samples=8,square=6", "method=GradientShap,samples=5")
    method: Literal[
        "FeatureAblation",
        "GradientShap",
        "InputXGradient",
        "IntegratedGradients",
        "KernelShap",
        "Lime",
        "Occlusion",
        "Saliency",
        "ShapleyValueSampling",
    ] = bench.param(help="class of captum.attr")
    samples: int = bench.param(50, "samples or steps, of methods that have them", low=1)
    square: int = bench.param(4, "side of the squares, in pixels", low=1)
    fill: Literal["mean", "black"] = bench.param("mean", "colour of what is taken away: the mean colour, or black")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        method = self._load()
        cover = bench.normalisation(network)[0].to(images) if self.fill == "mean" else images.new_zeros(())
        channels, height, width = images.shape[1:]
        window = (channels, min(self.square, height), min(self.square, width))
        given = {
            "baselines": torch.zeros_like(images[:1]) + cover,
            "feature_mask": number_squares(height, width, self.square).to(images.device).repeat(1, channels, 1, 1),
            "n_samples": self.samples,
            "n_steps": self.samples,
            "sliding_window_shapes": window,
            "strides": window,
            "perturbations_per_eval": BATCH,
            "abs": False,
        }
        taken = {name: given[name] for name in inspect.signature(method.attribute).parameters if name in given}
        found = []
        for image, target, seed in zip(images.split(1), targets.split(1), noise.seeds(images), strict=True):

            def score(copies: Tensor, target: Tensor = target) -> Tensor:
                return target_logits(network(copies), copies, target.expand(len(copies)))

            with noise.generators(seed), torch.enable_grad():
                found.append(method(score).attribute(image.detach().requires_grad_(), **taken).detach())
        return torch.cat(found).to(images)

    def _load(self) -> Any:
        try:
            return getattr(importlib.import_module("captum.attr"), self.method)
        except ImportError:
            raise bench.EnvironmentProblem(
                f"explainer {self} needs captum, with scikit-learn, which is not installed; pip install "
                "'robust-explanation-bench[captum]'"
            ) from None


def number_squares(height: int, width: int, side: int) -> Tensor:
    """Number the square of each pixel, from 0 in reading order: (H, W) int64. The last ones may be smaller."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    return rows[:, None] * (columns[-1] + 1) + columns

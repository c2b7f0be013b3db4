"""Ask quantus for a score."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.errors import quote_error

# What quantus says is better.
LOWER = frozenset(
    {"Complexity", "EffectiveComplexity", "Infidelity", "NonSensitivity", "PixelFlipping", "RegionPerturbation"}
    | {"Selectivity"}
)


@dataclass(frozen=True)
class Quantus(bench.Metric):
    """Score the attribution of the clean image by a metric of quantus (Hedström et al., JMLR 2023). The metrics are
    those that need nothing but network, image, target and attribution.

    Whether the metric sees magnitudes, scales them, and what it puts in the place of pixels is as quantus has it by
    default; `step` and `draws` go to metrics that have such parameters. Probabilities are those of the softmax. A curve
    counts by its mean, and a truth as 1. Each image is scored alone, in single precision, with seeds of its own.
    """

    name = "quantus"
    help = "a score of quantus for the map of the clean image"
    paper = bench.Paper(
        "Quantus: An Explainable AI Toolkit for Responsible Evaluation of Neural Network Explanations and Beyond",
        "Anna Hedström and Leander Weber and Daniel Krakowczyk and Dilyara Bareeva and Franz Motzkus and Wojciech "
        "Samek and Sebastian Lapuschkin and Marina M.-C. Höhne",
        "Journal of Machine Learning Research",
        2023,
        "https://jmlr.org/papers/v24/22-0142.html",
    )
    examples = ("metric=Sparseness", "metric=FaithfulnessCorrelation,step=24,draws=4")
    metric: Literal[
        "Completeness",
        "Complexity",
        "EffectiveComplexity",
        "FaithfulnessCorrelation",
        "FaithfulnessEstimate",
        "Infidelity",
        "Monotonicity",
        "MonotonicityCorrelation",
        "NonSensitivity",
        "PixelFlipping",
        "RegionPerturbation",
        "Selectivity",
        "Sparseness",
    ] = bench.param(help="class of quantus")
    step: int = bench.param(16, "elements changed at a time; quantus wants a divisor of their number", low=1)
    draws: int = bench.param(50, "changes drawn at random", low=1)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if self.metric in LOWER else "higher"

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor,
        clean_attributions: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Tensor:
        single = InSingle(network).eval()

        def score_all(images: Tensor, targets: Tensor, attributions: Tensor) -> Tensor:
            rows = zip(images.split(1), targets.split(1), attributions.split(1), noise.seeds(images), strict=True)
            return torch.tensor([self._score(single, *row) for row in rows], device=images.device, dtype=torch.float64)

        rows = (images, targets, clean_attributions)
        return bench.chunked(score_all, *rows, seed=seed, name="quantus", indices=test_data.rows)

    def _score(self, network: nn.Module, image: Tensor, target: Tensor, attribution: Tensor, seed: int) -> float:
        if not attribution.float().any():  # which quantus refuses
            return math.nan
        with warnings.catch_warnings(action="ignore"), noise.generators(seed):
            metric = self._load()
            given = {
                "features_in_step": self.step,
                "subset_size": self.step,
                "nr_runs": self.draws,
                "nr_samples": self.draws,
                "n_perturb_samples": self.draws,
                "disable_warnings": True,
                "display_progressbar": False,
            }
            taken = {name: given[name] for name in inspect.signature(metric).parameters if name in given}
            row = (each.detach().cpu().numpy() for each in (image.float(), target, attribution.float()))
            try:
                found = metric(**taken)(network, *row, softmax=True, device=str(image.device))
            except AssertionError as error:  # how quantus refuses what it is given
                raise bench.BadValue(f"metric {self}: {quote_error(error)}; choose another step") from None
        return _mean(found[0])

    def _load(self) -> Any:
        try:
            return getattr(importlib.import_module("quantus"), self.metric)
        except ImportError:
            raise bench.EnvironmentProblem(
                f"metric {self} needs quantus, which is not installed; pip install 'robust-explanation-bench[quantus]'"
            ) from None


def _mean(found: Any) -> float:
    """A number of what quantus gives for an image: a number, a truth, or values by level."""
    values = list(found.values()) if isinstance(found, dict) else found
    return float(torch.as_tensor(values, dtype=torch.float64).mean())


class InSingle(nn.Module):
    """Takes float32, as quantus gives it, and gives float32 around a network of another precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.to(self.dtype))
        return logits.float()

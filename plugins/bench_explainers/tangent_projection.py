"""Keep the part of an explanation that points along the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench
from bench import papers
from bench_explainers.gradient import Gradient

TOLERANCE = 1e-6  # of the largest eigenvalue: directions with less than this, such as between equal images, are none


@dataclass(frozen=True)
class TangentProjection(bench.Explainer):
    """Project another explainer's attribution on the tangent space of the data (the hyperplane method; Anders et al.,
    ICML 2020). The plane goes through an image and its nearest training images, so a manipulation that acts across the
    data does not show.

    The plane is spanned by the differences of the neighbours to the image, over all channels in pixel units, and the
    attribution is projected orthogonally: (B, C, H, W) -> (B, C, H, W). Adds no passes to those of the explainer, but
    the distances to all references. The authors search the whole training set of the image's own class, and compute
    planes of test images beforehand; here the neighbours are of any class and from a fixed choice of training images,
    with equally many of each class, and attacks see how the plane turns with the image. Like their 30 directions of 30
    neighbours, all directions count. Their gradient times input is projected before it is multiplied, while
    explainer=(input_x_gradient) is projected as a whole.
    """

    name = "tangent_projection"
    paper = papers.ANDERS2020
    examples = ("neighbours=4,references=10", "explainer=(input_x_gradient),neighbours=3,references=12")
    explainer: bench.Explainer = bench.param(Gradient(), "what explains the image; its attribution has all channels")
    neighbours: int = bench.param(30, "training images that span the plane", low=1)
    references: int = bench.param(1000, "training images to choose them from; all of a smaller set", low=1)

    def find_problem(self) -> str | None:
        if self.neighbours > self.references:
            return f"neighbours is {self.neighbours}, must be at most references, {self.references}"
        return None

    @property
    def differentiable(self) -> bool:
        return self.explainer.differentiable

    @property
    def mask_rule(self) -> Literal["percentile", "minmax", "none"]:
        return self.explainer.mask_rule

    def refuse(self, case: bench.Case) -> str | None:
        return self.explainer.refuse(case)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        if len(train_data) < self.neighbours:
            raise bench.BadValue(
                f"tangent_projection: neighbours is {self.neighbours}, but there are {len(train_data)} training "
                "images; lower neighbours"
            )
        rows = train_data.choice(min(self.references, len(train_data)))
        inner = self.explainer.prepare(network, train_data, fit)
        return {"plane": train_data.at(rows).images} | {f"explainer.{name}": each for name, each in inner.items()}

    def attribute(
        self, network: nn.Module, images: Tensor, targets: Tensor, prepared: dict[str, Tensor] | None = None
    ) -> Tensor:
        assert prepared, "pass what prepare returned"
        inner: dict[str, Any] = {
            name.removeprefix("explainer."): each for name, each in prepared.items() if name != "plane"
        }
        found = self.explainer.attribute(network, images, targets, *([inner] if self.explainer.prepares else []))
        if found.shape != images.shape:
            raise bench.BadValue(
                f"tangent_projection: {self.explainer} gives {found.shape[1]} channel, and images have "
                f"{images.shape[1]}; use an explainer of all channels, such as gradient"
            )
        differences = neighbours(images, prepared["plane"].to(images), self.neighbours) - images.flatten(1)[:, None]
        return project(found.flatten(1), differences).view_as(images)


def neighbours(images: Tensor, references: Tensor, count: int) -> Tensor:
    """Choose the references that are nearest to each image in l2: (B, C, H, W), (M, C, H, W) -> (B, count, D)."""
    flat = references.flatten(1)
    with torch.no_grad():
        nearest = torch.cdist(images.flatten(1), flat).topk(count, dim=1, largest=False).indices
    return flat[nearest]


def project(vectors: Tensor, spanning: Tensor) -> Tensor:
    """Project vectors on the space that others span: (B, D), (B, K, D) -> (B, D)."""
    along = spanning @ vectors[:, :, None]
    inverse = torch.linalg.pinv((spanning @ spanning.mT).double(), rtol=TOLERANCE, hermitian=True).to(spanning)
    return (spanning.mT @ (inverse @ along))[:, :, 0]

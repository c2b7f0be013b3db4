"""Draws figure 1 of Joo et al. (AAAI 2023): `python docs/level_curves.py` writes docs/level-curves.png.

Small networks are trained on points of two classes in the plane, by the suite's own defenses. Each panel shows level
curves of the logit, and its gradients at two nearby points, with their l2 distance and their cosine. Whatever shrinks
the gradients, as `maxent` does, shrinks their distance; only the cosine says whether they agree. Takes a minute.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.engine import Store
from bench.gradients import input_gradient

PICTURE = Path(__file__).with_name("level-curves.png")
# Activation and defense of each panel.
PANELS = (
    ("relu", "ce"),
    ("softplus", "ce"),
    ("softplus", "maxent:weight=0.5"),
    ("softplus", "l2:weight=0.1,eps=1/10"),
    ("softplus", "cosd:weight=10,eps=1/10"),
    ("softplus", "l2_cosd:l2=0.1,cosine=10,eps=1/10"),
)
SCHEDULE = "quick:epochs=40,batch=32,rate=0.01,decay=(30)"


class Plane(nn.Module):
    """Two layers from a point to its logit z, as logits (-z / 2, z / 2): their cross-entropy is that of z alone."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 16), nn.ReLU() if activation == "relu" else nn.Softplus(3.0), nn.Linear(16, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        half = self.layers(images.flatten(1)) / 2
        return torch.cat([-half, half], 1)


@dataclass(frozen=True)
class PlaneModel(bench.Model):
    """A network for points, which are images of one pixel and two channels."""

    name = "plane"
    activation: Literal["relu", "softplus"] = "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        return bench.Normalised(Plane(self.activation), [0.5] * 2, [0.25] * 2)


def make_points(count: int = 512) -> bench.Data:
    """Points (N, 2, 1, 1) in the unit square on both sides of a wave, with a margin."""
    points = torch.rand(4 * count, 2, generator=torch.Generator().manual_seed(0))
    above = points[:, 1] - 0.5 - 0.2 * torch.sin(3 * math.pi * points[:, 0])
    points, above = points[above.abs() > 0.05][:count], above[above.abs() > 0.05][:count]
    return bench.Data(points[:, :, None, None], (above > 0).long(), ("below", "above"))


def train(activation: str, defense: str, data: bench.Data, schedule: str = SCHEDULE) -> nn.Module:
    """Train a network as a defense does."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), print).unfinished("plane") as unfinished:
        fit = bench.Fit(
            data, PlaneModel(activation), bench.component("schedule", schedule), 0, torch.device("cpu"), unfinished, [],
            lambda other: (nn.Module(), []),
        )  # fmt: skip
        return bench.component("defense", defense).train(fit).eval().requires_grad_(False)


def gradients(network: nn.Module, points: Tensor) -> Tensor:
    """The gradients of z at points: (N, 2) -> (N, 2)."""
    with torch.no_grad():
        half = input_gradient(network, points[:, :, None, None], torch.ones(len(points), dtype=torch.long))
    return 2 * half.flatten(1)


def find_pair(network: nn.Module, distance: float = 0.08) -> Tensor:
    """The two points of that distance near the decision boundary whose gradients agree least, (2, 2)."""
    grid = torch.cartesian_prod(torch.linspace(0.1, 0.9, 60), torch.linspace(0.1, 0.9, 60))
    with torch.no_grad():
        logits = network(grid[:, :, None, None])
    near = grid[(logits[:, 1] - logits[:, 0]).abs() < 1]
    others = near + distance * torch.tensor([1.0, 0.0])
    agree = torch.cosine_similarity(gradients(network, near), gradients(network, others))
    return torch.stack([near[agree.argmin()], others[agree.argmin()]])


def compare(slopes: Tensor) -> tuple[float, float]:
    """The l2 distance and the cosine of two gradients, (2, 2)."""
    return float((slopes[0] - slopes[1]).norm()), float(torch.cosine_similarity(slopes[0], slopes[1], dim=0))


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    data = make_points()
    networks = [train(activation, defense, data) for activation, defense in PANELS]
    pair = find_pair(networks[0])
    side = torch.linspace(0, 1, 200)
    grid = torch.cartesian_prod(side, side)
    figure, axes = pyplot.subplots(2, 3, figsize=(10, 7), dpi=110, layout="constrained", sharex=True, sharey=True)
    for axis, network, (activation, defense) in zip(axes.flat, networks, PANELS, strict=True):
        logits = network(grid[:, :, None, None])
        levels = (logits[:, 1] - logits[:, 0]).view(200, 200).T
        axis.contour(side, side, levels, 25, cmap="RdBu_r", linewidths=0.8)
        axis.contour(side, side, levels, [0.0], colors="black", linewidths=1.5)
        axis.scatter(*data.images[:200].flatten(1).T, c=data.labels[:200], cmap="RdBu_r", s=5, alpha=0.4)
        slopes = gradients(network, pair)
        distance, cosine = compare(slopes)
        # One scale for all panels would hide the small gradients of some.
        arrows = 0.2 * slopes / slopes.norm(dim=1).max()
        axis.quiver(*pair.T, *arrows.T, color=["tab:green", "tab:purple"], angles="xy", scale_units="xy", scale=1)
        axis.set_title(f"{activation}, {defense}", fontsize=9)
        axis.set_xlabel(f"distance {distance:.2f}, cosine {cosine:.2f}", fontsize=9)
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()

"""Make gradients look like the image that they explain."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient, softened, twice_differentiable
from bench_defenses.adversary import ascend


@dataclass(frozen=True)
class IGA(bench.Defense):
    """Align the gradient of the label's logit with the image ("ART" of Singh et al., ECCV 2020; IGA in Joo et al.,
    2023). The loss is CE(x') + weight softplus(d(x, g_y) - d(x, g_i)) with d = 1 - cosine, by the normalised image: the
    gradient g_y of the label's logit shall be closer to the image than the gradient g_i of the best other class.

    Projected sign steps up this loss, from a random start, find x'. They move the elements where g_y is largest at the
    start. With `mining`, x and x' are both anchors, each with the further g_y and the closer g_i of the two; without
    it, x' is the anchor. In a ReLU network, gradients come from softplus in its place, and the cross-entropy from the
    network itself. x' is computed in eval mode. The paper prints a comma in place of its minus.

    "joo2023" is the form that Joo et al. print and the setting that they selected: all elements move, without mining.
    Their eps of 1 is read as a grey level, like their other budgets. Their LeNet has softplus with beta 50 throughout,
    lenet:beta=50, and is trained by singh2020:epochs=200,batch=128,decay=(50,80,150).
    """

    name = "iga"
    paper = bench.papers.SINGH2020
    presets: ClassVar[dict[str, str]] = {"joo2023": "weight=1,eps=1/255,elements=0,mining=false"}
    examples = ("steps=1,elements=100", "steps=2,elements=100,mining=false", "joo2023,steps=1")
    weight: float = bench.param(0.5, "weight of the triplet loss", low=0)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball of x', in pixel units", low=0, high=1)
    steps: int = bench.param(3, "sign steps to x'", low=1)
    step: float = bench.param(0.625, "length of a step, as a share of eps", low=0)
    elements: int = bench.param(1000, "elements of the image that move, over all channels; 0 for all", low=0)
    mining: bool = bench.param(True, "whether every anchor takes the harder of x and x'")
    beta: float = bench.param(50.0, "sharpness of the softplus that replaces ReLU", low=0.01)

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball("linf", self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            with fit.evaluating(network):
                moved = self.perturb(network, batch.images, batch.labels, ball)
            return self.loss(network, batch.images, moved, batch.labels)

        return fit.minimise(fit.fresh(), loss)

    def perturb(self, network: nn.Module, images: Tensor, labels: Tensor, ball: bench.Ball) -> Tensor:
        """Find x' for each image: (B, C, H, W), (B,) -> (B, C, H, W)."""
        start = ball.sample(images)
        _, std = bench.normalisation(network)
        movable: list[Tensor] = []

        def objective(moved: Tensor) -> Tensor:
            with softened(self.beta) as soft:
                near, far, slope, _ = self._distances(network, moved, labels)
            if not movable:
                if soft.replaced:  # the network itself selects the elements
                    with torch.no_grad():
                        slope = std * input_gradient(network, start, labels)
                movable.append(self._mark_largest(slope.detach()))
            return F.softplus((near - far).squeeze(1))

        return ascend(images, start, ball, self.steps, self.step, objective, lambda: movable[0])

    def _mark_largest(self, slope: Tensor) -> Tensor:
        """Return one for the largest elements of each image's gradient, else zero: (B, C, H, W) -> (B, C, H, W)."""
        sizes = slope.abs().flatten(1)
        top = sizes.topk(min(self.elements or sizes.shape[1], sizes.shape[1]), dim=1).indices
        return torch.zeros_like(sizes).scatter_(1, top, 1.0).view_as(slope)

    def loss(self, network: nn.Module, images: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
        """Return the whole loss, given x'."""
        anchors = torch.cat([images, moved]) if self.mining else moved
        with softened(self.beta) as soft:
            near, far, _, logits = self._distances(
                network, anchors.detach().requires_grad_(), labels.repeat(1 + self.mining), twins=self.mining
            )
        triplet = F.softplus(near.amax(1) - far.amin(1)).mean()
        # Where nothing was replaced and rows are independent, x' has passed through the network already.
        same = not soft.replaced and not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
        logits = logits[-len(labels) :] if same else network(moved)
        return F.cross_entropy(logits, labels) + self.weight * triplet

    def _distances(
        self, network: nn.Module, images: Tensor, labels: Tensor, twins: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return d of each image to g_y and to g_i, (B, 1 or 2) each, g_y itself, and the logits.

        With `twins`, a second column has the gradients of the image's twin, which is half a batch away.
        """
        mean, std = bench.normalisation(network)
        with twice_differentiable():
            logits = network(images)
            own = F.one_hot(labels, logits.shape[1]).bool()
            other = logits.detach().masked_fill(own, -torch.inf).argmax(1)
            slopes = [
                std * torch.autograd.grad(logits.gather(1, c[:, None]).sum(), images, create_graph=True)[0]
                for c in (labels, other)
            ]
        anchors = ((images - mean) / std).flatten(1)

        def distances(slope: Tensor) -> Tensor:
            seen = [slope, slope.roll(len(images) // 2, 0)] if twins else [slope]
            return torch.stack([1 - F.cosine_similarity(anchors, one.flatten(1), dim=1) for one in seen], 1)

        return distances(slopes[0]), distances(slopes[1]), slopes[0], logits

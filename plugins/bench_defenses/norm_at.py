"""Penalise norms of loss gradients by training on perturbed images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import loss_gradient, unit


@dataclass(frozen=True)
class NormAT(bench.Defense):
    """Train on adversarial images that keep a norm of the input gradient small (Gong et al., CVPR 2024, after
    Goodfellow et al., ICLR 2015; norm=l2 is that of their C.3.1). To first order, the cross-entropy at x + d adds a
    norm of the gradient q of each image's loss: l1 for d in an linf ball, l2 for d in an l2 ball, the sum of l2 norms
    over blocks for d in a ball of each block ("group"), and eps |q|_1 + eps2 |q|_2^2 for d under a cost ("elastic").

    "fast" takes the solution to first order: eps sign q, eps q / |q| in the image or in each block, or eps sign q +
    2 eps2 q. "iterative" takes steps from zero: 0.3 eps along the sign, or the unit l2 gradient times 0.3 (elastic) or
    1.0 (l2 and group), as in the authors' code. With printed=true it starts at the solution to first order, and all
    steps are 0.3 long, as in their text (B.4). "free" repeats every batch `replays` times, and takes weights and d from
    the same backward pass (Shafahi et al., NeurIPS 2019): d moves by the solution to first order and back into its
    ball, or by a step of "iterative" for elastic, which has no ball. "momentum" is MI-FGSM (Dong et al., CVPR 2018)
    with 10 steps of eps / 10. The paper gives no settings for the last two; these are ours.

    eps is in units of the normalised image. Blocks are squares of one channel. As in the authors' code, d is computed
    in train mode, so batch norm sees both passes, and is not clipped to valid images.
    """

    name = "norm_at"
    paper = bench.papers.GONG2024
    examples = (
        "",
        "norm=group,block=5,eps=0.1",
        "norm=elastic,scheme=iterative,steps=2",
        "norm=group,scheme=iterative,steps=2,block=4",
        "scheme=iterative,steps=2",
        "norm=l2,scheme=iterative,steps=2,printed=true",
        "scheme=free,replays=2",
        "norm=elastic,scheme=free,replays=2",
        "scheme=momentum",
    )
    norm: Literal["l1", "l2", "group", "elastic"] = bench.param("l1", "norm of the loss gradient")
    scheme: Literal["fast", "iterative", "free", "momentum"] = bench.param("fast", "how to find d")
    eps: float = bench.param(0.01, "weight of the norm, in units of the normalised image", low=0)
    eps2: float = bench.param(0.05, "weight of the squared norm (elastic)", low=1e-9)
    block: int = bench.param(14, "side of a block in pixels (group)", low=1)
    steps: int = bench.param(7, "gradient steps (iterative)", low=1)
    replays: int = bench.param(4, "times that a batch is repeated (free)", low=1)
    printed: bool = bench.param(False, "start and step as in the text, not the code (iterative)", added=True)

    def find_problem(self) -> str | None:
        if self.norm != "l1" and self.scheme == "momentum":
            return f"scheme momentum works with norm=l1 only; use fast, iterative or free with norm={self.norm}"
        if self.printed and self.scheme != "iterative":
            return f"printed=true is a form of scheme=iterative; leave it out with scheme={self.scheme}"
        return None

    def refuse(self, case: bench.Case) -> str | None:
        return self._find_misfit(case.dataset.form[0])

    def _find_misfit(self, shape: tuple[int, int, int]) -> str | None:
        _, height, width = shape
        if self.norm == "group" and self.block > min(height, width):
            return f"block is {self.block}, images are {height} x {width}; give a smaller block"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        if why := self._find_misfit(fit.data.shape):
            raise bench.BadValue(f"norm_at: {why}")
        if self.scheme == "free":
            return self._train_free(fit)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            _, std = bench.normalisation(network)
            change = self.change(network, batch.images, batch.labels)
            return F.cross_entropy(network(batch.images + std * change), batch.labels)

        return fit.minimise(fit.fresh(), loss)

    def _train_free(self, fit: bench.Fit) -> nn.Module:
        """Train with one batch of changes, carried from batch to batch by position."""
        network = fit.fresh()
        _, std = bench.normalisation(network)
        fit.state["change"] = torch.zeros(fit.batch, *fit.data.shape, device=std.device)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            change = fit.state["change"][: len(batch.images)]
            return F.cross_entropy(network(batch.images + std * change), batch.labels)

        def after(batch: bench.Batch, gradient: Tensor) -> None:
            change = fit.state["change"][: len(batch.images)]
            # Of each image's own loss, by the normalised image; the loop's is that of the batch's mean, by pixels.
            own = len(batch.images) * std * gradient
            change.copy_(
                self._ascend(change, own) if self.norm == "elastic" else self._project(change + self.solution(own))
            )

        return fit.minimise(network, loss, replays=self.replays, after=after)

    def change(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Find d for each image, in units of the normalised image: (B, C, H, W), (B,) -> (B, C, H, W)."""
        _, std = bench.normalisation(network)

        def slope(change: Tensor) -> Tensor:
            return std * loss_gradient(network, images + std * change, labels)

        start = torch.zeros_like(images)
        if self.scheme == "fast":
            return self.solution(slope(start))
        return self._momentum(slope, start) if self.scheme == "momentum" else self._iterate(slope, start)

    def solution(self, gradient: Tensor) -> Tensor:
        """Return the best d to first order."""
        if self.norm == "l2":
            return self.eps * unit(gradient)
        if self.norm == "group":
            return self.eps * gradient / block_norms(gradient, self.block)
        sign = self.eps * gradient.sign()
        return sign if self.norm == "l1" else sign + 2 * self.eps2 * gradient

    def _iterate(self, slope: Callable[[Tensor], Tensor], change: Tensor) -> Tensor:
        if self.printed:
            change = self.solution(slope(change))
        for _ in range(self.steps):
            change = self._ascend(change, slope(change))
        return change

    def _ascend(self, change: Tensor, gradient: Tensor) -> Tensor:
        """Take a step of "iterative"."""
        if self.norm == "l1":
            return self._project(change + 0.3 * self.eps * gradient.sign())
        if self.norm == "elastic":
            # Up the loss minus the cost |(|d| - eps)_+|^2 / (4 eps2).
            cost = (change.abs() - self.eps).clamp(min=0) * change.sign() / (2 * self.eps2)
            return change + 0.3 * unit(gradient - cost)
        return self._project(change + (0.3 if self.printed else 1.0) * unit(gradient))

    def _project(self, change: Tensor) -> Tensor:
        """Bring d back into the ball of its norm; elastic has none."""
        if self.norm == "l1":
            return change.clamp(-self.eps, self.eps)
        if self.norm == "l2":
            lengths = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        else:
            lengths = block_norms(change, self.block)
        return change * (self.eps / lengths.clamp(min=1e-12)).clamp(max=1)

    def _momentum(self, slope: Callable[[Tensor], Tensor], change: Tensor) -> Tensor:
        direction = torch.zeros_like(change)
        for _ in range(10):
            gradient = slope(change)
            direction = direction + gradient / gradient.abs().sum((1, 2, 3), keepdim=True).clamp(min=1e-12)
            change = (change + self.eps / 10 * direction.sign()).clamp(-self.eps, self.eps)
        return change


def block_norms(values: Tensor, block: int) -> Tensor:
    """Return at every element the l2 norm of its square of one channel, never zero: (B, C, H, W) -> (B, C, H, W).

    Squares at the edges may be smaller.
    """
    sums = F.avg_pool2d(values.square(), block, ceil_mode=True, divisor_override=1)
    wide = sums.repeat_interleave(block, 2).repeat_interleave(block, 3)
    return wide[:, :, : values.shape[2], : values.shape[3]].sqrt().clamp(min=1e-12)

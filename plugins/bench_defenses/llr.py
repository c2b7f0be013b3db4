"""Keep losses linear near images, and flat."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import ascend, losses_and_slopes


@dataclass(frozen=True)
class LLR(bench.Defense):
    """Keep the loss linear in a ball ("Local Linearity Regularization", Qin et al., NeurIPS 2019). The loss is CE(x) +
    weight |CE(x + d) - CE(x) - d q(x)| + slope |d q(x)| with the gradient q of an image's loss and the d in an linf
    ball where the loss is least linear.

    Projected sign steps from a random start find d, in eval mode. The released code takes 10 steps of Adam, with a ball
    that grows over the first 500 steps of training, counts the cross-entropy twice and has weights of 4 and 1.2 beside
    it, and computes both terms with the batch statistics of the clean images.
    """

    name = "llr"
    paper = bench.Paper(
        "Adversarial Robustness through Local Linearization",
        "Chongli Qin and James Martens and Sven Gowal and Dilip Krishnan and Krishnamurthy Dvijotham and Alhussein "
        "Fawzi and Soham De and Robert Stanforth and Pushmeet Kohli",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1907.02610",
    )
    examples = ("", "steps=1,slope=0")
    weight: float = bench.param(4.0, "weight of the departure from a line", low=0)
    slope: float = bench.param(3.0, "weight of the rise along the line", low=0)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    steps: int = bench.param(2, "sign steps to d", low=1)
    step: float = bench.param(0.5, "length of a step, as a share of eps", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            with fit.evaluating(network):
                moved = self.perturb(network, batch.images, batch.labels)
            losses, slopes = losses_and_slopes(network, batch.images, batch.labels)
            rise = ((moved - batch.images) * slopes).sum((1, 2, 3))
            departure = F.cross_entropy(network(moved), batch.labels, reduction="none") - losses - rise
            return (losses + self.weight * departure.abs() + self.slope * rise.abs()).mean()

        return fit.minimise(fit.fresh(), loss)

    def perturb(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Find x + d for each image: (B, C, H, W), (B,) -> (B, C, H, W)."""
        ball = bench.Ball("linf", self.eps)
        losses, slopes = (values.detach() for values in losses_and_slopes(network, images, labels))

        def departure(moved: Tensor) -> Tensor:
            reached = F.cross_entropy(network(moved), labels, reduction="none")
            return (reached - losses - ((moved - images) * slopes).sum((1, 2, 3))).abs()

        return ascend(images, ball.sample(images), ball, self.steps, self.step, departure)

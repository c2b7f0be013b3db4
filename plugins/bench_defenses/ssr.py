"""Keep the steepest curvature of losses small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import twice_differentiable

MOST = 100  # classes worth a backward pass each
SQUARINGS, TINY = 20, 1e-150


@dataclass(frozen=True)
class SSR(bench.Defense):
    """Keep the largest eigenvalue of the loss's Hessian small ("Smooth Surface Regularization" of Wang et al., NeurIPS
    2020). The loss is beta s lambda + (1 - beta) CE with the largest eigenvalue lambda of W A W^T. W is the Jacobian of
    the logits by the pixels, and A = diag(p) - p p^T. For a ReLU network, W A W^T is the Hessian of the cross-entropy.

    A = M M^T holds exactly for M = diag(sqrt p) - p sqrt(p)^T, so no singular matrix needs a decomposition. lambda is
    |grad <M u, g>|^2 with the top eigenvector u of (W M)^T (W M). At a simple eigenvalue, its derivative through u is
    zero. u is therefore a constant, found by a gradient of each class without a graph, and one double backward follows.
    All channels count; the authors' code first averages each gradient over channels, which is not the paper's Hessian.
    Their scale is 1e6 for pixels in [0, 255], which is 15 here; choose it by looking at lambda. Confident predictions
    make A vanish, and the penalty with it.
    """

    name = "ssr"
    paper = bench.papers.WANG2020
    examples = ("", "classes=2")
    beta: float = bench.param(0.3, "share of the eigenvalue in the loss", low=0, high=1)
    scale: float = bench.param(1.0, "factor on the eigenvalue, in units of pixels in [0, 1]", low=0)
    classes: int = bench.param(0, "most probable classes that count; 0 for all", low=0)

    def refuse(self, case: bench.Case) -> str | None:
        return self._find_misfit(case.dataset.form[1])

    def _find_misfit(self, count: int) -> str | None:
        if not self.classes and count > MOST:
            return f"it takes a backward pass for each of {count} classes; limit them, such as ssr:classes=10"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        if why := self._find_misfit(len(fit.data.classes)):
            raise bench.BadValue(f"ssr: {why}")
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        images = batch.images.detach().requires_grad_()
        with twice_differentiable():
            logits = network(images)
        penalty = curvature(logits, images, self.classes).mean()
        return self.beta * self.scale * penalty + (1 - self.beta) * F.cross_entropy(logits, batch.labels)


def curvature(logits: Tensor, images: Tensor, classes: int = 0) -> Tensor:
    """Return the largest eigenvalue of W A W^T, with a graph to the weights: (B, K), (B, C, H, W) -> (B,).

    With `classes`, A has the rows and columns of the most probable classes only.
    """
    count = min(classes or logits.shape[1], logits.shape[1])
    share = logits.softmax(1)
    top = share.detach().topk(count, dim=1).indices
    share, scores = share.gather(1, top), logits.gather(1, top)
    # M M^T = diag(p) - p p^T even where the probabilities do not sum to one. Where they do, the factor is one.
    total = share.sum(1, keepdim=True)
    root = share.clamp(min=1e-30).sqrt()
    factor = (1 - (1 - total).clamp(min=0).sqrt()) / total if count < logits.shape[1] else torch.ones_like(total)

    def times(vectors: Tensor) -> Tensor:
        """Multiply vectors by M: (B, m) -> (B, m)."""
        return root * vectors - factor * share * (root * vectors).sum(1, keepdim=True)

    rows = [torch.autograd.grad(scores[:, i].sum(), images, retain_graph=True)[0].flatten(1) for i in range(count)]
    with torch.no_grad():
        jacobian = torch.stack(rows, 1)  # (B, m, d)
        square = torch.diag_embed(root) - factor[:, :, None] * share[:, :, None] * root[:, None]
        product = square.transpose(1, 2) @ jacobian
        vector = find_top_vectors((product @ product.transpose(1, 2)).double()).to(root)
    (slope,) = torch.autograd.grad(scores, images, times(vector), create_graph=True)
    return slope.square().sum((1, 2, 3))


def find_top_vectors(matrices: Tensor) -> Tensor:
    """Return the unit eigenvector of each positive semidefinite matrix's largest eigenvalue: (B, m, m) -> (B, m).

    eigh waits for a GPU, and a step that waits is not captured. There, each matrix is squared until its columns are
    multiples of that vector.
    """
    if matrices.device.type == "cpu":
        return torch.linalg.eigh(matrices).eigenvectors[:, :, -1]
    return square_repeatedly(matrices)


def square_repeatedly(matrices: Tensor) -> Tensor:
    """`find_top_vectors` as a power iteration; zero for a matrix of zeros.

    After 20 squarings, an eigenvalue that is smaller by a share of 1e-4 has a weight of e^-104.
    """
    power = matrices
    for _ in range(SQUARINGS):
        power = power / power.diagonal(dim1=1, dim2=2).sum(1).clamp(min=TINY)[:, None, None]
        power = power @ power
    longest = power.diagonal(dim1=1, dim2=2).argmax(1)
    column = power.gather(2, longest[:, None, None].expand(-1, power.shape[1], 1))[:, :, 0]
    return column / column.norm(dim=1, keepdim=True).clamp(min=TINY)

"""Find the smallest region whose blur removes the class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import target_logits


@dataclass(frozen=True)
class Mask(bench.Explainer):
    """Optimise a coarse mask m in [0, 1] that, smoothed, keeps the image where it is 1 and blurs it where it is 0
    (meaningful perturbation; Fong and Vedaldi, ICCV 2017, eq. 4). Adam minimises p(target) + sparsity |1 - m|_1 +
    variation TV, where TV is the sum of |dm|^3. The attribution is 1 - m.

    Sizes are shares of the image's shorter side, equal to the authors' at 224 pixels: a mask of 28 cells, smoothed by 5
    pixels, an image blurred by 10 and moved by up to 4 at every step. The mask starts as a blurred disk that hides the
    middle of the image. The weights are the authors', and apply to sums. Many images are optimised at once. It has no
    gradient, so only transfer and black-box attacks reach it.
    """

    name = "mask"
    differentiable = False
    mask_rule = "none"
    paper = bench.Paper(
        "Interpretable Explanations of Black Boxes by Meaningful Perturbation",
        "Ruth C. Fong and Andrea Vedaldi",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1704.03296",
    )
    examples = ("steps=3,cells=6", "steps=2,cells=4,jitter=0,smooth=0")
    steps: int = bench.param(300, "steps of Adam", low=1)
    rate: float = bench.param(0.1, "rate of Adam", low=0)
    cells: int = bench.param(28, "side of the mask, in cells", low=2)
    sparsity: float = bench.param(0.0001, "weight of |1 - m|", low=0)
    variation: float = bench.param(0.01, "weight of the cubed total variation", low=0)
    smooth: float = bench.param(5 / 224, "standard deviation of the mask's smoothing, as a share of the side", low=0)
    blur: float = bench.param(10 / 224, "standard deviation of the image's blur, as a share of the side", low=0.001)
    jitter: float = bench.param(4 / 224, "largest move of the image at a step, as a share of the side", low=0, high=0.5)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        side = min(images.shape[2:])
        hidden = blur(images, self.blur * side)
        grid = torch.linspace(-1, 1, self.cells, dtype=images.dtype, device=images.device)
        start = 1 - (-(grid[:, None].square() + grid.square()) * 4).exp()
        with torch.enable_grad():
            mask = start.expand(len(images), 1, -1, -1).clone().requires_grad_()
            optimiser = torch.optim.Adam([mask], self.rate)
            for _ in range(self.steps):
                optimiser.zero_grad()
                loss = self.objective(network, images, hidden, targets, mask)
                (mask.grad,) = torch.autograd.grad(loss.sum(), mask)
                optimiser.step()
                mask.data.clamp_(0, 1)
        return 1 - self.full(mask.detach(), images)

    def full(self, mask: Tensor, images: Tensor) -> Tensor:
        """Bring a coarse mask to the images' size, and smooth it: (B, 1, cells, cells) -> (B, 1, H, W)."""
        size = images.shape[2:]
        return blur(F.interpolate(mask, size, mode="bilinear", align_corners=False), self.smooth * min(size))

    def objective(self, network: nn.Module, images: Tensor, hidden: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Return the objective of each image's mask, with the image moved to a fresh random place: (B,)."""
        whole = self.full(mask, images)
        shown = move(whole * images + (1 - whole) * hidden, round(self.jitter * min(images.shape[2:])))
        probability = target_logits(bench.check_logits(network(shown), shown).softmax(1), shown, targets)
        rough = mask.diff(dim=2).abs().pow(3).sum((1, 2, 3)) + mask.diff(dim=3).abs().pow(3).sum((1, 2, 3))
        return probability + self.sparsity * (1 - mask).abs().sum((1, 2, 3)) + self.variation * rough


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images by a Gaussian, mirrored at the border. A deviation of 0 changes nothing."""
    from torchvision.transforms.functional import gaussian_blur  # slow to import

    radius = min(round(3 * sigma), min(images.shape[2:]) - 1)
    return gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma]) if radius else images


def move(images: Tensor, reach: int) -> Tensor:
    """Move each image at random by up to `reach` pixels either way, mirrored at the border."""
    if not reach:
        return images
    height, width = images.shape[2:]
    drawn = noise.uniform(images.new_empty(len(images), 2), 0, 1)
    top, left = (drawn * (2 * reach + 1)).long().unbind(1)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    padded = F.pad(images, (reach,) * 4, mode="reflect").permute(0, 2, 3, 1)
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

"""Find the smallest region whose blur removes the class."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import iterated, target_logits, twice_differentiable


@dataclass(frozen=True)
class Mask(bench.Explainer):
    """Optimise a coarse mask that blurs what matters for the prediction (meaningful perturbation; Fong and Vedaldi,
    ICCV 2017, eq. 4). The smoothed mask m in [0, 1] keeps the image where it is 1 and blurs it where it is 0. Adam
    minimises p(target) + sparsity |1 - m|_1 + variation TV, where TV is the sum of |dm|^3. The attribution is 1 - m.

    Sizes are shares of the image's shorter side, equal to the authors' at 224 pixels: a mask of 28 cells, smoothed by 5
    pixels, an image blurred by 10 and moved by up to 4 at every step. The mask starts as a blurred disk that hides the
    middle of the image. The weights are the authors', and apply to sums. Many images are optimised at once.

    It has no gradient, so only transfer and black-box attacks reach it. With unrolled=true, the maps are the same, and
    attacks follow the exact gradient through all steps.
    """

    name = "mask"
    mask_rule = "none"
    paper = bench.Paper(
        "Interpretable Explanations of Black Boxes by Meaningful Perturbation",
        "Ruth C. Fong and Andrea Vedaldi",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1704.03296",
    )
    examples = ("steps=3,cells=6", "steps=2,cells=4,jitter=0,smooth=0", "steps=3,cells=6,unrolled=true")
    steps: int = bench.param(300, "steps of Adam", low=1)
    rate: float = bench.param(0.1, "rate of Adam", low=0)
    cells: int = bench.param(28, "side of the mask, in cells", low=2)
    sparsity: float = bench.param(0.0001, "weight of |1 - m|", low=0)
    variation: float = bench.param(0.01, "weight of the cubed total variation", low=0)
    smooth: float = bench.param(5 / 224, "standard deviation of the mask's smoothing, as a share of the side", low=0)
    blur: float = bench.param(10 / 224, "standard deviation of the image's blur, as a share of the side", low=0.001)
    jitter: float = bench.param(4 / 224, "largest move of the image at a step, as a share of the side", low=0, high=0.5)

    unrolled: bool = bench.param(False, "whether attacks follow a gradient through the steps", added=True)

    @property
    def differentiable(self) -> bool:
        return self.unrolled

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        side = min(images.shape[2:])
        hidden = blur(images, self.blur * side)
        grid = torch.linspace(-1, 1, self.cells, dtype=images.dtype, device=images.device)
        start = 1 - (-(grid[:, None].square() + grid.square()) * 4).exp()
        mask = start.expand(len(images), 1, -1, -1)
        moves = round(self.jitter * side) > 0
        places = [noise.uniform(images.new_empty(len(images), 2), 0, 1) for _ in range(self.steps if moves else 0)]

        def step(images: Tensor, state: Tensor, number: int) -> Tensor:
            graph = torch.is_grad_enabled()
            mask, first, second = state.chunk(3, 1)
            with torch.enable_grad(), twice_differentiable() if graph else contextlib.nullcontext():
                leaf = mask if graph and mask.requires_grad else mask.detach().requires_grad_()
                behind = blur(images, self.blur * side) if graph else hidden
                place = places[number] if moves else None
                loss = self.objective(network, images, behind, targets, leaf, place)
                (slope,) = torch.autograd.grad(loss.sum(), leaf, create_graph=graph)
            mask, first, second = adam(mask, first, second, slope, self.rate, number + 1)
            return torch.cat([mask.clamp(0, 1), first, second], 1)

        state = torch.cat([mask, torch.zeros_like(mask), torch.zeros_like(mask)], 1)
        with contextlib.nullcontext() if self.unrolled else torch.no_grad():
            state = iterated(network, images, self.steps, 1, step, state)
        return 1 - self.full(state.chunk(3, 1)[0], images)

    def full(self, mask: Tensor, images: Tensor) -> Tensor:
        """Bring a coarse mask to the images' size, and smooth it: (B, 1, cells, cells) -> (B, 1, H, W)."""
        size = images.shape[2:]
        return blur(F.interpolate(mask, size, mode="bilinear", align_corners=False), self.smooth * min(size))

    def objective(
        self,
        network: nn.Module,
        images: Tensor,
        hidden: Tensor,
        targets: Tensor,
        mask: Tensor,
        place: Tensor | None = None,
    ) -> Tensor:
        """Return the objective of each image's mask, (B,), with the image moved to a place (B, 2) in [0, 1), if any."""
        whole = self.full(mask, images)
        shown = whole * images + (1 - whole) * hidden
        if place is not None:
            shown = move(shown, round(self.jitter * min(images.shape[2:])), place)
        probability = target_logits(bench.check_logits(network(shown), shown).softmax(1), shown, targets)
        rough = mask.diff(dim=2).abs().pow(3).sum((1, 2, 3)) + mask.diff(dim=3).abs().pow(3).sum((1, 2, 3))
        return probability + self.sparsity * (1 - mask).abs().sum((1, 2, 3)) + self.variation * rough


def blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images by a Gaussian, mirrored at the border. A deviation of 0 changes nothing."""
    from torchvision.transforms.functional import gaussian_blur  # slow to import

    radius = min(round(3 * sigma), min(images.shape[2:]) - 1)
    return gaussian_blur(images, [2 * radius + 1] * 2, [sigma, sigma]) if radius else images


def move(images: Tensor, reach: int, place: Tensor) -> Tensor:
    """Move each image by up to `reach` pixels either way, mirrored at the border. `place` (B, 2) is in [0, 1)."""
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    return cut(padded, (place * (2 * reach + 1)).long(), *images.shape[2:])


def cut(values: Tensor, corners: Tensor, height: int, width: int) -> Tensor:
    """Cut a window out of each row's values, from its own corner (B, 2) on: (B, C, h, w) -> (B, C, height, width)."""
    rows = corners[:, 0, None] + torch.arange(height, device=values.device)
    columns = corners[:, 1, None] + torch.arange(width, device=values.device)
    index = torch.arange(len(values), device=values.device)[:, None, None]
    return values.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def adam(
    values: Tensor, first: Tensor, second: Tensor, slope: Tensor, rate: float, number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the step of Adam with this number, from one on, as torch.optim does: the values and both moments."""
    first = first.lerp(slope, 1 - 0.9)
    second = (0.999 * second).addcmul(slope, slope, value=1 - 0.999)
    # Where the second moment is zero, so is the first; the root has no derivative there.
    root = torch.where(second > 0, second, 1).sqrt() * (second > 0)
    length = root / (1 - 0.999**number) ** 0.5 + 1e-8
    return values.addcdiv(first, length, value=-rate / (1 - 0.9**number)), first, second

"""The image's own edges: a control."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class EdgeMap(bench.Explainer):
    """Return the length of the Sobel gradient of the grey image. It looks like an explanation and knows nothing of the
    network (the edge detector of Adebayo et al., NeurIPS 2018). Attacks on it move the edges. A method that is no more
    robust than this control is not robust.
    """

    name = "edge_map"
    differentiable = True
    paper = bench.papers.ADEBAYO2018

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=images.dtype, device=images.device)
        slopes = F.conv2d(grey, torch.stack([sobel, sobel.T])[:, None])
        squares = slopes.square().sum(1, keepdim=True)
        flat = squares == 0  # where the root has no derivative
        return torch.where(flat, 0, torch.where(flat, 1, squares).sqrt())

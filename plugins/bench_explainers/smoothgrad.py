"""Average the gradient over noisy copies."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.copies import add_gradients, gaussian


@dataclass(frozen=True)
class SmoothGrad(bench.Explainer):
    """Average the gradient of the target's logit over copies with Gaussian noise (Smilkov et al., 2017, eq. 1). The
    gradient is signed.

    The noise's standard deviation is relative to the range of each image, so an image alone scores as in a batch
    (RobustAGA takes the range of the whole batch). Noise is fresh at every call. With times_input, the mean is
    multiplied by the image, as in Wang et al. (2020).
    """

    name = "smoothgrad"
    differentiable = True
    paper = bench.papers.SMILKOV2017
    examples = ("samples=3", "samples=4,noise=0.05", "samples=3,times_input=true")
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    noise: float = bench.param(0.1, "standard deviation, as a share of the image's range", low=0)
    times_input: bool = bench.param(False, "whether to multiply the mean by the image, in pixel units", added=True)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        total = add_gradients(network, images, targets, self.samples, lambda copies: gaussian(copies, self.noise))
        mean = total / self.samples
        return images * mean if self.times_input else mean

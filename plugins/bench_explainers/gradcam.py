"""Weight feature maps by their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import differentiating, target_logits


@dataclass(frozen=True)
class GradCAM(bench.Explainer):
    """Add up a layer's feature maps, each weighted by the mean over space of the gradient of the target's logit by it,
    and keep the positive part (Selvaraju et al., ICCV 2017, eq. 1-2). Interpolation to the size of the image is
    bilinear, with aligned corners.

    Without a name, the layer is the last one with feature maps of more than one pixel. Attacks differentiate the
    weights too; they are constants in the attack of Liu et al. (2021, RelEx), which makes that attack weaker.
    """

    name = "gradcam"
    differentiable = True
    paper = bench.Paper(
        "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        "Ramprasaath R. Selvaraju and Michael Cogswell and Abhishek Das and Ramakrishna Vedantam and Devi Parikh and "
        "Dhruv Batra",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1610.02391",
    )
    layer: str = bench.param(
        "", "name of a layer in the network, such as layer4; empty for the last one with feature maps"
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bench.check_eager(network)
        keep = torch.is_grad_enabled()
        features = Features(network, self.layer)
        with differentiating(images) as inputs:
            with features:
                logits = network(inputs)
            scores = target_logits(logits, images, targets)
            maps = features.last()
            gradient = None
            if maps.requires_grad:
                (gradient,) = torch.autograd.grad(
                    scores.sum(), maps, create_graph=keep, retain_graph=keep, allow_unused=True
                )
        if gradient is None:
            raise bench.BadComponent(
                f"gradcam: the logits do not depend on layer {self.layer or 'that gives the last feature maps'}; name "
                "another, gradcam:layer=..."
            )
        weights = gradient.mean((2, 3), keepdim=True)
        # Under no_grad nothing of this keeps a graph, whatever the features have.
        coarse = (weights * maps).sum(1, keepdim=True).relu()
        return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=True)


class Features:
    """Record the outputs of a network's layers inside a `with`: of all layers, or of the named one."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        whole = network.network if isinstance(network, bench.Normalised) else network
        self.layers = {name: module for name, module in whole.named_modules() if name}
        self.layer = layer
        if layer:
            if layer not in self.layers:
                raise bench.BadComponent(
                    f"gradcam: the network has no layer {layer!r}{bench.suggestion(layer, self.layers)}"
                )
            self.layers = {layer: self.layers[layer]}
        self.outputs: list[tuple[str, Any]] = []
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        def keep(name: str, output: Any) -> Any:
            self.outputs.append((name, output))
            # The network continues with a copy, because it may overwrite its values in place.
            return output.clone() if isinstance(output, Tensor) else output

        for name, module in self.layers.items():
            self.handles.append(
                module.register_forward_hook(lambda module, given, output, name=name: keep(name, output))
            )

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def last(self) -> Tensor:
        """Return the layer's last feature maps, (B, C, h, w). Raises BadComponent where there are none."""
        if self.layer:
            shape = shape_of(self.outputs[-1][1]) if self.outputs else ()
            if len(shape) != 4:
                raise bench.BadComponent(
                    f"gradcam: layer {self.layer} gives {shape or 'nothing'}, not feature maps (B, C, h, w)"
                )
            return self.outputs[-1][1]
        for name, output in reversed(self.outputs):
            shape = shape_of(output)
            if len(shape) == 3:
                raise bench.BadComponent(
                    f"gradcam: the network works on tokens, not on feature maps (layer {name} gives {shape}); name a "
                    "layer that gives (B, C, h, w), gradcam:layer=..."
                )
            if len(shape) == 4 and shape[2] * shape[3] > 1:
                return output
        raise bench.BadComponent("gradcam: no layer of the network gives feature maps (B, C, h, w) of several pixels")


def shape_of(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()

"""Weight feature maps by their gradients."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import differentiating, target_logits
from bench_explainers.layouts import Layouts, grid


@dataclass(frozen=True)
class GradCAM(bench.Explainer):
    """Add up a layer's feature maps, each weighted by the mean over space of the gradient of the target's logit by it,
    and keep the positive part (Selvaraju et al., ICCV 2017, eq. 1-2). Interpolation to the size of the image is
    bilinear, with aligned corners.

    Without a name, the layer is the last one with feature maps of more than one pixel. Where their channels are follows
    from the functions that the network calls: convolutions have them first, linear layers and layer norms last. Where
    nothing says it, and for tokens, `reshape` has to. Tokens in front that are no patch of the image, such as classes
    and registers, are left out. Attacks differentiate the weights too; they are constants in the attack of Liu et al.
    (2021, RelEx), which makes that attack weaker.
    """

    name = "gradcam"
    version = 2
    differentiable = True
    paper = bench.Paper(
        "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        "Ramprasaath R. Selvaraju and Michael Cogswell and Abhishek Das and Ramakrishna Vedantam and Devi Parikh and "
        "Dhruv Batra",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1610.02391",
    )
    examples = ("", "mask_rule=minmax")
    layer: str = bench.param(
        "", "name of a layer in the network, such as layer4; empty for the last one with feature maps"
    )

    reshape: Literal["follow", "nchw", "nhwc", "tokens"] = bench.param(
        "follow", "axes of the layer's output: as its network says, (B, C, h, w), (B, h, w, C), or tokens (B, n, C)"
    )

    mask_rule: Literal["percentile", "minmax"] = bench.param(
        "percentile", "end of its masks' scale: the 99th percentile, or the maximum as in RelEx", added=True
    )

    def find_problem(self) -> str | None:
        if self.reshape != "follow" and not self.layer:
            return f"reshape is {self.reshape}, but no layer is named; name one, layer=..."
        return None

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bench.check_eager(network)
        keep = torch.is_grad_enabled()
        features = Features(network, self.layer, self.reshape)
        with differentiating(images) as inputs:
            with features:
                logits = network(inputs)
            scores = target_logits(logits, images, targets)
            output, layout = features.last()
            gradient = None
            if output.requires_grad:
                (gradient,) = torch.autograd.grad(
                    scores.sum(), output, create_graph=keep, retain_graph=keep, allow_unused=True
                )
        if gradient is None:
            raise bench.BadComponent(
                f"gradcam: the logits do not depend on layer {self.layer or 'that gives the last feature maps'}; name "
                "another, gradcam:layer=..."
            )
        maps, gradient = (channels_first(values, layout, images) for values in (output, gradient))
        weights = gradient.mean((2, 3), keepdim=True)
        # Under no_grad nothing of this keeps a graph, whatever the features have.
        coarse = (weights * maps).sum(1, keepdim=True).relu()
        return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=True)


def channels_first(output: Tensor, layout: str, images: Tensor) -> Tensor:
    """Bring feature maps or tokens to (B, C, h, w)."""
    if layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    if layout == "tokens":
        size = grid(output.shape[1], *images.shape[2:])
        if size is None:
            raise bench.BadComponent(f"gradcam: {output.shape[1]} tokens are fewer than a grid on the image has")
        patches = output[:, output.shape[1] - size[0] * size[1] :]
        return patches.transpose(1, 2).unflatten(2, size)
    return output


class Features:
    """Record the outputs of a network's layers inside a `with`: of all layers, or of the named one."""

    def __init__(self, network: nn.Module, layer: str, reshape: str) -> None:
        self.layers = {name: module for name, module in network.named_modules() if name}
        self.layer, self.reshape = layer, reshape
        if layer:
            self.layers = {layer: self.layers[self._find(layer)]}
        self.outputs: list[tuple[str, Any]] = []
        self.layouts = Layouts()
        self.stack = contextlib.ExitStack()

    def _find(self, layer: str) -> str:
        """The name of a layer in the network, whatever wraps the part that has it under the name given."""
        found = [name for name in self.layers if f".{name}".endswith(f".{layer}")]
        depth = min((name.count(".") for name in found), default=0)
        found = [name for name in found if name.count(".") == depth]
        if not found:
            raise bench.BadComponent(
                f"gradcam: the network has no layer {layer!r}{bench.suggestion(layer, self.layers)}"
            )
        if len(found) > 1:
            raise bench.BadComponent(f"gradcam: {layer} may be {' or '.join(found)}; give one of these in full")
        return found[0]

    def __enter__(self) -> None:
        def keep(name: str, output: Any) -> Any:
            self.outputs.append((name, output))
            # The network continues with a copy, because it may overwrite its values in place.
            return output.clone() if isinstance(output, Tensor) else output

        for name, module in self.layers.items():
            handle = module.register_forward_hook(lambda module, given, output, name=name: keep(name, output))
            self.stack.callback(handle.remove)
        if self.reshape == "follow":
            self.stack.enter_context(self.layouts)

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def last(self) -> tuple[Tensor, str]:
        """Return the layer's last output, and its layout. Raises BadComponent where it is no feature maps."""
        if self.layer:
            output = self.outputs[-1][1] if self.outputs else None
            shape = shape_of(output)
            if len(shape) != (3 if self.reshape == "tokens" else 4):
                form = "tokens (B, n, C)" if self.reshape == "tokens" else "feature maps (B, C, h, w)"
                raise bench.BadComponent(f"gradcam: layer {self.layer} gives {shape or 'nothing'}, not {form}{_ASK}")
            assert isinstance(output, Tensor)
            return output, self._layout(self.layer, output)
        for name, output in reversed(self.outputs):
            shape = shape_of(output)
            if len(shape) == 3:
                raise bench.BadComponent(
                    f"gradcam: the network works on tokens, not on feature maps (layer {name} gives {shape}); name a "
                    f"layer that gives (B, C, h, w), gradcam:layer=...{_ASK}"
                )
            if len(shape) == 4 and max(shape[1] * shape[2], shape[2] * shape[3]) > 1:
                layout = self._layout(name, output)
                if (shape[1] * shape[2] if layout == "nhwc" else shape[2] * shape[3]) > 1:
                    return output, layout
        raise bench.BadComponent("gradcam: no layer of the network gives feature maps (B, C, h, w) of several pixels")

    def _layout(self, name: str, output: Tensor) -> str:
        layout = self.reshape if self.reshape != "follow" else self.layouts.of(output)
        if layout is None:
            raise bench.BadComponent(
                f"gradcam: layer {name} gives {shape_of(output)}, and nothing says which axis has the channels; say so "
                f"by gradcam:layer={name},reshape=nchw or reshape=nhwc"
            )
        return layout


_ASK = ", or for tokens gradcam:layer=...,reshape=tokens"


def shape_of(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()

"""What Grad-CAM and its kin share: a layer's feature maps, and the gradient of the target's logit by them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import differentiating, target_logits
from bench_explainers.layouts import Layouts, grid


@dataclass(frozen=True)
class ClassMaps(bench.Explainer, ABC):
    """Combine a layer's feature maps with their gradient into one map, enlarged to the image (bilinear, with aligned
    corners)."""

    differentiable = True
    selective = True
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
        features = Features(self.name, network, self.layer, self.reshape)
        with differentiating(images) as inputs:
            with features:
                logits = network(inputs)
            scores = target_logits(logits, images, targets)
            output, layout = features.last(scores, images)
            gradient = None
            if output.requires_grad:
                (gradient,) = torch.autograd.grad(
                    scores.sum(), output, create_graph=keep, retain_graph=keep, allow_unused=True
                )
        if gradient is None:
            raise bench.BadComponent(
                f"{self.name}: the logits do not depend on layer {self.layer or 'that gives the last feature maps'}; "
                f"name another, {self.name}:layer=..."
            )
        maps, gradient = (channels_first(values, layout, images, self.name) for values in (output, gradient))
        # Under no_grad nothing of this keeps a graph, whatever the features have.
        return F.interpolate(self.combine(maps, gradient), images.shape[2:], mode="bilinear", align_corners=True)

    @abstractmethod
    def combine(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Make one map of feature maps and the gradient by them: (B, C, h, w), (B, C, h, w) -> (B, 1, h, w)."""


def channels_first(output: Tensor, layout: str, images: Tensor, explainer: str) -> Tensor:
    """Bring feature maps or tokens to (B, C, h, w)."""
    if layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    if layout == "tokens":
        size = grid(output.shape[1], *images.shape[2:])
        if size is None:
            raise bench.BadComponent(f"{explainer}: {output.shape[1]} tokens are fewer than a grid on the image has")
        patches = output[:, output.shape[1] - size[0] * size[1] :]
        return patches.transpose(1, 2).unflatten(2, size)
    return output


class Features:
    """Record the outputs of a network's layers inside a `with`: of all layers, or of the named one. Messages begin with
    the explainer's name."""

    def __init__(self, explainer: str, network: nn.Module, layer: str, reshape: str) -> None:
        self.explainer = explainer
        self._for_tokens = f", or for tokens {explainer}:layer=...,reshape=tokens"
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
                f"{self.explainer}: the network has no layer {layer!r}{bench.suggestion(layer, self.layers)}"
            )
        if len(found) > 1:
            raise bench.BadComponent(
                f"{self.explainer}: {layer} may be {' or '.join(found)}; give one of these in full"
            )
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

    def last(self, scores: Tensor, images: Tensor) -> tuple[Tensor, str]:
        """Return the layer's last output, and its layout. Raises BadComponent where it is no feature maps."""
        if self.layer:
            output = self.outputs[-1][1] if self.outputs else None
            shape = shape_of(output)
            if len(shape) != (3 if self.reshape == "tokens" else 4):
                form = "tokens (B, n, C)" if self.reshape == "tokens" else "feature maps (B, C, h, w)"
                raise bench.BadComponent(
                    f"{self.explainer}: layer {self.layer} gives {shape or 'nothing'}, not {form}{self._for_tokens}"
                )
            assert isinstance(output, Tensor)
            return output, self._layout(self.layer, output)
        for name, output in reversed(self.outputs):
            shape = shape_of(output)
            if len(shape) == 3:
                normed = self._last_norm(scores, images)
                if normed is not None:
                    return normed, "tokens"
                raise bench.BadComponent(
                    f"{self.explainer}: the network works on tokens, not on feature maps (layer {name} gives {shape}); "
                    f"name a layer that gives (B, C, h, w), {self.explainer}:layer=...{self._for_tokens}"
                )
            if len(shape) == 4 and max(shape[1] * shape[2], shape[2] * shape[3]) > 1:
                layout = self._layout(name, output)
                if (shape[1] * shape[2] if layout == "nhwc" else shape[2] * shape[3]) > 1:
                    return output, layout
        raise bench.BadComponent(
            f"{self.explainer}: no layer of the network gives feature maps (B, C, h, w) of several pixels"
        )

    def _last_norm(self, scores: Tensor, images: Tensor) -> Tensor | None:
        """Return the last layer norm's tokens from whose patches the scores follow; behind it, a network may read its
        class token alone."""
        for name, output in reversed(self.outputs):
            if isinstance(self.layers[name], nn.LayerNorm | nn.RMSNorm) and len(shape_of(output)) == 3:
                (slope,) = torch.autograd.grad(
                    scores.sum(), output, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                if channels_first(slope, "tokens", images, self.explainer).any():
                    assert isinstance(output, Tensor)
                    return output
        return None

    def _layout(self, name: str, output: Tensor) -> str:
        layout = self.reshape if self.reshape != "follow" else self.layouts.of(output)
        if layout is None:
            raise bench.BadComponent(
                f"{self.explainer}: layer {name} gives {shape_of(output)}, and nothing says which axis has the "
                f"channels; say so by {self.explainer}:layer={name},reshape=nchw or reshape=nhwc"
            )
        return layout


def shape_of(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()

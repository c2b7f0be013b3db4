"""Add up what the input and all biases contribute to the logit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import bench
from bench.gradients import differentiating, target_logits


@dataclass(frozen=True)
class FullGrad(bench.Explainer):
    """Add up input times gradient, and the same for biases (Srinivas and Fleuret, NeurIPS 2019). The image counts in
    normalised space, and the bias of every convolution and batch norm counts times the gradient by its output. On a
    ReLU network, these and the biases of linear layers add up to the logit.

    Of each of these terms, absolute values are put on a scale from 0 to 1, enlarged to the image (bilinear, with
    aligned corners) and summed over channels. The scale is one for all channels of a layer and image, as in the
    authors' code; their equation scales every channel alone. Biases of linear layers have no place in the image and
    are left out, as are those that a smooth activation would imply.
    """

    name = "fullgrad"
    differentiable = True
    paper = bench.Paper(
        "Full-Gradient Representation for Neural Network Visualization",
        "Suraj Srinivas and Francois Fleuret",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1905.00780",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        size = images.shape[2:]
        total = torch.zeros_like(images[:, :1])
        for term in split_logit(network, images, targets):
            wide = F.interpolate(scale(term.abs()), size, mode="bilinear", align_corners=True)
            total = total + wide.sum(1, keepdim=True)
        return total


def split_logit(network: nn.Module, images: Tensor, targets: Tensor) -> list[Tensor]:
    """The terms of the image and of the biases of convolutions and batch norms, (B, C, h, w) each.

    They have a graph iff grad mode is on. Raises BadComponent for a network that is scripted or compiled.
    """
    bench.check_eager(network)
    keep = torch.is_grad_enabled()
    biases = Biases()
    with differentiating(images) as inputs:
        with biases:
            logits = network(inputs)
        scores = target_logits(logits, images, targets)
        first, *others = torch.autograd.grad(
            scores.sum(),
            [inputs, *(output for output, _ in biases.found)],
            create_graph=keep,
            retain_graph=keep,
            materialize_grads=True,
        )
    terms = [(inputs - bench.normalisation(network)[0]) * first]
    terms += [bias * gradient for (_, bias), gradient in zip(biases.found, others, strict=True)]
    return terms if keep else [term.detach() for term in terms]


def scale(values: Tensor) -> Tensor:
    """Put the values of each row on a scale from 0 to 1: (B, ...) -> (B, ...). Equal ones become 0."""
    flat = values.flatten(1)  # aminmax has no derivative before torch 2.12
    low, high = (bound.view(-1, *(1 for _ in values.shape[1:])) for bound in (flat.amin(1), flat.amax(1)))
    return (values - low) / (high - low).where(high > low, 1)


class Biases(TorchFunctionMode):
    """Records the outputs (B, C, h, w) of convolutions and batch norms inside, with their biases (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        output = func(*args, **(named or {}))
        rule = _BIASES.get(func)
        bias = None if rule is None or output.ndim != 4 else rule(*args, **(named or {}))
        if bias is None or not output.requires_grad:
            return output
        self.found.append((output, bias.view(-1, 1, 1)))
        # The network continues with a copy, because it may overwrite its values in place.
        return output.clone()


def _of_convolution(
    given: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor | None:
    return bias


def _of_batch_norm(
    given: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return bias  # the mean is the images' own
    factor = (running_var + eps).rsqrt() * (1 if weight is None else weight)
    return -running_mean * factor + (0 if bias is None else bias)


_BIASES: dict[Any, Callable[..., Tensor | None]] = {F.conv2d: _of_convolution, F.batch_norm: _of_batch_norm}

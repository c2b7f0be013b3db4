"""Multiply the attention of all layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.gradients import differentiating, target_logits
from bench_explainers.attention import Attentions, check_class_token, show_class_row


@dataclass(frozen=True)
class AttentionRollout(bench.Explainer):
    """Multiply the attention of all layers (Abnar and Zuidema, ACL 2020). The map is what the class token takes from
    each patch.

    A layer's matrix is (W + I) / 2, with W the mean over heads of its attention (n, n), and I for the shortcut. The
    product runs from the last layer to the first. Its class row, without the tokens that are no patch, is a grid that
    bilinear interpolation enlarges to the image. The paper is about texts, and enlarges nothing.

    The map is the same for all targets. Attacks differentiate it through all layers. Networks without a class token,
    or with attention within windows, are refused. The cost is one forward pass and a backward pass of the last layer.
    """

    name = "attention_rollout"
    differentiable = True
    needs = "class_token"
    paper = bench.Paper(
        "Quantifying Attention Flow in Transformers",
        "Samira Abnar and Willem Zuidema",
        "ACL",
        2020,
        "https://arxiv.org/abs/2005.00928",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bench.check_eager(network)
        attentions = Attentions()
        with differentiating(images) as inputs:
            with attentions:
                logits = network(inputs)
            check_class_token(self.name, target_logits(logits, images, targets), attentions.weights, images)
        means = [weights.mean(1) for weights in attentions.weights]
        return show_class_row([(mean + torch.eye(mean.shape[1]).to(mean)) / 2 for mean in means], images)

"""Multiply relevance and gradient of the attention of all layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.gradients import differentiating, target_logits
from bench_explainers.attention import Attentions, check_class_token, show_class_row
from bench_explainers.lrp import LRP, Layers
from bench_explainers.rules import pass_on, split_by_totals


@dataclass(frozen=True)
class TransformerAttribution(bench.Explainer):
    """Multiply what each layer's attention adds to the target (Chefer, Gur and Wolf, CVPR 2021). The map is what the
    class token takes from each patch.

    A layer's matrix is I + mean over heads of (G * R)^+, with G the gradient of the target's logit by the attention
    (n, n), and R its relevance. The product runs from the last layer to the first, as in the authors' code. Its class
    row, without the tokens that are no patch, is a grid that bilinear interpolation enlarges to the image.

    R starts as one at the target's logit and follows the rules of the authors' code: z+ without biases in linear
    layers, the identity in norms, activations and the softmax, half for each factor of a product of matrices. A sum of
    two branches is split in proportion to its summands; then each branch is scaled to its share in the total of
    absolute sums. The code takes these sums over a batch, and is meant for one image; here they are of each image. The
    authors' later form, (G * A)^+ without relevance (ICCV 2021), is another method.

    Attacks differentiate G and R. Networks without a class token, or with attention within windows, are refused. The
    cost is one forward pass and two backward passes; in one of them, each layer is computed once or twice again.
    """

    name = "transformer_attribution"
    differentiable = True
    needs = "class_token"
    paper = bench.Paper(
        "Transformer Interpretability Beyond Attention Visualization",
        "Hila Chefer and Shir Gur and Lior Wolf",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2012.09838",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bench.check_eager(network)
        keep = torch.is_grad_enabled()
        flow = Layers(LRP(bias="drop"), of_softmax=lambda dim: pass_on, of_sum=split_by_totals)
        attentions = Attentions()
        with differentiating(images) as inputs:
            with flow, attentions:
                logits = flow.end(bench.check_logits(network(flow.begin(inputs)), images))
            scores = target_logits(logits, images, targets)
            weights = attentions.weights
            check_class_token(self.name, scores, weights, images)
            gradients = torch.autograd.grad(scores.sum(), weights, create_graph=keep, retain_graph=True)
            relevances = flow.propagate(scores, weights, keep)
        layers = [(g * r).clamp(min=0).mean(1) for g, r in zip(gradients, relevances, strict=True)]
        return show_class_row([layer + torch.eye(layer.shape[1]).to(layer) for layer in layers], images)

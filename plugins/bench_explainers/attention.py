"""What a network attends to: attention made of the functions that it consists of, and its weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

import bench
from bench_explainers.layouts import grid


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute what torch's scaled_dot_product_attention does: (..., n, d), (..., m, d), (..., m, e) -> (..., n, e)."""
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = scores.new_ones(scores.shape[-2:]).tril().bool()
    if attn_mask is not None:
        if not attn_mask.is_floating_point():
            attn_mask = scores.new_zeros(attn_mask.shape).masked_fill(~attn_mask, float("-inf"))
        scores = scores + attn_mask
    weights = scores.softmax(-1)
    return (F.dropout(weights, dropout_p) if dropout_p else weights) @ value


class Attentions(TorchFunctionMode):
    """Takes attention apart, and keeps every softmax over the last of four axes: (B, heads, n, m)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        name, named = getattr(func, "__name__", ""), named or {}
        if name == "scaled_dot_product_attention":
            with self:
                return attend(*args, **named)
        if name == "multi_head_attention_forward":
            raise bench.BadComponent(
                "the network calls torch's multi_head_attention_forward, which shows no weights of its attention; "
                "take a network of timm, or an explainer such as gradient"
            )
        result = func(*args, **named)
        if name == "softmax" and result.ndim == 4 and (args[1] if len(args) > 1 else named.get("dim")) in (-1, 3):
            self.weights.append(result)
        return result


def check_class_token(explainer: str, scores: Tensor, weights: list[Tensor], images: Tensor) -> None:
    """Raise BadComponent unless the scores read one token, the first, that attends to all patches in all layers.

    The scores are differentiated by the last weights, since nothing else says which tokens a network reads.
    """
    if not weights:
        raise bench.BadComponent(f"{explainer}: the network has no attention; use an explainer such as gradient")
    count = weights[0].shape[-1]
    for each in weights:
        if (len(each), *each.shape[2:]) != (len(images), count, count):
            raise bench.BadComponent(
                f"{explainer}: the network has attention within windows, or to fewer tokens in some layers (weights of "
                f"shape {tuple(each.shape)} for {len(images)} images); use an explainer such as gradient"
            )
    rows, columns = grid(count, *images.shape[2:]) or (0, 0)
    (slope,) = torch.autograd.grad(
        scores.sum(), weights[-1], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    read = slope.ne(0).any(3).any(1).any(0)
    if not rows * columns or rows * columns == count or read[1:].any():
        raise bench.BadComponent(
            f"{explainer}: the network has no class token, its logits read {int(read.sum())} of {count} tokens; use an "
            "explainer such as gradient"
        )


def show_class_row(layers: list[Tensor], images: Tensor) -> Tensor:
    """Multiply the layers' matrices (B, n, n), and show what the class token takes from each patch: (B, 1, H, W).

    Tokens in front that are no patch are left out. Patches are enlarged to the image by bilinear interpolation.
    """
    row = layers[-1][:, :1]
    for matrix in reversed(layers[:-1]):
        row = row @ matrix
    size = grid(row.shape[-1], *images.shape[2:])
    assert size is not None
    patches = row[:, :, row.shape[-1] - size[0] * size[1] :].unflatten(2, size)
    return F.interpolate(patches, images.shape[2:], mode="bilinear")

"""What a network attends to: attention made of the functions that it consists of, and its weights."""

from __future__ import annotations

from collections.abc import Callable
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


def attend_in_heads(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    weight: Tensor | None,
    bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout: float,
    out_weight: Tensor,
    out_bias: Tensor | None,
    training: bool = True,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute what torch's multi_head_attention_forward does: tokens (n, B, C), (m, B, C), (m, B, C) -> (n, B, C), and
    the weights (B, n, m) or None. Raises BadComponent for masks, further keys and separate projections."""
    given = [bias_k, bias_v, *(options.get(name) for name in ("key_padding_mask", "attn_mask", "static_k", "static_v"))]
    if weight is None or query.ndim != 3 or add_zero_attn or any(each is not None for each in given):
        raise bench.BadComponent(
            "the network calls torch's multi_head_attention_forward with masks, further keys or separate projections, "
            "which is not taken apart; take a network of timm, or an explainer such as gradient"
        )
    if query is key and key is value:
        parts = F.linear(query, weight, bias).chunk(3, -1)
    else:
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        parts = tuple(map(F.linear, (query, key, value), weight.chunk(3), biases))
    query, key, value = (part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in parts)
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
    mixed = (F.dropout(weights, dropout) if training and dropout else weights) @ value
    output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias)
    if not need_weights:
        return output, None
    return output, weights.mean(1) if average_attn_weights else weights


# What takes each function of attention apart.
APART: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": attend,
    "multi_head_attention_forward": attend_in_heads,
}


class Attentions(TorchFunctionMode):
    """Takes attention apart, and keeps every softmax over the last of four axes: (B, heads, n, m)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        name, named = getattr(func, "__name__", ""), named or {}
        if name in APART:
            with self:
                return APART[name](*args, **named)
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

"""What the similarities between clean and attacked maps share."""

from __future__ import annotations

import torch
from torch import Tensor


def where_defined(scores: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Scores (N,) with NaN where one of two maps (N, H, W) is all zero: such a map explains nothing."""
    defined = (first.flatten(1) != 0).any(1) & (second.flatten(1) != 0).any(1)
    return torch.where(defined, scores, torch.nan)

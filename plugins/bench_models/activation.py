"""The activation that the suite's own networks share as a parameter."""

from __future__ import annotations

from torch import nn


def activation(name: str, beta: float) -> nn.Module:
    """ReLU, or softplus log(1 + exp(beta z)) / beta, linear above beta z = 20."""
    return nn.ReLU() if name == "relu" else nn.Softplus(beta)

"""What the suite's own networks share: their activation and their first weights."""

from __future__ import annotations

from torch import nn


def activation(name: str, beta: float) -> nn.Module:
    """ReLU, or softplus log(1 + exp(beta z)) / beta, linear above beta z = 20."""
    return nn.ReLU() if name == "relu" else nn.Softplus(beta)


def he_initialised(network: nn.Module) -> nn.Module:
    """Normal weights of variance 2 / fan-in and no bias (He et al., ICCV 2015), in place.

    torch's default has a third of that variance: deep softplus networks then answer the same to every image, and stay
    there for hundreds of steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network

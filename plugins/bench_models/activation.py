"""What the suite's own networks share: activation and initial weights."""

from __future__ import annotations

from torch import nn

from bench.layers import Softplus


def activation(name: str, beta: float) -> nn.Module:
    """Make a ReLU, or a softplus log(1 + exp(beta z)) / beta, which is linear above beta z = 20."""
    return nn.ReLU() if name == "relu" else Softplus(beta)


def initialise(network: nn.Module) -> nn.Module:
    """Draw normal weights of variance 2 / fan-in and set biases to zero, in place (He et al., ICCV 2015).

    torch's default has a third of this variance. With it, deep softplus networks give the same answer to every image,
    and stay there for hundreds of steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network

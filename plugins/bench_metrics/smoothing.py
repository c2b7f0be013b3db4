"""What certificates by smoothing share."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

import bench

NO_RADIUS = "there is no certificate in the ball {}; use one of the norm linf, l2 or l0"


def find_refusal(case: bench.Case, allowed: dict[str, dict[str, Any]]) -> str | None:
    """Say why a theorem does not hold in a case, or None. `allowed`: for which explainers it does, by name, and the
    parameters that it needs."""
    if case.ball.space == "parameters":
        return NO_RADIUS.format(case.ball)
    explainer = case.explainer
    for name, needed in allowed.items():
        if explainer.name == name:
            wrong = {key: value for key, value in needed.items() if getattr(explainer, key) != value}
            given = ",".join(f"{key}={str(value).lower()}" for key, value in wrong.items())
            return f"explainer {explainer} has no certificate as it is; give it {given}" if wrong else None
    return f"explainer {explainer} has no certificate; use {' or '.join(allowed)}"


def l2_radius(ball: bench.Ball, images: Tensor) -> float:
    """The radius of an l2 ball around a ball of images (N, C, H, W): the smallest one, where no image is at a bound."""
    if ball.space == "parameters":
        raise bench.BadValue(NO_RADIUS.format(ball))
    if ball.norm == "l0":  # every channel of eps pixels moves by at most one
        return math.sqrt(min(int(ball.eps), images[0, 0].numel()) * images.shape[1])
    return float(ball.eps) * (math.sqrt(images[0].numel()) if ball.norm == "linf" else 1)

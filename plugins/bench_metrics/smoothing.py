"""What certificates by smoothing share."""

from __future__ import annotations

import math
from typing import Any

import bench


def find_refusal(explainer: bench.Explainer, allowed: dict[str, dict[str, Any]]) -> str | None:
    """Say why a theorem does not hold for an explainer, or None. `allowed`: for which it does, by name, and the
    parameters that it needs."""
    for name, needed in allowed.items():
        if explainer.name == name:
            wrong = {key: value for key, value in needed.items() if getattr(explainer, key) != value}
            given = ",".join(f"{key}={str(value).lower()}" for key, value in wrong.items())
            return f"explainer {explainer} has no certificate as it is; give it {given}" if wrong else None
    return f"explainer {explainer} has no certificate; use {' or '.join(allowed)}"


def l2_radius(ball: bench.Ball, size: int) -> float:
    """The radius of the smallest l2 ball around a ball of images of `size` elements."""
    return float(ball.eps) * (math.sqrt(size) if ball.norm == "linf" else 1)

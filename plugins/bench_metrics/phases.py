"""The phases of a training."""

from __future__ import annotations

from typing import Any

import bench


def asked(training: list[Any], phase: str) -> list[Any] | bench.Undefined:
    """All phases, or those of one name; Undefined where there are none."""
    if not training:
        return bench.Undefined("nothing was trained here")
    found = [part for part in training if phase in ("", part.name)]
    return found or bench.Undefined(f"no phase {phase}: this training has {', '.join(part.name for part in training)}")

"""Predictions while the pixels come that an attacked map says are important."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class AdvInsertion(Curve):
    """Insertion of the pixels of the clean image in the order of the attacked image's map (Joo et al., AAAI 2023): what
    an attack leaves of an explanation's worth.

    "joo2023" has their code's levels; their attack is target_map:joo2023, and the class the label.
    """

    name = "adv_insertion"
    better = "higher"
    help = "insertion of the clean image's pixels in the order of the attacked map"
    paper = bench.papers.JOO2023
    presets: ClassVar[dict[str, str]] = {"joo2023": "steps=20,full=false"}

    def __call__(
        self, network: nn.Module, images: Tensor, targets: Tensor, attacked_attributions: Tensor
    ) -> bench.Levels:
        return self.curve(network, images, targets, attacked_attributions, away=False)

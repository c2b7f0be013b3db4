"""Insert the pixels that the attacked map ranks first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class AdvInsertion(Curve):
    """Insert the clean image's pixels in the order of the attacked image's map (Joo et al., AAAI 2023). The score says
    what an attack leaves of an explanation's value.

    "joo2023" has the levels of their code. Their attack is target_map:joo2023, and their class is the label.
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

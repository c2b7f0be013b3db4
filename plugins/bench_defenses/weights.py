"""Load weights trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import bench
from bench.checkpoints import place


@dataclass(frozen=True)
class Weights(bench.Defense):
    """Train nothing: load the network's weights from a file, whatever defense they come from.

    The file is in safetensors format, or a checkpoint saved by torch, of which only tensors are read. The state dict
    may lie under any keys, such as `state_dict`, `net` or `ema`, and its names may have any beginning, such as those
    of DataParallel, AveragedModel and torch.compile. Names are those of the model's network, or of the whole model with
    its mean and std. A file with several networks that fit is refused. The content of the file is part of the identity.
    """

    name = "weights"
    trains = False
    examples = ()
    path: Path = bench.param(help="the file")

    def find_problem(self) -> str | None:
        return f"path is {self.path}, a folder; name a file in it" if self.path.is_dir() else None

    def train(self, fit: bench.Fit) -> nn.Module:
        network = fit.fresh()
        place(network, self.path)
        return network

"""Load weights trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import bench
from bench.checkpoints import place


@dataclass(frozen=True)
class Weights(bench.Defense):
    """Train nothing: load the network's weights from a file. They may come from any defense.

    Without a path, they are the trained weights that the model itself names. The file is in safetensors format, or a
    checkpoint saved by torch, of which only tensors are read. The state dict may lie under any keys, such as
    `state_dict`, `net` or `ema`, and its names may have any beginning, such as those of DataParallel, AveragedModel and
    torch.compile. Names are those of the model's network, or of the whole model with its mean and std. A file with
    several networks that fit is refused. The content of the file is part of the identity.
    """

    name = "weights"
    trains = False
    examples = ()
    path: Path | None = bench.param(None, "the file; none for the weights that the model names")

    def find_problem(self) -> str | None:
        return f"path is {self.path}, a folder; name a file in it" if self.path and self.path.is_dir() else None

    def refuse(self, case: bench.Case) -> str | None:
        if self.path or case.model.classes:
            return None
        return f"model {case.model} names no trained weights; give a file, weights:path=FILE"

    def train(self, fit: bench.Fit) -> nn.Module:
        network, classes = fit.fresh(), fit.model.classes
        if self.path:
            place(network, self.path)
        elif len(classes) != len(fit.data.classes):
            raise bench.BadValue(
                f"the weights of {fit.model} tell {len(classes)} classes apart, and the data set has "
                f"{len(fit.data.classes)}; use another, or a defense that trains"
            )
        return network

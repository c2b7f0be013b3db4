"""Load a hundred classes of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass

import bench
from bench_datasets.named import Photographs, Splits, splits_of


@dataclass(frozen=True)
class ImageNet100(Photographs):
    """Load 100 classes of ImageNet-1k with 1,300 training and 50 test images each (Joo et al., AAAI 2023, whose list is
    drawn from the first classes, all of them animals; not the "ImageNet-100" of contrastive learning).

    They come from the folder imagenet100 of the data folder, train/WNID/FILE and val/WNID/FILE, or Parquet files. The
    files decide the classes, which are part of the set's identity. Tests use ImageNet's validation images; a share of
    train is held out for validation.
    """

    name = "imagenet100"
    paper = bench.Paper(
        "ImageNet Large Scale Visual Recognition Challenge",
        "Olga Russakovsky and Jia Deng and Hao Su and Jonathan Krause and Sanjeev Satheesh and Sean Ma and Zhiheng "
        "Huang and Andrej Karpathy and Aditya Khosla and Michael Bernstein and Alexander C. Berg and Li Fei-Fei",
        "IJCV",
        2015,
        "https://arxiv.org/abs/1409.0575",
    )
    howto = (
        "the folders of a hundred classes of ImageNet-1k (train/WNID and val/WNID, by links if you like), or Parquet "
        "files (train-*.parquet, validation-*.parquet)"
    )

    def splits(self) -> Splits:
        return splits_of(self.name, self.howto, 100, tested="validation")

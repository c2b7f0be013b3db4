"""Load ten easy classes of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass

import bench
from bench_datasets.named import Photographs, Splits, splits_of


@dataclass(frozen=True)
class Imagenette(Photographs):
    """Load 9,469 training and 3,925 test photographs of ten classes of ImageNet (Howard, 2019; used by Gong et al.,
    CVPR 2024).

    They come from the folder imagenette of the data folder, as unpacked (train/WNID/FILE, val/WNID/FILE) or as Parquet
    files (train-*.parquet, validation-*.parquet). Tests use the set's val; a share of train is held out for validation.
    """

    name = "imagenette"
    paper = bench.Paper(
        "Imagenette: a smaller subset of 10 easily classified classes from Imagenet",
        "Jeremy Howard",
        "GitHub",
        2019,
        "https://github.com/fastai/imagenette",
    )
    howto = (
        "what imagenette2-320.tgz of github.com/fastai/imagenette unpacks to (train/ and val/), or its Parquet files "
        "(train-*.parquet, validation-*.parquet)"
    )

    def splits(self) -> Splits:
        return splits_of(self.name, self.howto, 10, tested="validation")

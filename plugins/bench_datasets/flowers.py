"""Load flowers of a hundred and two kinds."""

from __future__ import annotations

from dataclasses import dataclass

import bench
from bench_datasets.named import Photographs, Splits, splits_of


@dataclass(frozen=True)
class Flowers(Photographs):
    """Load photographs of 102 kinds of flowers (Nilsback and Zisserman, ICVGIP 2008). There are 1,020 for training,
    1,020 for validation and 6,149 for testing.

    They come from the folder flowers of the data folder: Parquet files (train-*.parquet, validation-*.parquet,
    test-*.parquet), or folders SPLIT/CLASS/FILE.
    """

    name = "flowers"
    paper = bench.Paper(
        "Automated Flower Classification over a Large Number of Classes",
        "Maria-Elena Nilsback and Andrew Zisserman",
        "ICVGIP",
        2008,
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    )
    howto = (
        "Oxford Flowers 102 as Parquet files (train-*.parquet, validation-*.parquet, test-*.parquet) or as folders "
        "SPLIT/CLASS/FILE"
    )

    def splits(self) -> Splits:
        return splits_of(self.name, self.howto, 102)
